"""FSDP2, which shards the base: what has to be set for the adapter of a frozen base."""

import os
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy


def is_left_out(accelerator: Accelerator) -> bool:
    """
    Whether the launch asks for FSDP and accelerate does without, as it does on CPUs.

    Args:
        accelerator (`Accelerator`): the accelerator of the run.

    Returns:
        `bool`
    """
    asked = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"  # as `accelerate launch` says it
    return asked and accelerator.distributed_type != DistributedType.FSDP


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
