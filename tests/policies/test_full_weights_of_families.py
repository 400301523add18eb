"""All weights of every family, kept in float32 to be trained: what computes is the network that its pipeline would have."""

import pytest
import torch
from test_families import FAMILIES

from arr_trl.policies import policy_for
from arr_trl.runtime.full_weights import FullWeights


def velocity_of(policy, model):
    conditioning = policy.encode([{"prompt": "a green circle"}, {"prompt": "a red square"}], 32, 32)
    noise = policy.initial_noise(2, 32, 32, [torch.Generator().manual_seed(i) for i in range(2)])
    return policy.velocity(model, noise, torch.tensor([0.7, 0.7]), conditioning, policy.default_guidance_scale)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in ("klein distilled", "sd3 dynamic")])
def test_network_kept_in_float32_computes_to_the_bit_what_the_pipeline_does_in_bfloat16(family):
    build, policy_kwargs, _ = FAMILIES[family]
    policy = policy_for(build().to(torch.bfloat16), **policy_kwargs)
    transformer = policy.pipeline.transformer
    expected = velocity_of(policy, transformer)
    model = FullWeights(transformer)
    model.read_as_loaded()
    assert all(weight.dtype == torch.float32 for weight in model.parameters())
    assert transformer.dtype == torch.bfloat16  # which pipelines ask for
    found = velocity_of(policy, model)
    assert torch.equal(found, expected)
    found.square().mean().backward()
    assert {weight.grad.dtype for weight in model.parameters() if weight.grad is not None} == {torch.float32}
