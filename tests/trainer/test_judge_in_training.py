"""Training on a real server that misbehaves: what is masked, what is counted, and when it stops."""

import json
import threading

import pytest
from datasets import Dataset
from openai_server import Answer, OpenAIServer, is_rehearsal
from peft import LoraConfig

from arr_trl import RPOConfig, RPOTrainer, RubricJudge
from arr_trl.chat import HTTPChatModel
from arr_trl.judges import JudgeFailureError
from arr_trl.tiny_scenes.judge import zero_shot_rubric
from arr_trl.tiny_scenes.scenes import captions


def verdict(ranks):
    criteria = [{"criterion": i, "ranks": [1, 2]} for i in range(1, 5)]
    return Answer(json.dumps({"criteria": criteria, "reason": "", "ranks": ranks}))


FAULTS = [
    Answer('{"winner": 1}'),
    Answer('{"criteria": [{"crit', finish_reason="length"),
    Answer(""),
    Answer("I'm sorry, I can't compare these images."),
    Answer("no " * 700_000),
    verdict([1, 2, 3]),
    Answer(status=429, headers={"Retry-After": "0"}, body=b"{}"),
    Answer(status=500, body=b"oops"),
    Answer(hang_s=60),
    Answer(reset=True),
    Answer(status=404, body=b'{"error": {"message": "no such model"}}'),
    Answer(status=401, body=b"{}"),
]


def is_check(body):
    """Whether this is the question that every run asks before it loads a model."""
    return body["messages"][0]["content"][0]["text"] == "Say OK."


class FaultyForSome:
    """Gives each of `FAULTS` to one question, however often it is asked; every other question has a winner or a tie."""

    def __init__(self):
        self.lock = threading.Lock()
        self.asked: dict[str, int] = {}

    def __call__(self, number, body):
        if is_check(body):
            return Answer("OK")
        question = json.dumps(body["messages"][0])
        with self.lock:
            self.asked[question] = self.asked.get(question, 0) + 1
            place = list(self.asked).index(question)
        # every other question is faulty: with one order each, every other pair
        if place % 2 == 0 and place // 2 < len(FAULTS):
            return FAULTS[place // 2]
        return verdict([1, 1] if place % 3 == 0 else [2, 1])

    def times_asked(self, faulty):
        places = enumerate(self.asked.values())
        return [times for place, times in places if (place % 2 == 0 and place // 2 < len(FAULTS)) == faulty]


def train(pipeline, tmp_path, server, max_steps, rehearse=False, **settings):
    model = HTTPChatModel("judge", server.url, backoff_s=0.01, timeout_s=2, max_retries=1, max_concurrency=1)
    judge = RubricJudge(rubric=zero_shot_rubric(), model=model, order="fixed", **settings)
    args = RPOConfig(
        output_dir=str(tmp_path / "out"),
        height=32,
        width=32,
        max_sequence_length=12,
        num_inference_steps=4,
        sde_window_size=2,
        per_device_train_batch_size=16,
        gradient_accumulation_steps=1,
        max_steps=max_steps,
        logging_steps=1,
        bf16=False,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        gradient_checkpointing=False,
        disable_tqdm=True,
        rehearse_judge=rehearse,  # what these servers answer depends on how often they were asked
    )
    trainer = RPOTrainer(
        model=pipeline,
        reward_funcs=judge,
        args=args,
        train_dataset=Dataset.from_dict({"prompt": captions("train")[:64]}),
        peft_config=LoraConfig(r=2, lora_alpha=4),
    )
    trainer.train()
    return trainer


def test_training_finishes_with_the_faulty_verdicts_masked_and_counted(flux_pipeline, tmp_path):
    respond = FaultyForSome()
    with OpenAIServer(respond=respond) as server:
        trainer = train(flux_pipeline, tmp_path, server, max_steps=8)
    steps = [entry for entry in trainer.state.log_history if "judge/failure_rate" in entry]
    assert len(steps) == 8
    pairs = len(respond.asked) / len(steps)
    assert sum(entry["judge/failure_rate"] * pairs for entry in steps) == pytest.approx(len(FAULTS))
    assert set(respond.times_asked(faulty=False)) == {1}
    assert set(respond.times_asked(faulty=True)) <= {1, 2}


def test_training_stops_with_the_promised_error_when_the_judge_is_gone(flux_pipeline, tmp_path):
    def respond(number, body):
        if is_check(body):
            return Answer("OK")
        return verdict([2, 1]) if number < 8 else Answer(status=401, body=b"{}")

    with (
        OpenAIServer(respond=respond) as server,
        pytest.raises(JudgeFailureError, match="refused the credentials"),
    ):
        train(flux_pipeline, tmp_path, server, max_steps=50, failure_window=8)
    # what was trained before the judge went is kept
    assert list((tmp_path / "out").glob("checkpoint-*"))


def test_a_judge_that_refuses_is_told_before_training(flux_pipeline, tmp_path):
    with (
        OpenAIServer(respond=lambda number, body: Answer(status=401, body=b"{}")) as server,
        pytest.raises(PermissionError, match=r"refused the credentials \(401\)"),
    ):
        train(flux_pipeline, tmp_path, server, max_steps=50)


def test_a_reply_that_cannot_be_read_is_shown_before_training(flux_pipeline, tmp_path):
    def respond(number, body):
        return Answer("OK" if is_check(body) else "I see a red square and a blue one.")

    with OpenAIServer(respond=respond) as server:
        with pytest.raises(ValueError, match=r"I see a red square and a blue one\.") as caught:
            train(flux_pipeline, tmp_path, server, max_steps=1, rehearse=True)
        assert "`rehearse_judge=False` begins without asking" in str(caught.value)
        (flat,) = [body for body in server.requests if not is_check(body) and len(body["messages"]) == 1]
        assert is_rehearsal(flat)
        train(flux_pipeline, tmp_path, server, max_steps=1, rehearse=True, max_failure_rate=None)  # which may not stop


def test_the_question_before_a_run_is_in_no_count_and_no_store(flux_pipeline, tmp_path):
    answers = OpenAIServer(respond=lambda number, body: Answer("OK") if is_check(body) else verdict([2, 1]))
    with answers as server:
        trainer = train(flux_pipeline, tmp_path, server, max_steps=1, rehearse=True, store=tmp_path / "judge.sqlite")
    asked = [body for body in server.requests if not is_check(body)]
    assert [is_rehearsal(body) for body in asked] == [True] + [False] * (len(asked) - 1)
    assert trainer.metric_totals["judge/calls"] == len(asked) - 1 == len(trainer.reward_funcs[0].store)
