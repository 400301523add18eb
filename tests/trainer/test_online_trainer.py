"""Candidates of a rollout: the same in chunks of any size and on any number of processes."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from test_arithmetic import PROMPTS, build

from arr_trl.trainer.buffer import join_buffers


ROWS = [{"prompt": prompt} for prompt in PROMPTS]
SETTINGS = dict(per_device_train_batch_size=16, num_inference_steps=4)  # of four prompts


def transitions(sampled):
    """Where each transition led, and its advantage, by prompt, candidate and noise level."""
    advantages = torch.arange(len(sampled.rows) * 2, dtype=torch.float32).view(-1, 2)
    found = {}
    buffer = join_buffers([dict(part) for part in sampled.parts], advantages)
    candidates = torch.cat([part["candidate"] for part in sampled.parts])
    for row, slot in (candidates >= 0).nonzero().tolist():
        place = buffer["prompt"][row].item(), candidates[row, slot].item(), buffer["sigma"][row].item()
        assert place not in found
        found[place] = buffer["next_latents"][row, slot], buffer["advantages"][row, slot].item()
    return found


def assert_same_pictures(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).max() <= 1


@pytest.mark.parametrize("chunk", [1, 3])
def test_rollout_in_chunks_is_the_rollout_at_once(flux_pipeline, tmp_path, chunk):
    trainer = build(flux_pipeline, tmp_path, **SETTINGS)
    whole = trainer._sample(ROWS)
    trainer.args.rollout_batch_size = chunk
    parts = trainer._sample(ROWS)
    assert len(parts.parts) == -(-4 // chunk)
    assert_same_pictures(parts.images, whole.images)
    found, expected = transitions(parts), transitions(whole)
    assert found.keys() == expected.keys()
    for place, (latents, advantage) in expected.items():
        torch.testing.assert_close(found[place][0], latents, atol=1e-4, rtol=1e-4)
        assert found[place][1] == advantage


def test_process_draws_what_one_alone_draws_at_its_places(flux_pipeline, tmp_path, monkeypatch):
    trainer = build(flux_pipeline, tmp_path, **SETTINGS)
    alone = trainer._sample(ROWS)
    monkeypatch.setattr(Accelerator, "process_index", 1)
    assert_same_pictures(trainer._sample(ROWS[2:]).images, alone.images[4:])
