"""Does a run fit a card? Counted from the configuration files of its model, before any weights are read."""

import inspect
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoConfig

from ..policies import Conditioning, FlowPolicy, FluxPolicy, QwenImageEditPolicy, QwenImagePolicy, policy_class_of
from ..policies.base import decoded_together
from ..runtime.counted import Count, kernels_of_gpus
from ..runtime.full_weights import FullWeights
from ..runtime.memory import compress_base, compute_in_base_precision
from .flow_config import FlowConfig
from .online_config import OnlineConfig
from .trainable import ALL_LINEAR


_TEXT_TOKENS = 512  # of a prompt, in a family that cuts none
_BLOCKS_ON_CARD = 2  # at a time, with `offload_blocks`
_BYTES_OF_TRAINED = 16  # a number that is trained in float32, its gradient and two moments


@dataclass(frozen=True)
class Memory:
    """
    What of a card's memory a run takes, in bytes; what the allocator, the CUDA context and work space of kernels take, 1 to
    2 GB, is not in it.

    Args:
        transformer (`int`): frozen weights that are on the card.
        encoders (`int`): text encoders and autoencoder that stay on the card.
        trained (`int`): the trained weights, their gradient and the optimizer's moments, and frozen copies of an adapter.
        prompts (`int`, *optional*): encoded prompts that are kept; `None` where they are not counted.
        phases (`dict[str, int]`):
            The most that is alive in addition in sampling, decoding and training; empty where the family's passes are not
            counted.
        host (`int`, *optional*, defaults to `0`):
            Frozen copies of all weights, which are in the memory of the host and not of the card.
    """

    transformer: int
    encoders: int
    trained: int
    prompts: int | None
    phases: dict[str, int]
    host: int = 0

    @property
    def kept(self) -> int:
        """What is on the card all the time."""
        return self.transformer + self.encoders + self.trained + (self.prompts or 0)

    @property
    def peak(self) -> int:
        """The most at any time."""
        return self.kept + max(self.phases.values(), default=0)

    def __str__(self) -> str:
        parts = {"frozen transformer": self.transformer, "encoders and autoencoder": self.encoders}
        parts |= {"trained weights with gradients and optimizer": self.trained}
        parts |= {"encoded prompts": self.prompts} if self.prompts is not None else {}
        said = ", ".join(f"{name} {_size(size)}" for name, size in parts.items() if size)
        if not self.phases:
            return f"{_size(self.peak)} and more: {said}; what its passes take is not counted here"
        said += f"; beside them {', '.join(f'{n} {_size(size)}' for n, size in self.phases.items())}"
        host = f"; in the host's memory copies of the weights, {_size(self.host)}" if self.host else ""
        return f"{_size(self.peak)}: {said}{host}"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def memory_of(
    model: str,
    args: FlowConfig,
    peft_config: LoraConfig | None,
    num_prompts: int | None = None,
    evaluates: bool = False,
) -> Memory:
    """
    Count what a run takes on one card, as if nothing were sharded.

    Args:
        model (`str`): model id or folder, of which only configuration files are read.
        args ([`FlowConfig`]): the configuration; the passes of one that draws candidates are counted.
        peft_config ([`~peft.LoraConfig`], *optional*): the adapter; `None` where all weights are trained.
        num_prompts (`int`, *optional*): prompts of the dataset, where it is no stream: no more are encoded and kept.
        evaluates (`bool`, *optional*, defaults to `False`):
            Whether there is an `eval_dataset`, for which a copy of the base is kept where all weights are trained.

    Returns:
        [`Memory`]
    """
    dtype = torch.bfloat16 if args.bf16 else torch.float32
    policy, encoders = without_memory(model, args.policy_kwargs, dtype, args.model_init_kwargs or {})
    transformer = policy.pipeline.transformer.requires_grad_(False)
    if args.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    if args.base_precision == "fp8":
        compress_base(transformer, "fp8", dtype)
    frozen = bytes_of(transformer)
    if args.base_precision == "int8":
        frozen -= sum((w.element_size() - 1) * w.numel() for w in _linear_weights(transformer))
    if args.offload_blocks:
        frozen = _with_blocks_offloaded(transformer, frozen)
    if peft_config is None:
        network, trained, host = _with_all_weights(policy, args, evaluates)
        frozen = 0
    else:
        network, trained, host = *_with_adapter(policy, args, peft_config), 0
    phases, of_prompt = {}, None
    conditioning = conditioning_without_memory(policy, args, 1)
    if conditioning is not None:
        of_prompt = bytes_of_tensors(conditioning)
    if conditioning is not None and isinstance(args, OnlineConfig):
        phases = _phases(policy, network, args)
    kept = args.max_cached_prompts or policy.cache.max_rows
    return Memory(
        transformer=frozen,
        encoders=0 if args.offload_encoders else encoders + bytes_of(policy.pipeline.vae),
        trained=trained,
        prompts=None if of_prompt is None else of_prompt * (kept if num_prompts is None else min(kept, num_prompts)),
        phases=phases,
        host=host,
    )


