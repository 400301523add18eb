"""Which checkpoint is used, and what is said about those that are not; on disks that are full, too."""

import json
import logging
import os

import pytest
from datasets import Dataset
from forked_run import build, write_prompts

from arr_trl.data import StreamError
from arr_trl.trainer import CheckpointError
from arr_trl.trainer.checkpoints import SEAL, damage, find_checkpoint, newest_whole, place


def checkpoint(output_dir, step, num_processes=1):
    written = output_dir / ".writing" / f"checkpoint-{step}"
    written.mkdir(parents=True)
    (written / "optimizer.pt").write_bytes(b"state" * 100)
    (written / "trainer_state.json").write_text("{}")
    place(written, output_dir / f"checkpoint-{step}", num_processes)
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
        find_checkpoint(newer, tmp_path, 1)
    with caplog.at_level(logging.WARNING):
        assert find_checkpoint(True, tmp_path, 1) == older
    assert f"{newer} is damaged and not used" in caplog.text


def test_checkpoint_replaces_the_one_of_the_same_step(tmp_path):
    checkpoint(tmp_path, 3)
    folder = checkpoint(tmp_path, 3)
    assert damage(folder) is None
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-3"]


@pytest.mark.parametrize("asked", [True, "True", "true"])
def test_newest_checkpoint_or_the_beginning_is_taken_when_none_is_named(tmp_path, asked):
    assert find_checkpoint(asked, tmp_path, 1) is None
    checkpoint(tmp_path, 9)
    newest = checkpoint(tmp_path, 10)
    assert find_checkpoint(asked, tmp_path, 1) == newest
    assert find_checkpoint(None, tmp_path, 1) is None


def test_checkpoints_that_are_all_damaged_do_not_begin_the_run_again(tmp_path):
    remove(checkpoint(tmp_path, 1))
    with pytest.raises(CheckpointError, match=r"No checkpoint in .* is whole"):
        find_checkpoint(True, tmp_path, 1)


def test_checkpoint_of_another_number_of_processes_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="written by 2 processes, and this run has 1"):
        find_checkpoint(checkpoint(tmp_path, 1, num_processes=2), tmp_path, 1)


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
    saved = json.loads((tmp_path / "out" / "checkpoint-2" / "trainer_state.json").read_text())
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
