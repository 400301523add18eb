"""Passes through a transformer whose blocks are offloaded, as `BlockOffload` is and with a line of it removed."""

import copy
import inspect

import torch
from peft import LoraConfig, get_peft_model

from arr_trl.policies import FluxPolicy
from arr_trl.runtime import block_offload
from arr_trl.runtime.memory import compress_base
from arr_trl.sampling import denoise


# what makes it right, and what makes its copies overlap with computing
LINES = {
    "no_wait_for_the_copy": "torch.accelerator.current_stream(self.device).wait_stream(self._stream)",
    "no_wait_for_the_block_that_leaves": "self._stream.wait_stream(torch.accelerator.current_stream(self.device))",
    "not_pinned": ".pin_memory()",
}


def without(line: str) -> type[block_offload.BlockOffload]:
    """`BlockOffload` without a line, or the call at the end of one."""
    source = inspect.getsource(block_offload)
    assert source.count(line) == 1, f"{line} is not in block_offload.py once: change LINES with it"
    namespace = {"__name__": block_offload.__name__}
    exec(source.replace(line, "" if line.startswith(".") else "pass"), namespace)
    return namespace["BlockOffload"]


def run(pipeline, device, offload: type[block_offload.BlockOffload], precision: str | None = None) -> dict:
    """Sample, train on two forwards with one backward, and sample with the base; what the device has to say about it."""
    most = 0

    class Counted(offload):
        def _load(self, i):
            nonlocal most
            super()._load(i)
            most = max(most, len(self._on_device))

    policy = FluxPolicy(copy.deepcopy(pipeline), max_sequence_length=12)
    transformer = policy.pipeline.transformer.requires_grad_(False)
    transformer.enable_gradient_checkpointing()
    compress_base(transformer, precision, policy.dtype)
    model = get_peft_model(transformer, LoraConfig(target_modules=["to_q", "to_k", "to_v"]))
    Counted(transformer, torch.device("hpu"))
    policy.to("hpu")
    conditioning = policy.encode([{"prompt": "a red circle"}], 64, 64)
    noise = policy.initial_noise(1, 64, 64, torch.Generator().manual_seed(0))
    sigmas = policy.sigmas(2, 64, 64).to("hpu")
    device.take_violations()
    copies, beside = device.copies(), device.copies_beside_kernels()

    sampled = [denoise(policy, model, noise, sigmas, conditioning, 1.0)]
    losses = [policy.velocity(model, noise, sigma[None], conditioning, 1.0).square().mean() for sigma in sigmas[:2]]
    sum(losses).backward()
    with model.disable_adapter():
        sampled.append(denoise(policy, model, noise, sigmas, conditioning, 1.0))
    results = [*sampled, *(parameter.grad for parameter in model.parameters() if parameter.requires_grad)]
    return {
        "most_blocks": most,
        "finite": all(result.isfinite().all().item() for result in results),
        "copies": device.copies() - copies,
        "copies_beside_kernels": device.copies_beside_kernels() - beside,
        "races": device.take_violations(),
    }