def _with_adapter(policy: FlowPolicy, args: FlowConfig, peft_config: LoraConfig) -> tuple[nn.Module, int]:
    """The model that computes, and the bytes of what is trained of it, copies included."""
    transformer = policy.pipeline.transformer
    targets = peft_config.target_modules or list(policy.target_modules)
    if targets == ALL_LINEAR:
        targets = sorted({name for name, module in transformer.named_modules() if isinstance(module, nn.Linear)})
    lora = LoraConfig(r=peft_config.r, lora_alpha=peft_config.lora_alpha, target_modules=targets)
    with torch.device("meta"):
        peft_model = get_peft_model(transformer, lora)
    trained = sum(p.numel() for p in peft_model.parameters() if p.requires_grad)
    if policy.dtype != torch.float32:
        compute_in_base_precision(peft_model, policy.dtype)
    return peft_model, trained * (_BYTES_OF_TRAINED + 4 * len(args.frozen_copies))


def _with_all_weights(policy: FlowPolicy, args: FlowConfig, evaluates: bool) -> tuple[nn.Module, int, int]:
    """The model that computes, the bytes of its training, and those of its copies in the memory of the host."""
    keeps_base = evaluates or (args.needs_reference and not args.keeps_reference)
    copies = bytes_of(policy.pipeline.transformer) if keeps_base else 0
    model = FullWeights(policy.pipeline.transformer)
    model.read_as_loaded()
    numbers = sum(weight.numel() for weight in model.parameters())
    return model, numbers * _BYTES_OF_TRAINED, copies + 4 * numbers * len(args.frozen_copies)


def without_memory(
    model: str, policy_kwargs: dict[str, Any], dtype: torch.dtype, init_kwargs: dict[str, Any]
) -> tuple[FlowPolicy, int]:
    """
    The policy of a model whose tensors have no memory, without text encoders, and the bytes that these have.

    Args:
        model (`str`): model id or folder.
        policy_kwargs (`dict[str, Any]`): arguments of the policy.
        dtype (`torch.dtype`): what the weights are loaded in.
        init_kwargs (`dict[str, Any]`): arguments of `from_pretrained`, of which those count that say where files are.
    """
    files = {name: init_kwargs[name] for name in ("cache_dir", "revision", "token") if name in init_kwargs}
    policy_class = policy_class_of(model, **files)
    index = DiffusionPipeline.load_config(model, **files)
    components = dict.fromkeys(inspect.signature(policy_class.pipeline_class).parameters)
    encoders, default = 0, torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        for name, entry in index.items():
            if name not in components or not isinstance(entry, list | tuple) or entry[1] is None:
                continue
            if name in ("transformer", "vae"):
                config = getattr(diffusers, entry[1]).load_config(model, subfolder=name, **files)
                with torch.device("meta"):
                    components[name] = getattr(diffusers, entry[1]).from_config(config)
            elif name == "scheduler":
                components[name] = getattr(diffusers, entry[1]).from_pretrained(model, subfolder=name, **files)
            elif name.startswith("text_encoder"):
                config = AutoConfig.from_pretrained(model, subfolder=name, **files)
                with torch.device("meta"):
                    encoders += bytes_of(getattr(transformers, entry[1])(config))
    finally:
        torch.set_default_dtype(default)
    optional = {name: p.default for name, p in inspect.signature(policy_class.pipeline_class).parameters.items()}
    given = {n: c for n, c in components.items() if c is not None or optional[n] is inspect.Parameter.empty}

    class WithoutEncoders(policy_class):
        may_lack = tuple(components)

    return WithoutEncoders(policy_class.pipeline_class(**given), **policy_kwargs), encoders


def bytes_of(module: nn.Module) -> int:
    """Bytes of a module's parameters and buffers."""
    return sum(x.numel() * x.element_size() for x in (*module.parameters(), *module.buffers()))


