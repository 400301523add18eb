"""From a model and a configuration to a policy whose transformer carries the adapter that is trained, or is trained itself."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import AutocastKwargs, DistributedType
from diffusers import DiffusionPipeline
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PretrainedConfig, set_seed
from transformers.integrations import is_deepspeed_zero3_enabled

from ..chat.local import whole_weights
from ..folders import hub_name
from ..policies import FlowPolicy, load_policy, policy_class_of, policy_for, read_dtypes
from ..release import load_weights, read_adapter
from ..runtime.attention import set_attention, takes_lengths
from ..runtime.block_offload import BlockOffload
from ..runtime.full_weights import BASE, FullWeights
from ..runtime.memory import compile_blocks, compress_base, compute_in_base_precision, leave_out_of_ddp
from ..runtime.sharding import is_left_out, set_precision, uses_fsdp
from .flow_config import FlowConfig
from .frozen_adapters import add_frozen_copy
from .frozen_copies import Trained


logger = logging.getLogger(__name__)

ALL_LINEAR = "all-linear"

# A model id on the Hub or a local folder, a pipeline, or a policy for one.
Model = str | os.PathLike | DiffusionPipeline | FlowPolicy


def name_of(model: Model) -> str:
    """What a base is called: its id or path, or where it has none the class of its pipeline."""
    if isinstance(model, str | os.PathLike):
        return hub_name(str(model))
    pipeline = model.pipeline if isinstance(model, FlowPolicy) else model
    return hub_name(str(pipeline.name_or_path)) if pipeline.name_or_path else type(pipeline).__name__


def adapter_to_train(
    model: Model, args: FlowConfig, peft_config: LoraConfig | None
) -> tuple[LoraConfig | None, dict[str, torch.Tensor] | None]:
    """
    The adapter's configuration, LoRA of rank 16 and alpha 32 when there is none, and its weights where `adapter_path`
    names an adapter to go on from. `None` for both where all weights are trained.

    Raises:
        `ValueError`: when both `adapter_path` and `peft_config` say how it looks, or there is to be none.
    """
    if not args.use_peft:
        if peft_config is not None:
            raise ValueError(
                "use_peft=False trains all weights of the transformer, and `peft_config` is of an adapter; leave one of them out."
            )
        return None, None
    if args.adapter_path is None:
        return peft_config or LoraConfig(r=16, lora_alpha=32), None
    if peft_config is not None:
        raise ValueError("`adapter_path` names an adapter with a configuration of its own; leave `peft_config` out.")
    pipeline_class = policy_class_of(model, **(args.model_init_kwargs or {})).pipeline_class
    return read_adapter(args.adapter_path, pipeline_class, args.hub_token)


def load_base(model: Model, args: FlowConfig, of_rows: Mapping[str, int]) -> FlowPolicy:
    """The policy; what the configuration left to its family is filled in there. `of_rows` are sizes that rows ask for."""
    sizes = {name: getattr(args, name) for name in ("height", "width", "eval_height", "eval_width")} | of_rows
    if isinstance(model, str | os.PathLike):
        default = {"dtype": torch.bfloat16 if args.bf16 else torch.float32}
        init_kwargs = default | read_dtypes(args.model_init_kwargs or {})
        with whole_weights():
            policy = load_policy(str(model), sizes, args.policy_kwargs, **init_kwargs)
    elif isinstance(model, FlowPolicy):
        policy = model
    else:
        policy = policy_for(model, **args.policy_kwargs)
    policy.check_sizes(sizes, policy.size_multiple)
    policy.warn_if_distilled()
    if args.guidance_scale is None:
        args.guidance_scale = policy.default_guidance_scale
    if args.eval_num_inference_steps is None:
        args.eval_num_inference_steps = policy.default_num_inference_steps
    if args.adapter_subfolder is None:
        args.adapter_subfolder = f"ARR-{Path(name_of(policy)).name}"
    return policy


def make_trainable(
    policy: FlowPolicy,
    args: FlowConfig,
    peft_config: LoraConfig | None,
    start: dict[str, torch.Tensor] | None,
    keeps_base: bool = False,
) -> Trained:
    """
    The policy's transformer as the model that is trained.

    Args:
        policy ([`FlowPolicy`]): the policy; its pipeline is frozen, but for what is trained.
        args ([`FlowConfig`]): the configuration.
        peft_config ([`~peft.LoraConfig`], *optional*):
            The adapter; without targets it gets those of the family. `None` where all weights are trained.
        start (`dict[str, torch.Tensor]`, *optional*): weights that the adapter begins with.
        keeps_base (`bool`, *optional*, defaults to `False`):
            Whether something is going to need the base where all weights are trained.
    """
    transformer = policy.pipeline.transformer
    for component in policy.pipeline.components.values():
        if isinstance(component, torch.nn.Module):
            component.requires_grad_(False)
    if args.gradient_checkpointing:
        # diffusers' own switch: Trainer calls a method that only transformers' models have
        transformer.enable_gradient_checkpointing()
        args.gradient_checkpointing = args.activation_checkpointing = False
    set_seed(args.seed)  # Trainer does so too late for the adapter's initial weights
    if peft_config is None:
        model = _with_all_weights(policy, args, keeps_base)
    else:
        model = _with_adapter(policy, args, peft_config, start)
    if args.attn_backend is not None:
        set_attention(transformer, args.attn_backend)
    if args.compile_blocks:
        compile_blocks(transformer)
    # Reporters and DeepSpeed's "auto" values read a transformers config; this shadows only the wrapper's attribute.
    model.config = PretrainedConfig(hidden_size=policy.hidden_size)
    model.config._name_or_path = name_of(policy)
    return model


def _with_all_weights(policy: FlowPolicy, args: FlowConfig, keeps_base: bool) -> FullWeights:
    copies = [*([BASE] if keeps_base else []), *args.frozen_copies]
    # DeepSpeed has weights in float32 of its own
    model = FullWeights(policy.pipeline.transformer, copies, widen=args.deepspeed_plugin is None)
    if not uses_fsdp(args):  # where whole copies of each process may not fit: there they are made of the shards
        model.add_copies()
    return model


def _with_adapter(
    policy: FlowPolicy, args: FlowConfig, peft_config: LoraConfig, start: dict[str, torch.Tensor] | None
) -> PeftModel:
    """The transformer frozen and kept in memory as the configuration says, with its adapter and copies of that."""
    transformer = policy.pipeline.transformer
    if peft_config.target_modules is None:
        peft_config.target_modules = list(policy.target_modules)
    elif peft_config.target_modules == ALL_LINEAR:  # PEFT knows it for models of transformers alone
        linear = {name for name, module in transformer.named_modules() if isinstance(module, torch.nn.Linear)}
        peft_config.target_modules = sorted(linear)
    compress_base(transformer, args.base_precision, policy.dtype)
    # `get_peft_model` rather than `add_adapter`: it keeps the adapter in float32 and saves the adapter alone
    peft_model = get_peft_model(transformer, peft_config)
    if start is not None:
        load_weights(peft_model, start, "default", args.adapter_path)
    for name in args.frozen_copies:
        add_frozen_copy(peft_model, name)
    if args.base_precision is not None:
        leave_out_of_ddp(peft_model)
    if args.offload_blocks:
        BlockOffload(transformer, args.device, policy.not_checkpointed)
    # PEFT looks for the name where only transformers' models keep it
    peft_model.peft_config["default"].base_model_name_or_path = name_of(policy)
    return peft_model


def move_to_device(policy: FlowPolicy, model: Trained, args: FlowConfig, accelerator: Accelerator) -> None:
    """Move the pipeline to where it computes, in the precision that it computes in."""
    policy.to(
        accelerator.device,
        offload_encoders=args.offload_encoders,
        move_transformer=not accelerator.is_fsdp2,  # each block goes there when it is sharded
        keep_autoencoder=args.decodes_with_gradient,
    )
    sharded = accelerator.is_fsdp2 or is_deepspeed_zero3_enabled()
    brings_weights = args.attn_backend is None and (args.offload_blocks or sharded)
    policy.masks_padding = takes_lengths(args.attn_backend) or brings_weights
    if args.prompt_cache_dir is not None:
        policy.keep_encodings(args.prompt_cache_dir)
    if isinstance(model, FullWeights) and not accelerator.is_fsdp2:
        model.read_as_loaded()
    # DeepSpeed rounds what is trained itself
    if policy.dtype != torch.float32 and accelerator.distributed_type != DistributedType.DEEPSPEED:
        if isinstance(model, PeftModel):
            compute_in_base_precision(model, policy.dtype)
        accelerator.autocast_handler = AutocastKwargs(enabled=False)
    if is_left_out(accelerator) and accelerator.is_main_process:
        logger.warning(
            "FSDP was asked for, and accelerate shards on GPUs alone: on these CPUs every process holds the whole base, as "
            "with `--accelerate_config ddp`."
        )
    if accelerator.is_fsdp2:
        set_precision(accelerator, policy.dtype)
