"""Disks that are really full or really read-only: a sentence, and what was written before stays whole."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from forked_run import build, same_adapters, train, write_prompts
from full_disk import fill
from transformers import TrainerCallback

from arr_trl.cli.main import main
from arr_trl.folders import check_writable
from arr_trl.runtime.checkpoints import damage
from arr_trl.trainer import CheckpointError


ROOT = Path(__file__).parents[2]
REWARD = """
from pathlib import Path

def brightness(prompts, completions, trainer_state, **columns):
    if trainer_state.global_step == 3:
        Path({ballast!r}).touch()
    if Path({ballast!r}).exists():
        with open({ballast!r}, "ab", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass
    return [float(image.getpixel((0, 0))[0]) for image in completions]
"""


class Fill(TrainerCallback):
    """Fills the disk at the end of step 3, but for `leave` bytes."""

    def __init__(self, folder, leave):
        self.folder, self.leave = folder, leave

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 3:
            fill(self.folder, self.leave)


# nothing fits, the adapter fits, the adapter and part of the optimizer's state
@pytest.mark.parametrize("leave", [0, 30_000, 150_000])
def test_full_disk_ends_training_with_a_sentence_and_the_run_goes_on_when_there_is_room(tmp_path, disk, leave):
    files = write_prompts(tmp_path)
    train(tmp_path / "whole", files, save_strategy="no")
    trainer = build(disk / "out", files)
    trainer.add_callback(Fill(disk, leave))
    with pytest.raises(CheckpointError, match=r"checkpoint-3 could not be written \(.*GB are free there\)") as error:
        trainer.train()
    assert f"resume from {disk / 'out' / 'checkpoint-2'}, which is whole" in str(error.value)
    assert damage(disk / "out" / "checkpoint-2") is None
    assert not (disk / "out" / "checkpoint-3").exists()
    os.unlink(disk / "ballast")
    train(disk / "out", files)
    assert same_adapters(tmp_path / "whole", disk / "out")


def test_disk_that_becomes_read_only_ends_training_with_a_sentence(tmp_path, disk):
    class MakeReadOnly(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 3:
                subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)

    trainer = build(disk / "out", write_prompts(tmp_path))
    trainer.add_callback(MakeReadOnly())
    with pytest.raises(CheckpointError, match=r"checkpoint-3 could not be written \(.*Read-only file system"):
        trainer.train()
    assert damage(disk / "out" / "checkpoint-2") is None


def test_read_only_folder_is_refused_before_anything_is_loaded(disk):
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(OSError, match=r"cannot be written to \(Read-only file system\); choose another `output_dir`"):
        check_writable(disk, "output_dir")
    with pytest.raises(OSError, match=r"cannot be written to \(Read-only file system\)"):
        check_writable(disk / "out", "output_dir")


@pytest.mark.parametrize("flags", [[], ["--save_strategy", "no"], ["--report_to", "tensorboard"]])
def test_command_on_a_full_disk_ends_with_sentences(tmp_path, disk, monkeypatch, capfd, flags):
    (tmp_path / "fills_the_disk.py").write_text(REWARD.format(ballast=str(disk / "ballast")))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "fills_the_disk", raising=False)
    status = main([
        "rpo", "--config", str(ROOT / "examples/configs/tiny_scenes_rpo.yaml"), "--output_dir", str(disk / "out"),
        "--rubric", str(ROOT / "examples/rubrics/tiny_scenes.json"), "--reward_funcs", "fills_the_disk.brightness",
        "--per_device_train_batch_size", "4", "--max_steps", "8", "--save_steps", "1", "--logging_steps", "1",
        "--lora_r", "2", "--eval_dataset_split", "test[:2]", "--eval_num_inference_steps", "2", "--disable_tqdm", "true",
        "--save_total_limit", "2", *flags,
    ])  # fmt: skip
    err = capfd.readouterr().err
    assert status == 1
    assert "Traceback" not in err
    assert "could not be written" in err
    if not flags:
        assert damage(disk / "out" / "checkpoint-3") is None
        assert "checkpoint-3" in err
