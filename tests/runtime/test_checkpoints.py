"""Which checkpoint is used, and what is said about those that are not; on disks that are full, too."""

import json
import logging
import os
import re
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from forked_run import ADAPTER, ForkedRun, brightness, build, same_adapters, train, write_prompts
from peft import LoraConfig
from safetensors.torch import load_file

from arr_trl.data import StreamError
from arr_trl.runtime.checkpoints import SEAL, damage, find_checkpoint, newest_whole, seal
from arr_trl.trainer import CheckpointError


ALONE = {"num_processes": 1}


def checkpoint(output_dir, step, settings=ALONE):
    written = output_dir / ".writing" / f"checkpoint-{step}"
    written.mkdir(parents=True)
    (written / "optimizer.pt").write_bytes(b"state" * 100)
    (written / "trainer_state.json").write_text("{}")
    seal(written, output_dir / f"checkpoint-{step}", settings)
    return output_dir / f"checkpoint-{step}"


def remove(folder):
    (folder / "optimizer.pt").unlink()


def truncate(folder):
    os.truncate(folder / "optimizer.pt", 20)


def flip(folder):
    content = bytearray((folder / "optimizer.pt").read_bytes())
    content[7] ^= 1
    (folder / "optimizer.pt").write_bytes(content)


def unseal(folder):
    (folder / SEAL).unlink()


def garble(folder):
    (folder / SEAL).write_text("{")


@pytest.mark.parametrize(("harm", "problem"), [
    (remove, "optimizer.pt is missing"),
    (truncate, "optimizer.pt is not what was written"),
    (flip, "optimizer.pt is not what was written"),
    (unseal, f"it has no {SEAL}"),
    (garble, f"its {SEAL} cannot be read"),
])  # fmt: skip
def test_damaged_checkpoint_is_refused_by_name_and_the_next_older_offered(tmp_path, caplog, harm, problem):
    older, newer = checkpoint(tmp_path, 9), checkpoint(tmp_path, 10)
    assert newest_whole(tmp_path) == newer
    harm(newer)
    assert problem in damage(newer)
    with pytest.raises(CheckpointError, match=f"{newer} is damaged: .*resume from {older}, the newest whole one"):
        find_checkpoint(newer, tmp_path)
    with caplog.at_level(logging.WARNING):
        assert find_checkpoint(True, tmp_path) == older
    assert f"{newer} is damaged and not used" in caplog.text


def test_checkpoint_replaces_the_one_of_the_same_step(tmp_path):
    checkpoint(tmp_path, 3)
    folder = checkpoint(tmp_path, 3)
    assert damage(folder) is None
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-3"]


@pytest.mark.parametrize("asked", [True, "True", "true"])
def test_newest_checkpoint_or_the_beginning_is_taken_when_none_is_named(tmp_path, asked):
    assert find_checkpoint(asked, tmp_path) is None
    checkpoint(tmp_path, 9)
    newest = checkpoint(tmp_path, 10)
    assert find_checkpoint(asked, tmp_path) == newest
    assert find_checkpoint(None, tmp_path) is None


def test_checkpoints_that_are_all_damaged_do_not_begin_the_run_again(tmp_path):
    remove(checkpoint(tmp_path, 1))
    with pytest.raises(CheckpointError, match=r"No checkpoint in .* is whole"):
        find_checkpoint(True, tmp_path)


@pytest.mark.slow
def test_more_or_fewer_processes_go_on_with_the_same_global_batch(tmp_path):
    files = write_prompts(tmp_path)
    settings = {"learning_rate": 5e-5, "gradient_accumulation_steps": 2, "max_steps": 4}
    alone = settings | {"per_device_train_batch_size": 4}
    train(tmp_path / "whole", files, **alone)
    two = ForkedRun(train, tmp_path / "two", files, ranks=2, log=tmp_path / "log", **settings)
    assert two.wait() == [0, 0]
    checkpoint = str(tmp_path / "two" / "checkpoint-2")
    with pytest.raises(CheckpointError, match=r"accumulation_steps × num_processes=8, .* this run has .*=4"):
        build(tmp_path / "out", files, model="no/such-model", resume_from_checkpoint=checkpoint, **settings)
    train(tmp_path / "out", files, checkpoint, **alone)
    expected, found = (load_file(tmp_path / run / ADAPTER) for run in ("whole", "out"))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    # logged after step 3, of which two were the others'
    states = (tmp_path / run / "checkpoint-4" / "trainer_state.json" for run in ("whole", "out"))
    expected, found = (json.loads(state.read_text())["log_history"][0] for state in states)
    assert found["loss"] == pytest.approx(expected["loss"], abs=1e-6)
    assert found["rollout/pixel_distance"] == pytest.approx(expected["rollout/pixel_distance"], rel=0.05)


