"""Blocks that are offloaded come again for the backward: each has to be one that the transformer recomputes there."""

import pytest
import torch
from test_training import FAMILIES, rows_of

from arr_trl.policies import policy_for
from arr_trl.runtime.block_offload import BlockOffload


@pytest.mark.parametrize("name", FAMILIES)
def test_every_block_that_is_offloaded_is_recomputed_in_the_backward(name):
    build, settings, guidance_scale = FAMILIES[name]
    policy = policy_for(build(), **settings)
    transformer = policy.pipeline.transformer.requires_grad_(False)
    transformer.enable_gradient_checkpointing()
    recomputed, checkpoint = set(), transformer._gradient_checkpointing_func

    def noting(block, *args):
        recomputed.add(block)
        return checkpoint(block, *args)

    transformer._gradient_checkpointing_func = noting
    conditioning = policy.encode(rows_of(name), 32, 64)
    latents = policy.initial_noise(2, 32, 64, torch.Generator().manual_seed(0)).requires_grad_()
    policy.velocity(transformer, latents, torch.full((2,), 0.5), conditioning, guidance_scale)
    offloaded = BlockOffload(transformer, torch.device("cpu"), policy.not_checkpointed).blocks
    assert set(offloaded) <= recomputed
    assert len(offloaded) >= 2
