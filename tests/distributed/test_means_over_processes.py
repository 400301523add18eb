"""What is logged is the mean of all that was measured, whichever process measured how much of it."""

import json

import pytest
from datasets import Dataset
from forked_run import ForkedRun, build, write_prompts
from torch import distributed

from arr_trl.judges import JudgeReward, JudgeStats, MeanOf, Verdict
from arr_trl.trainer.evaluation import gather_to_main


CONSISTENT = {"a": True, "b": False, "c": True, "d": None, "e": False}


class Known(JudgeReward):
    """A judge whose answers are known beforehand; it prefers the second of two pictures."""

    def __init__(self, broken_on=None):
        super().__init__(None, 1)
        self.broken_on, self.asked = broken_on, []

    def _compare(self, rows):
        if distributed.is_initialized() and distributed.get_rank() == self.broken_on:
            raise ConnectionError("the judge is gone")
        self.asked += [row.prompt for row in rows]
        verdicts = [Verdict(1, (2.0, 1.0), margin=0.5, consistent=CONSISTENT[row.prompt]) for row in rows]
        return verdicts, JudgeStats(calls=2 * len(rows), latencies_s=[1.0] * len(rows))

    def check(self):
        pass


def seen(prompts, completions, log_metric, **columns):
    for _ in completions:
        log_metric("seen", 1.0)
    return [0.0] * len(completions)


def criteria(prompts, completions, **columns):
    return [{"a": prompt == "a"} for prompt in prompts]


def evaluate(folder, prompts, broken_on=None):
    judge = Known(broken_on)
    rows = Dataset.from_dict({"prompt": prompts})
    trainer = build(folder, write_prompts(folder), reward=[judge, seen], eval_dataset=rows, eval_num_inference_steps=1)
    trainer.eval_funcs = [criteria]
    metrics = trainer.evaluate()
    found = {"metrics": metrics, "asked": judge.asked, "calls": trainer.evaluation.judge_calls}
    (folder / f"{trainer.args.process_index}.json").write_text(json.dumps(found))


# of two processes the first has two prompts of three, three of five, or the only one
@pytest.mark.parametrize("prompts", ["abc", *(pytest.param(p, marks=pytest.mark.slow) for p in ("abdec", "b"))])
def test_metrics_of_an_evaluation_are_means_over_comparisons_without_the_rows_that_fill_up(tmp_path, prompts):
    run = ForkedRun(evaluate, tmp_path, list(prompts), ranks=2, log=tmp_path / "log")
    assert run.wait(300) == [0, 0], (tmp_path / "log").read_text()[-2000:]
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert sorted(ranks[0]["asked"] + ranks[1]["asked"]) == sorted(prompts)
    assert ranks[0]["calls"] == 2 * len(prompts)
    told = [CONSISTENT[prompt] for prompt in prompts if CONSISTENT[prompt] is not None]
    for found in (rank["metrics"] for rank in ranks):
        assert found["eval_judge/order_consistency"] == pytest.approx(sum(told) / len(told))
        assert found["eval_win_rate"] == 1.0
        assert found["eval_success/a"] == pytest.approx(prompts.count("a") / len(prompts))
        assert found["eval_seen"] == 1.0


def test_judge_that_breaks_on_one_process_ends_the_evaluation_on_all(tmp_path):
    run = ForkedRun(evaluate, tmp_path, list("abc"), broken_on=1, ranks=2, log=tmp_path / "log")
    assert run.wait(300) == [1, 1]
    log = (tmp_path / "log").read_text()
    assert "the judge is gone" in log
    assert "The functions that another process evaluates with failed." in log


def test_mean_for_a_metric_is_a_number_and_knows_what_it_is_of():
    mean = MeanOf([True, False, True])
    assert mean == 2 / 3
    assert mean.values == [1.0, 0.0, 1.0]
    assert json.loads(json.dumps({"mean": mean})) == {"mean": 2 / 3}


def some(prompts, completions, trainer_state, **columns):
    """Answers for all pictures of the first rollout and one pair of the second."""
    rewards = [float(i % 2) for i in range(len(completions))]
    return rewards if trainer_state.global_step == 0 else [10.0, 4.0, *[None] * (len(rewards) - 2)]


def test_mean_reward_of_two_rollouts_weighs_pictures_alike(tmp_path):
    trainer = build(
        tmp_path, write_prompts(tmp_path), reward=some, logging_steps=2, max_steps=2, per_device_train_batch_size=8,
        steps_per_generation=1, save_strategy="no", sde_window_size=1, logging_first_step=False,
    )  # fmt: skip
    n = trainer.args.prompts_per_rollout * trainer.args.num_generations
    trainer.train()
    (logged,) = [entry for entry in trainer.state.log_history if "rewards/some/mean" in entry]
    assert logged["rewards/some/mean"] == pytest.approx((n / 2 + 14) / (n + 2))
    assert n > 2


def gathering_rank(folder):
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    parts = gather_to_main({"pictures of": rank})
    (folder / f"{rank}.json").write_text(json.dumps(parts))
    distributed.barrier()
    distributed.destroy_process_group()


def test_what_the_main_process_writes_is_sent_to_no_other(tmp_path):
    run = ForkedRun(gathering_rank, tmp_path, ranks=3, log=tmp_path / "log")
    assert run.wait(60) == [0, 0, 0], (tmp_path / "log").read_text()[-2000:]
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(3)]
    assert found == [[{"pictures of": rank} for rank in range(3)], None, None]
    assert gather_to_main("alone") == ["alone"]
