"""A push beside training leaves alone what training reads, and nothing of it can end the run."""

import logging
from pathlib import Path

import pytest
from forked_run import build, write_prompts

from arr_trl.runtime import BackgroundPush


def pushing(trainer, push=lambda message: None):
    """The trainer as if it had a Hub, to which `push` sends the release."""
    trainer.args.push_to_hub = True
    trainer._push_release = push
    return trainer


def test_card_needs_no_prompts_once_training_has_begun(tmp_path):
    files = write_prompts(tmp_path)
    trainer = build(tmp_path / "out", files)
    for file in files:
        Path(file).unlink()  # as a network that is gone
    trainer.create_model_card()
    assert "a red circle 0" in (tmp_path / "out" / "README.md").read_text()


def test_run_that_pushes_saves_the_position_of_its_own_stream(tmp_path, caplog):
    files = write_prompts(tmp_path)
    # blocks of one rollout, so that a position of another would be noticed
    pushing(build(tmp_path / "whole", files, max_steps=6, shuffle_buffer_size=2)).train()
    resumed = build(tmp_path / "resumed", files, max_steps=6, shuffle_buffer_size=2)
    with caplog.at_level(logging.WARNING):
        resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))
    assert "saved position" not in caplog.text
    last = [tmp_path / name / "checkpoint-6" / "adapter_model.safetensors" for name in ("whole", "resumed")]
    assert last[0].read_bytes() == last[1].read_bytes()


@pytest.mark.parametrize("step", ["create_model_card", "_release_checkpoint", "_push_release"])
def test_push_that_fails_in_any_of_its_steps_is_told_and_training_goes_on(tmp_path, caplog, step):
    def fails(*args, **kwargs):
        raise KeyError("no such thing")  # of a kind that nobody foresaw

    trainer = pushing(build(tmp_path / "out", write_prompts(tmp_path), max_steps=2))
    setattr(trainer, step, fails)
    trainer.train()
    trainer.save_model()
    assert trainer.state.global_step == 2
    assert (tmp_path / "out" / "checkpoint-2" / "checkpoint.json").is_file()
    if step != "_release_checkpoint":  # of which `save_model` has no need
        assert "no such thing" in trainer.push_failure
    assert "The push failed (KeyError: 'no such thing'); the next save tries again." in caplog.text


def test_push_that_succeeds_after_one_that_failed_is_the_last_one():
    pushes = BackgroundPush()
    pushes.start(lambda: {}["missing"])
    pushes.wait()
    assert pushes.failure is not None
    pushes.attempt(lambda: None)
    assert pushes.failure is None