def bytes_of_tensors(tensors: Conditioning) -> int:
    """Bytes of the tensors of a conditioning."""
    return sum(x.numel() * x.element_size() for x in tensors.values())


def conditioning_without_memory(policy: FlowPolicy, args: FlowConfig, rows: int) -> Conditioning | None:
    """
    What a policy would have encoded, without memory; `None` for a family of which it is not known here.
    """
    config, tokens = policy.pipeline.transformer.config, policy.max_sequence_length or _TEXT_TOKENS
    height, width = args.height // policy.size_multiple, args.width // policy.size_multiple
    empty = {"device": "meta", "dtype": policy.dtype}
    if isinstance(policy, FluxPolicy) and not policy.editing:
        return {
            "prompt_embeds": torch.empty(rows, tokens, config.joint_attention_dim, **empty),
            "pooled_prompt_embeds": torch.empty(rows, config.pooled_projection_dim, **empty),
            "image_ids": torch.empty(rows, height * width, 3, **empty),
        }
    if not isinstance(policy, QwenImagePolicy) or (policy.editing and not isinstance(policy, QwenImageEditPolicy)):
        return None
    encoded: Conditioning = {}
    for branch in ["prompt", "negative"] if policy.uses_cfg(_scale(policy, args)) else ["prompt"]:
        encoded[f"{branch}_embeds"] = torch.empty(rows, tokens, config.joint_attention_dim, **empty)
        encoded[f"{branch}_mask"] = torch.ones(rows, tokens, dtype=torch.bool)
    shapes = [[height, width]]
    if policy.editing:
        side = policy.condition_size // policy.size_multiple
        shapes.append([side, side])
        encoded["source_latents"] = torch.empty(rows, side * side, config.in_channels, **empty)
    return encoded | {"shapes": torch.tensor([shapes]).expand(rows, -1, -1)}


def _scale(policy: FlowPolicy, args: FlowConfig) -> float:
    return policy.default_guidance_scale if args.guidance_scale is None else args.guidance_scale


def _phases(policy: FlowPolicy, model: nn.Module, args: OnlineConfig) -> dict[str, int]:
    """The most that is alive in each kind of pass, beside the weights."""
    pictures = (args.rollout_batch_size or args.prompts_per_rollout) * args.num_generations
    guided, off = _scale(policy, args), policy.cfg_off_scale
    in_rollout = guided if off is None or args.classifier_free_guidance != "off" else off
    in_loss = guided if off is None or args.classifier_free_guidance == "both" else off
    rows = args.per_device_train_batch_size

    def velocity(rows: int, scale: float) -> torch.Tensor:
        conditioning = conditioning_without_memory(policy, args, rows)
        return policy.velocity(model, latents(rows), torch.ones(rows, device="meta"), conditioning, scale)

    def latents(rows: int) -> torch.Tensor:
        tokens = (args.height // policy.size_multiple) * (args.width // policy.size_multiple)
        return torch.empty(rows, tokens, policy.pipeline.transformer.config.in_channels, device="meta")

    counted = {}
    with kernels_of_gpus():
        with torch.no_grad(), Count(there=model.parameters()) as counted["sampling"]:
            velocity(pictures, in_rollout)
        with torch.no_grad(), Count() as counted["decoding"]:
            together = min(pictures, decoded_together(args.height, args.width))
            policy.to_pixels(latents(together).to(policy.dtype), args.height, args.width)
        for weight in model.parameters():  # which is counted with what is trained
            weight.grad = torch.empty_like(weight) if weight.requires_grad else None
        with Count(there=model.parameters()) as counted["training"]:
            velocity(rows, in_loss).sum().backward()
    model.zero_grad()
    return {name: count.peak_bytes for name, count in counted.items()}


def _linear_weights(transformer: nn.Module) -> list[nn.Parameter]:
    return [module.weight for module in transformer.modules() if isinstance(module, nn.Linear)]


def _with_blocks_offloaded(transformer: nn.Module, total: int) -> int:
    blocks = [
        bytes_of(block) for child in transformer.children() if isinstance(child, nn.ModuleList) for block in child
    ]
    return total - sum(blocks) + sum(sorted(blocks)[-_BLOCKS_ON_CARD:])


def card() -> tuple[str, int] | None:
    """Name and bytes of the first card's memory; `None` where there is none."""
    if not torch.cuda.is_available():
        return None
    return torch.cuda.get_device_name(0), torch.cuda.get_device_properties(0).total_memory
