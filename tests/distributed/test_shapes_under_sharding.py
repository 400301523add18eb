"""
Ranks that hold sources of different numbers of shapes, with the network sharded over two processes on the CPU: a forward
or a backward that one of them has and the other lacks would wait for ever, here for half a minute.
"""

import datetime

import pytest
import torch
from diffusers import QwenImageEditPipeline
from forked_run import ForkedRun
from oracle import picture
from peft import LoraConfig, get_peft_model
from tiny_pipelines import build_flux_kontext, build_qwen_image
from torch import distributed
from torch.distributed.fsdp import fully_shard

from arr_trl.policies import policy_for
from arr_trl.policies.batching import in_groups


# of each rank: two shapes beside one, and beside one in another order
SIZES = [[(64, 64), (96, 48), (64, 64)], [(64, 64), (64, 64), (64, 64)]]
FAMILIES = {
    "kontext": (build_flux_kontext, {"max_sequence_length": 16, "condition_size": 64}),
    "qwen-edit": (lambda: build_qwen_image(pipeline_class=QwenImageEditPipeline), {"condition_size": 64}),
}


def build(family):
    build_pipeline, settings = FAMILIES[family]
    policy = policy_for(build_pipeline(), **settings)
    transformer = policy.pipeline.transformer.requires_grad_(False)
    # the first of them is in no block, so that the backward has all of the network to go through
    targets = ["x_embedder", "img_in", "attn.to_q", "proj_out"]
    lora = LoraConfig(r=2, lora_alpha=4, target_modules=targets, init_lora_weights=False)
    torch.manual_seed(0)
    return policy, get_peft_model(transformer, lora)


def inputs_of(policy, rank):
    rows = [{"prompt": f"edit {i}", "source_image": picture(*size, i)} for i, size in enumerate(SIZES[rank])]
    noise = policy.initial_noise(len(rows), 32, 32, torch.Generator().manual_seed(rank))
    return noise, torch.full((len(rows),), 0.5), policy.encode(rows, 32, 32)


def loss_of(policy, model, inputs):
    return policy.velocity(model, *inputs, 3.5).square().mean()


def gradients(model):
    return {
        name: (weight.grad.full_tensor() if hasattr(weight.grad, "full_tensor") else weight.grad)
        for name, weight in model.named_parameters()
        if weight.grad is not None
    }


def sharded_rank(family, folder):
    """What one rank draws, and the gradients that come of what both trained on."""
    seconds = datetime.timedelta(seconds=30)
    distributed.init_process_group("gloo", timeout=seconds)
    rank = distributed.get_rank()
    policy, model = build(family)
    transformer = policy.pipeline.transformer
    lists = ("transformer_blocks", "single_transformer_blocks")
    for block in [block for name in lists for block in getattr(transformer, name, ())]:
        fully_shard(block)
    fully_shard(model)
    calls = []
    transformer.register_forward_pre_hook(lambda *_: calls.append(1))
    inputs = inputs_of(policy, rank)
    with torch.no_grad():
        drawn = policy.velocity(model, *inputs, 3.5)
    sampling = len(calls)
    for _ in range(2):  # gradient accumulation
        loss_of(policy, model, inputs).backward()
    found = {"drawn": drawn, "gradients": gradients(model), "forwards": (sampling, len(calls) - sampling)}
    torch.save(found, folder / f"{rank}.pt")
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.mark.parametrize("family", ["kontext", pytest.param("qwen-edit", marks=pytest.mark.slow)])
def test_sharded_ranks_with_sources_of_different_numbers_of_shapes_do_not_wait_for_each_other(family, tmp_path):
    run = ForkedRun(sharded_rank, family, tmp_path, ranks=2, log=tmp_path / "log")
    assert run.wait(120) == [0, 0], (tmp_path / "log").read_text()[-2000:]
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    assert ranks[0]["forwards"] == ranks[1]["forwards"] == (2, 4)

    # and nothing of the forwards that are there for the others' sake comes into what is drawn and trained
    policy, model = build(family)
    for rank, found in enumerate(ranks):
        inputs = inputs_of(policy, rank)
        with torch.no_grad():
            torch.testing.assert_close(found["drawn"], policy.velocity(model, *inputs, 3.5), atol=1e-5, rtol=1e-5)
        for _ in range(2):
            (loss_of(policy, model, inputs) / len(ranks)).backward()
    expected = gradients(model)
    assert any(gradient.any() for gradient in expected.values())
    for found in ranks:
        assert found["gradients"].keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found["gradients"][name], gradient, atol=1e-6, rtol=1e-4)


def counted(num_calls):
    """A network of whole weights in a process of its own, which has no reason to compute more than it needs."""
    calls = []

    def function(latents, sigma, conditioning):
        calls.append(len(latents))
        return latents * 2

    sizes = torch.arange(num_calls)[:, None]
    latents = torch.randn(num_calls, 2, 3)
    found = in_groups(function, torch.nn.Linear(1, 1), sizes, latents, torch.ones(num_calls), {})
    assert torch.equal(found, latents * 2)
    return len(calls)


def test_process_that_shares_no_weights_computes_nothing_for_others():
    assert [counted(1), counted(3)] == [1, 3]


def replicated_rank(folder):
    distributed.init_process_group("gloo", timeout=datetime.timedelta(seconds=30))
    rank = distributed.get_rank()
    (folder / f"{rank}.txt").write_text(str(counted(rank + 1)))
    distributed.barrier()
    distributed.destroy_process_group()


def test_ranks_with_whole_weights_compute_nothing_for_each_other(tmp_path):
    run = ForkedRun(replicated_rank, tmp_path, ranks=2, log=tmp_path / "log")
    assert run.wait(120) == [0, 0], (tmp_path / "log").read_text()[-2000:]
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)] == ["1", "2"]
