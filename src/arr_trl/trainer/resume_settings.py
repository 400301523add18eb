"""What a run that resumes has to have in common with the one that wrote the checkpoint."""

from pathlib import Path
from typing import Any

from peft import LoraConfig

from ..digests import model_digest
from ..release import public_name
from ..runtime.checkpoints import check_settings, find_checkpoint, fixed_fields
from .flow_config import FlowConfig
from .online_config import OnlineConfig
from .trainable import ALL_LINEAR, Model, name_of


def check_resuming(model: Model, args: FlowConfig, peft_config: LoraConfig | None) -> Path | None:
    """
    The checkpoint that `resume_from_checkpoint` names, if any.

    Raises:
        [`CheckpointError`]: when it names none that this run could go on from.
    """
    folder = find_checkpoint(args.resume_from_checkpoint, Path(args.output_dir), args.hub_token)
    if folder is not None:
        settings = fixed_settings(args, peft_config, identity_of(args, name_of(model)))
        if args.guidance_scale is None:  # the family's, which is known when the model is loaded
            del settings["guidance_scale"]
        check_settings(folder, settings)
    return folder


def identity_of(args: FlowConfig, base_model: str) -> dict[str, Any]:
    """What a run starts from: its base and the adapter it goes on from. Reads their files, so it is asked for once."""
    return {
        **identity_of_model("base_model", base_model, args.output_dir),
        **identity_of_model("adapter_path", args.adapter_path, args.output_dir),
        "model_init_kwargs.revision": (args.model_init_kwargs or {}).get("revision"),
    }


def identity_of_model(name: str, source: str | None, output_dir: str) -> dict[str, Any]:
    """What tells a model from others: its id, and of one on a disk, which may lie elsewhere now, what is in it."""
    if source is None:
        return {name: None}
    public, is_local = public_name(source)
    path = Path(source)
    # the run's own release may have been written over the adapter that it started from
    changes = path.resolve().is_relative_to(Path(output_dir).resolve())
    held = {f"content of {name}": model_digest(path)} if is_local and path.exists() and not changes else {}
    return {name: public, **held}


# What PEFT writes beside what an adapter computes, and what only its first weights depended on.
_NOT_OF_THE_ADAPTER = (
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "init_lora_weights",
    "lora_dropout",
    "peft_type",
    "peft_version",
    "revision",
    "task_type",
)


def fixed_settings(
    args: FlowConfig, lora: LoraConfig | None, identity: dict[str, Any], holds_rollout: bool = True
) -> dict[str, Any]:
    """
    What the optimizer's state and a rollout in a checkpoint are of, as far as it is known: the base, the adapter, the
    global batch, and the fields of the configuration that say so.

    Args:
        args ([`FlowConfig`]): the configuration.
        lora (`peft.LoraConfig`, *optional*): the adapter, where it is what is trained.
        identity (`dict[str, Any]`): what the run starts from, of [`identity_of`].
        holds_rollout (`bool`, *optional*, defaults to `True`):
            Whether it is of a checkpoint inside a rollout, of which each process has saved its part. Between rollouts
            the global batch has to stay, and how many processes share it does not.
    """
    batch, processes, zero = args.per_device_train_batch_size, args.world_size, args.deepspeed_plugin
    settings = {}
    if holds_rollout or zero is not None:  # DeepSpeed saves a part of the optimizer for each process
        settings["num_processes"] = processes
    settings |= fixed_fields(args, holds_rollout)
    if holds_rollout:
        settings |= {"seed": args.seed, "data_seed": args.prompt_seed}
    settings |= {
        "per_device_train_batch_size × gradient_accumulation_steps × num_processes": (
            batch * args.gradient_accumulation_steps * processes
        ),
        "zero_stage": None if zero is None else zero.zero_stage,
        "optim": args.optim.removesuffix("_fused"),  # whose state is the same
        **identity,
    }
    if isinstance(args, OnlineConfig):
        settings["per_device_train_batch_size × steps_per_generation × num_processes"] = (
            batch * args.steps_per_generation * processes
        )
        settings["window_size"] = args.points_per_candidate
    return settings if lora is None else settings | lora_settings(lora)


def lora_settings(lora: LoraConfig) -> dict[str, Any]:
    """All of an adapter's configuration that decides what it computes, under the names of the commands' options."""
    settings, of_lora = {}, {"lora_alpha": "lora_alpha", "r": "lora_r", "target_modules": "lora_target_modules"}
    for name, value in lora.to_dict().items():
        if name in _NOT_OF_THE_ADAPTER or (name == "target_modules" and value in (None, ALL_LINEAR)):  # not known yet
            continue
        settings[of_lora.get(name, f"peft_config.{name}")] = sorted(value) if isinstance(value, set | list) else value
    return settings