def test_checkpoint_inside_a_rollout_is_for_as_many_processes(tmp_path):
    files = write_prompts(tmp_path)
    two = ForkedRun(train, tmp_path / "out", files, max_steps=1, ranks=2, log=tmp_path / "log")
    assert two.wait() == [0, 0]
    alone = {"per_device_train_batch_size": 4, "resume_from_checkpoint": "True"}
    with pytest.raises(CheckpointError, match=r"written with num_processes=2, .* this run has num_processes=1"):
        build(tmp_path / "out", files, model="no/such-model", **alone)


@pytest.mark.parametrize("setting", [
    {"per_device_train_batch_size": 4}, {"gradient_accumulation_steps": 2}, {"steps_per_generation": 4},
    {"num_iterations": 2}, {"num_generations": 4}, {"optim": "sgd"}, {"lora_r": 8},
    {"lora_target_modules": ["attn.to_q"]},
])  # fmt: skip
def test_checkpoint_of_other_settings_is_refused_before_the_model_is_loaded(tmp_path, setting):
    files = write_prompts(tmp_path)
    build(tmp_path / "out", files, max_steps=1).train()
    ((name, value),) = setting.items()
    lora = {"lora_r": "r", "lora_target_modules": "target_modules"}
    overrides = {"lora": LoraConfig(**{"r": 2, "lora_alpha": 4, lora[name]: value})} if name in lora else setting
    with pytest.raises(CheckpointError, match=rf"checkpoint-1 was written with .*{name}.*=.* resume with the same"):
        build(tmp_path / "out", files, model="no/such-model", resume_from_checkpoint="True", **overrides)
    with pytest.raises(CheckpointError, match=f"{name}.*="):
        build(tmp_path / "out", files, **overrides).train(resume_from_checkpoint=True)


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory):
    """A run with a checkpoint inside a rollout, of which a step is still to be trained on, and one behind it."""
    folder = tmp_path_factory.mktemp("two_steps")
    build(folder / "out", write_prompts(folder), max_steps=2).train()
    return folder


@pytest.mark.parametrize("setting", [
    {"noise_level": 0.5}, {"sde_type": "dance"}, {"guidance_scale": 2.0}, {"height": 64}, {"reward_weights": [2.0]},
    {"seed": 7}, {"negative_reward": 1.0}, {"share_initial_noise": False}, {"kl_fraction": 0.5},
])  # fmt: skip
def test_rollout_in_a_checkpoint_was_drawn_with_its_settings(two_steps, tmp_path, setting):
    ((name, value),) = setting.items()
    files, inside, between = write_prompts(tmp_path), *(str(two_steps / "out" / f"checkpoint-{k}") for k in (1, 2))
    said = rf"written with .*{name}=.* this run has .*{name}={re.escape(str(value))}"
    with pytest.raises(CheckpointError, match=said):
        build(tmp_path / "out", files, model="no/such-model", resume_from_checkpoint=inside, **setting)
    # behind it only the base is another
    with pytest.raises(
        CheckpointError, match=r"was written with base_model=FluxPipeline, and this run has base_model=no"
    ):
        build(tmp_path / "out", files, model="no/such-model", resume_from_checkpoint=between, **setting)


def test_other_noise_is_drawn_from_the_next_rollout_on(two_steps, tmp_path):
    trainer = build(tmp_path / "out", write_prompts(tmp_path), max_steps=3, noise_level=0.5, seed=7)
    trainer.train(resume_from_checkpoint=str(two_steps / "out" / "checkpoint-2"))
    assert trainer.state.global_step == 3


@pytest.mark.parametrize("setting", [
    {"use_rslora": True}, {"alpha_pattern": {"attn.to_q": 8}}, {"rank_pattern": {"attn.to_q": 1}},
])  # fmt: skip
def test_optimizer_in_a_checkpoint_is_of_the_whole_adapter(two_steps, tmp_path, setting):
    lora = LoraConfig(**{"r": 2, "lora_alpha": 4, **setting})
    checkpoint = str(two_steps / "out" / "checkpoint-2")
    with pytest.raises(CheckpointError, match=rf"checkpoint-2 was written with .*peft_config\.{next(iter(setting))}="):
        build(
            tmp_path / "out",
            write_prompts(tmp_path),
            model="no/such-model",
            lora=lora,
            resume_from_checkpoint=checkpoint,
        )


