"""All weights of a transformer, trained: what computes is the network that the pipeline would have."""

import copy

import pytest
import torch
from tiny_pipelines import build_flux

from arr_trl.policies import policy_for
from arr_trl.runtime.full_weights import BASE, FullWeights


PROMPTS = [{"prompt": "a green circle"}, {"prompt": "a red square"}]


def velocity_of(policy, model):
    generator = [torch.Generator().manual_seed(i) for i in range(2)]
    conditioning = policy.encode(PROMPTS, 32, 32)
    noise = policy.initial_noise(2, 32, 32, generator)
    return policy.velocity(model, noise, torch.tensor([0.7, 0.7]), conditioning, policy.default_guidance_scale)


def in_bfloat16():
    return policy_for(build_flux().to(torch.bfloat16), max_sequence_length=96)


def test_recomputed_blocks_have_the_gradient_of_those_that_were_kept():
    gradients = []
    for recompute in (False, True):
        policy = in_bfloat16()
        if recompute:
            policy.pipeline.transformer.enable_gradient_checkpointing()
        model = FullWeights(policy.pipeline.transformer.train(), [BASE])
        model.add_copies()
        model.read_as_loaded()
        found = velocity_of(policy, model)
        with torch.no_grad(), model.use(BASE):  # between forward and backward, as a reference is asked
            velocity_of(policy, model)
        found.square().mean().backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert torch.equal(gradients[1][name], gradient), name


def test_copy_is_the_base_however_far_the_weights_have_gone():
    policy = in_bfloat16()
    model = FullWeights(policy.pipeline.transformer, [BASE, "old"])
    model.add_copies()
    model.read_as_loaded()
    before = velocity_of(policy, model)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.01)
    moved = velocity_of(policy, model)
    assert not torch.equal(moved, before)
    with torch.no_grad(), model.use(BASE):
        assert torch.equal(velocity_of(policy, model), before)
    assert torch.equal(velocity_of(policy, model), moved)
    # an older policy follows, the base does not
    model.blend("old", 0.25)
    place = "x_embedder.weight"
    weight = dict(policy.pipeline.transformer.named_parameters())[place]
    torch.testing.assert_close(model.copies["old"][place], weight - 0.25 * 0.01)
    assert model.copies["old"][place].dtype == torch.float32
    assert torch.equal(model.copies[BASE][place], (weight - 0.01).bfloat16())


def test_copies_are_no_weights_of_the_module():
    transformer = build_flux().transformer
    names = [f"transformer.{name}" for name, _ in transformer.named_parameters()]
    model = FullWeights(copy.deepcopy(transformer), [BASE])
    model.add_copies()
    assert [name for name, _ in model.named_parameters()] == names
    assert list(model.state_dict()) == [f"transformer.{name}" for name in transformer.state_dict()]


def test_copy_that_is_not_kept_is_said_to_be_missing():
    model = FullWeights(build_flux().transformer)
    model.read_as_loaded()
    with pytest.raises(RuntimeError, match="Give the trainer an `eval_dataset`"), model.use(BASE):
        pass
