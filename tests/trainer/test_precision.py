"""A base in half precision: it computes as its pipeline does, and its float32 adapter with it, at no loss."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from test_rpo_trainer import adapter, trainer_for
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from arr_trl.runtime.memory import compute_in_base_precision


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_autocast_is_for_a_base_in_float32(flux_pipeline, tmp_path, dtype):
    trainer = trainer_for(flux_pipeline.to(dtype), tmp_path, bf16=True)
    before, autocast = adapter(trainer), set()
    block = trainer.policy.pipeline.transformer.transformer_blocks[0]
    block.register_forward_pre_hook(lambda module, args: autocast.add(torch.is_autocast_enabled("cpu")))
    trainer.train()
    assert autocast == {dtype == torch.float32}
    assert all(value.dtype == torch.float32 for value in adapter(trainer).values())
    assert not any(torch.equal(before[name], value) for name, value in adapter(trainer).items())


def test_float16_without_scaled_gradients_is_refused(flux_pipeline, tmp_path):
    with pytest.raises(ValueError, match="Load it in bfloat16, or where the GPU has none, set fp16=True"):
        trainer_for(flux_pipeline.to(torch.float16), tmp_path, bf16=True)


def layer_of(dtype, **settings):
    """A linear layer with an adapter that does something, and its input `[2, 7, 24]`."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(24, 40)).to(dtype).requires_grad_(False)
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=["0"], **settings))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model, torch.randn(2, 7, 24).to(dtype)


def gradients(model, x):
    model(x).float().square().sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}, {"lora_bias": True}, {"use_dora": True}])
def test_it_is_as_exact_as_autocast(settings):
    model, x = layer_of(torch.bfloat16, **settings)
    exact = copy.deepcopy(model).float()
    ours = copy.deepcopy(model)
    compute_in_base_precision(ours, torch.bfloat16)
    want, got = gradients(exact, x.float()), gradients(ours, x)
    with torch.autocast("cpu", torch.bfloat16):
        before = gradients(model, x)
    assert got.keys() == want.keys()
    for name in want:
        assert got[name].dtype == torch.float32
        error, allowed = ((grads[name] - want[name]).norm() / want[name].norm() for grads in (got, before))
        assert error < 1.5 * allowed + 1e-3, name


class Widened(TorchDispatchMode):
    """Counts results in float32 that are as large as the input of the layer."""

    def __init__(self, numel):
        super().__init__()
        self.numel, self.count = numel, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves(output) if isinstance(x, torch.Tensor)]
        self.count += sum(x.dtype == torch.float32 and x.numel() >= self.numel for x in tensors)
        return output


def test_an_adapter_widens_no_activation():
    model, x = layer_of(torch.bfloat16)
    compute_in_base_precision(model, torch.bfloat16)
    x = x.expand(50, 2, 7, 24).flatten(0, 1).contiguous().requires_grad_()
    with Widened(x.numel()) as widened:
        model(x).sum().backward()
    assert widened.count == 0


def test_blocks_that_are_alike_are_compiled_once():
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph

    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.down = torch.nn.Linear(8, 16), torch.nn.Linear(16, 8)

        def forward(self, x):
            return self.down(self.up(x).relu())

    torch._dynamo.reset()
    model = torch.nn.Sequential(*(Block() for _ in range(12))).bfloat16()
    model = get_peft_model(model, LoraConfig(r=2, target_modules=["up", "down"]))
    compute_in_base_precision(model, torch.bfloat16)
    for block in model.base_model.model:
        block.compile(backend=backend)
    with torch.no_grad():  # with it the first block has an input without a gradient, and the others one with
        model(torch.randn(3, 8).bfloat16())
    assert len(compiled) == 1


def test_switched_off_merged_and_taken_apart_it_is_peft_s():
    model, x = layer_of(torch.float32)
    model.add_adapter("other", LoraConfig(r=2, target_modules=["0"]))
    with torch.no_grad():
        want = model(x)
        compute_in_base_precision(model, torch.float32)
        assert torch.allclose(model(x), want, atol=1e-6)
        with model.disable_adapter():
            assert torch.equal(model(x), model.base_model.model[0].base_layer(x))
        model.set_adapter("other")
        assert torch.equal(model(x), model.base_model.model[0].base_layer(x))  # its B is zero
        model.set_adapter("default")
        model.merge_adapter()
        assert torch.allclose(model(x), want, atol=1e-6)
        assert torch.allclose(model.merge_and_unload()(x), want, atol=1e-6)