def test_checkpoint_that_recorded_less_still_resumes(tmp_path):
    # as it was written before a setting counted: a name that a checkpoint did not record is passed over
    files = write_prompts(tmp_path)
    build(tmp_path / "out", files, max_steps=1).train()
    seal_file = tmp_path / "out" / "checkpoint-1" / SEAL
    content = json.loads(seal_file.read_text())
    kept = ("num_processes", "num_iterations", "num_generations", "window_size", "lora_r", "lora_alpha", "optim")
    content["settings"] = {name: content["settings"][name] for name in kept}
    seal_file.write_text(json.dumps(content))
    trainer = build(tmp_path / "out", files, max_steps=2)
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 2


def test_what_may_change_between_a_checkpoint_and_its_continuation(tmp_path):
    files = write_prompts(tmp_path)
    build(tmp_path / "out", files, max_steps=2).train()
    trainer = build(
        tmp_path / "out", files, max_steps=3, learning_rate=1e-3, beta=0.5, save_steps=10, logging_steps=1,
        eval_num_inference_steps=3, shuffle_buffer_size=4,
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 3


def test_resuming_says_from_which_step_or_that_there_is_none_once(tmp_path, caplog, capsys):
    files = write_prompts(tmp_path)
    build(tmp_path / "out", files, max_steps=1, resume_from_checkpoint=True).train(resume_from_checkpoint=True)
    assert caplog.text.count("There is no checkpoint in") == 1
    build(tmp_path / "out", files, max_steps=2, resume_from_checkpoint=True).train(resume_from_checkpoint=True)
    assert f"Training goes on from {tmp_path / 'out' / 'checkpoint-1'}, after step 1." in capsys.readouterr().out


@pytest.mark.parametrize("asked", ["no/such/folder", "checkpoint-7", "user/nothing"])
def test_checkpoint_that_is_not_there_is_told_before_the_model_is_loaded(tmp_path, asked):
    with pytest.raises(CheckpointError, match=f"resume_from_checkpoint='{asked}' is no folder"):
        build(tmp_path / "out", write_prompts(tmp_path), model="no/such-model", resume_from_checkpoint=asked)


def test_checkpoint_that_was_found_before_loading_is_the_one_resumed_from(tmp_path):
    files, newest = write_prompts(tmp_path), tmp_path / "out" / "checkpoint-2"
    build(tmp_path / "out", files, max_steps=2).train()
    newest.rename(tmp_path / "elsewhere")
    trainer = build(tmp_path / "out", files, max_steps=1, resume_from_checkpoint=True)
    (tmp_path / "elsewhere").rename(newest)
    trainer.train(resume_from_checkpoint=True)
    assert trainer.last_checkpoint == tmp_path / "out" / "checkpoint-1"
    trainer.train(resume_from_checkpoint=True)
    assert trainer.last_checkpoint == newest


def test_trainers_checkpoint_is_whole_and_holds_no_token(tmp_path):
    trainer = build(tmp_path / "out", write_prompts(tmp_path), max_steps=2, hub_token="hf_secretOfTheTest")
    trainer.train()
    trainer.save_model()
    trainer.save_state()
    assert damage(tmp_path / "out" / "checkpoint-2") is None
    for path in (tmp_path / "out").rglob("*"):
        assert path.name != "training_args.bin"
        assert path.is_dir() or b"hf_secretOfTheTest" not in path.read_bytes()


def test_best_checkpoint_is_named_by_its_place(tmp_path):
    settings = dict(eval_strategy="steps", eval_steps=1, metric_for_best_model="win_rate", save_total_limit=1)
    held_out = Dataset.from_dict({"prompt": ["a red circle", "a blue circle"]})
    trainer = build(tmp_path / "out", write_prompts(tmp_path), eval_dataset=held_out, max_steps=2, **settings)
    trainer.train()
    best = trainer.state.best_model_checkpoint
    assert best == str(tmp_path / "out" / f"checkpoint-{trainer.state.best_global_step}")
    saved = json.loads(Path(best, "trainer_state.json").read_text())  # with a limit of 1, Trainer keeps it alone
    assert saved["best_model_checkpoint"] == best


def test_disk_that_fills_up_ends_training_with_a_sentence_and_a_whole_checkpoint(tmp_path):
    trainer = build(tmp_path / "out", write_prompts(tmp_path))
    write = trainer._save_optimizer_and_scheduler

    def full_from_the_third_step(output_dir):
        if trainer.state.global_step == 3:
            raise OSError(28, "No space left on device")
        write(output_dir)

    trainer._save_optimizer_and_scheduler = full_from_the_third_step
    with pytest.raises(
        CheckpointError, match=r"checkpoint-3 could not be written \(.*No space left.*GB are free"
    ) as error:
        trainer.train()
    assert f"resume from {tmp_path / 'out' / 'checkpoint-2'}, which is whole" in str(error.value)
    assert not (tmp_path / "out" / ".writing").exists()


def test_shard_that_vanishes_ends_training_with_a_sentence_and_a_checkpoint(tmp_path):
    files = write_prompts(tmp_path)
    trainer = build(tmp_path / "out", files, save_strategy="no", shuffle_buffer_size=4, shuffle_dataset=False)
    os.unlink(files[1])
    with pytest.raises(StreamError, match=r"cannot be read further .* Training stopped after step") as error:
        trainer.train()
    step = trainer.state.global_step
    assert f"--resume_from_checkpoint {tmp_path / 'out' / f'checkpoint-{step}'}" in str(error.value)
    assert damage(tmp_path / "out" / f"checkpoint-{step}") is None


class Flaky:
    """Brightness until call number `last`, and then an error of the user's own."""

    def __init__(self, last):
        self.last = last
        self.__name__ = "brightness"

    def __call__(self, **columns):
        self.last -= 1
        if self.last < 0:
            raise KeyError("a mistake in a reward function")
        return brightness(**columns)


# two rollouts for each optimizer step, and one for two steps
@pytest.mark.parametrize("rollouts", [
    {"gradient_accumulation_steps": 2, "steps_per_generation": 1, "per_device_train_batch_size": 4}, {},
])  # fmt: skip
def test_reward_function_that_raises_costs_no_step(tmp_path, caplog, rollouts):
    files = write_prompts(tmp_path)
    train(tmp_path / "whole", files, save_strategy="no", **rollouts)
    trainer = build(tmp_path / "out", files, Flaky(3), save_strategy="no", **rollouts)
    with pytest.raises(KeyError, match="a mistake"):
        trainer.train()
    step = trainer.state.global_step
    assert step > 0
    assert f"stopped after step {step} (KeyError" in caplog.text
    assert f"--resume_from_checkpoint {tmp_path / 'out' / f'checkpoint-{step}'}" in caplog.text
    train(tmp_path / "out", files, save_strategy="no", **rollouts)
    assert same_adapters(tmp_path / "whole", tmp_path / "out")


@pytest.mark.slow
def test_reward_function_that_raises_on_one_of_two_processes_costs_no_step(tmp_path):
    files = write_prompts(tmp_path)

    def run(reward, folder, **settings):
        train(folder, files, reward=reward(), save_strategy="no", **settings)

    whole = ForkedRun(run, lambda: brightness, tmp_path / "whole", ranks=2, log=tmp_path / "log")
    assert whole.wait() == [0, 0]

    def fails_on_the_second():
        return Flaky(2 if os.environ["RANK"] == "1" else 100)

    failed = ForkedRun(run, fails_on_the_second, tmp_path / "out", ranks=2, log=tmp_path / "log")
    assert failed.wait() == [1, 1]
    assert damage(tmp_path / "out" / "checkpoint-4") is None
    again = ForkedRun(run, lambda: brightness, tmp_path / "out", ranks=2, log=tmp_path / "log")
    assert again.wait() == [0, 0]
    assert same_adapters(tmp_path / "whole", tmp_path / "out")


def test_error_in_the_optimizer_leaves_no_checkpoint_of_half_a_step(tmp_path):
    trainer = build(tmp_path / "out", write_prompts(tmp_path), save_strategy="no")
    trainer.create_optimizer()

    def fail(*_):
        if trainer.state.global_step == 2:
            raise RuntimeError("out of memory")

    trainer.optimizer.register_step_post_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        trainer.train()
    assert not list((tmp_path / "out").glob("checkpoint-*"))
