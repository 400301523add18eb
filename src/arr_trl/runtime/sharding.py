"""
FSDP2, which shards the base: what has to be set for the adapter of a frozen base, and how the adapter and its optimizer
are saved whole, as one process saves them.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType
from peft import PeftModel, get_peft_model_state_dict
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map_only
from transformers import TrainingArguments
from transformers.integrations import is_deepspeed_zero3_enabled


def uses_fsdp(args: TrainingArguments) -> bool:
    """
    Whether the run is going to be sharded, before there is an accelerator that knows.

    Args:
        args ([`~transformers.TrainingArguments`]): the configuration.
    """
    _ = args.device  # sets up what is asked next
    return (bool(args.fsdp) or _is_asked_for()) and PartialState().distributed_type not in (
        DistributedType.NO,
        DistributedType.MULTI_CPU,
    )


def is_left_out(accelerator: Accelerator) -> bool:
    """
    Whether the launch asks for FSDP and accelerate does without, as it does on CPUs.

    Args:
        accelerator (`Accelerator`): the accelerator of the run.
    """
    return _is_asked_for() and accelerator.distributed_type != DistributedType.FSDP


def _is_asked_for() -> bool:
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"  # as `accelerate launch` says it


def set_precision(accelerator: Accelerator, dtype: torch.dtype) -> None:
    """
    Compute in the base's precision, as the pipeline does, and add up gradients in float32. accelerate's own setting
    rounds the sums of gradient accumulation to bfloat16, and every floating input of a block, rotary embeddings
    included: the gradient of 64 micro-steps was 2% from that of DDP, and with this they are equal.

    Args:
        accelerator (`Accelerator`): the accelerator, before it prepares the model.
        dtype (`torch.dtype`): precision of the base.
    """
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    accelerator.state.fsdp_plugin.mixed_precision_policy = policy


def name_blocks(accelerator: Accelerator, model: torch.nn.Module) -> None:
    """
    Say which blocks are sharded one by one, unless the launch does. Models of transformers name the blocks of every part
    that they can be put together of, and accelerate refuses a name that is not in this one.

    Args:
        accelerator (`Accelerator`): the accelerator, before it prepares the model.
        model (`torch.nn.Module`): the model.
    """
    plugin = accelerator.state.fsdp_plugin
    if plugin.transformer_cls_names_to_wrap is None:
        there = {type(module).__name__ for module in model.modules()}
        plugin.transformer_cls_names_to_wrap = [name for name in model._no_split_modules or () if name in there]


def shard_between_forwards(model: FSDPModule) -> None:
    """
    Let go of what is in no block after a forward, too. PEFT freezes an adapter while it is switched off, and FSDP2
    carries that from the shards to the whole weights but not back: adapters of layers outside the blocks would stay
    frozen after the first evaluation.
    """
    model.set_reshard_after_forward(True, recurse=False)


def trainable_state_dict(model: torch.nn.Module) -> dict[str, Any]:
    """
    The trainable weights, whole, on the CPU of the first process; nothing on the others. Called by all of them. Trainer
    would gather the frozen base as well.
    """
    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
    return get_model_state_dict(model, options=options)


@torch.no_grad()
def load_adapter(model: PeftModel, weights: dict[str, torch.Tensor]) -> None:
    """Give a sharded adapter whole weights, by the names that PEFT saves them under."""
    shards = get_peft_model_state_dict(model, save_embedding_layers=False)
    for name, weight in weights.items():
        shards[name].copy_(_shard(weight, shards[name]))


def local_part(weight: torch.Tensor) -> torch.Tensor:
    """What this process holds of a weight."""
    return weight.to_local() if isinstance(weight, DTensor) else weight


@torch.no_grad()
def whole_weight(weight: torch.nn.Parameter) -> torch.Tensor:
    """A weight on the CPU, gathered where FSDP2 or ZeRO-3 has sharded it. Called by all processes."""
    if isinstance(weight, DTensor):
        return weight.full_tensor().cpu()
    with _gathered(weight):
        return weight.detach().cpu().clone()


@torch.no_grad()
def copy_whole(weight: torch.Tensor, target: torch.nn.Parameter) -> None:
    """Give a weight, sharded or not, the values of a whole one. Called by all processes."""
    with _gathered(target):
        target.copy_(_shard(weight, target) if isinstance(target, DTensor) else weight)


@torch.no_grad()
def blend(target: torch.nn.Parameter, weight: torch.nn.Parameter, share: float) -> None:
    """Move a weight by `share` of the way towards another that is sharded alike. Called by all processes."""
    with _gathered(target, weight):
        local_part(target).lerp_(local_part(weight), share)


@torch.no_grad()
def exchange(one: torch.nn.Parameter, other: torch.nn.Parameter) -> None:
    """Let two weights that are sharded alike change places. Called by all processes."""
    with _gathered(one, other):
        first, second = local_part(one), local_part(other)
        kept = first.clone()
        first.copy_(second)
        second.copy_(kept)


@contextmanager
def _gathered(*weights: torch.nn.Parameter) -> Iterator[None]:
    if not is_deepspeed_zero3_enabled():
        yield
        return
    from deepspeed.runtime.zero import GatheredParameters

    with GatheredParameters(list(weights), modifier_rank=0):  # what the first process writes is what is sharded again
        yield


def optimizer_state_dict(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimizer's state, whole, on the CPU. Called by all processes."""

    def whole(shard: DTensor) -> torch.Tensor:
        # what is offloaded is gathered on the device
        return shard.to(shard.device_mesh.device_type).full_tensor().cpu()

    return tree_map_only(DTensor, whole, optimizer.state_dict())


def load_optimizer_state_dict(optimizer: torch.optim.Optimizer, state_dict: dict[str, Any]) -> None:
    """Take what this process has the parameters of from a state that is whole."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for place, state in state_dict["state"].items():
        like = parameters[place]
        state.update({name: _shard(value, like) for name, value in state.items() if value.shape == like.shape})
    optimizer.load_state_dict(state_dict)


def _shard(tensor: torch.Tensor, like: DTensor) -> DTensor:
    # every process has read all of it, so nothing is sent
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)
