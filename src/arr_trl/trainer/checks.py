"""What can be wrong with the arguments of a run, found before anything is loaded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets import Dataset, IterableDataset
from peft import LoraConfig, PeftConfig

from ..data import check_prompts
from ..folders import check_writable
from ..judges import JudgeReward
from ..release import check_lora_config
from .checkpoints import check_settings, find_checkpoint
from .rpo_config import RPOConfig


def check_arguments(
    args: RPOConfig,
    reward_funcs: list[Callable],
    reward_func_names: list[str],
    eval_funcs: list[Callable],
    train_dataset: Dataset | IterableDataset | None,
    eval_dataset: Dataset | None,
    peft_config: PeftConfig,
) -> None:
    """
    Refuse a run that could not end well.

    Args:
        args ([`RPOConfig`]): the configuration.
        reward_funcs (`list[Callable]`): reward functions.
        reward_func_names (`list[str]`): what they are called.
        eval_funcs (`list[Callable]`): ground truths.
        train_dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`]): rows to train on.
        eval_dataset ([`~datasets.Dataset`], *optional*): rows to evaluate on.
        peft_config (`peft.PeftConfig`): the adapter.

    Raises:
        `ValueError` or `TypeError`: with a sentence that says what to change; and what a judge's `check` raises.
    """
    if args.reward_weights is not None and len(args.reward_weights) != len(reward_funcs):
        raise ValueError(
            f"reward_weights has {len(args.reward_weights)} entries for {len(reward_funcs)} reward functions "
            f"({', '.join(reward_func_names)}); give one weight for each."
        )
    for func in [*reward_funcs, *eval_funcs]:
        if not callable(func):
            raise TypeError(f"{func!r} cannot be called; reward_funcs and eval_funcs are functions.")
    if train_dataset is None:
        raise ValueError("RPOTrainer needs a `train_dataset` with a `prompt` column.")
    check_prompts(train_dataset, "train_dataset")
    if eval_dataset is not None:
        check_prompts(eval_dataset, "eval_dataset")
    world_size = args.world_size
    needed = args.prompts_per_rollout * world_size
    if isinstance(train_dataset, Dataset) and len(train_dataset) < needed:
        raise ValueError(
            f"train_dataset has {len(train_dataset)} prompts, and one rollout takes {needed} "
            f"({args.prompts_per_rollout} on each of {world_size} devices); add prompts or lower "
            "per_device_train_batch_size × steps_per_generation."
        )
    for func in reward_funcs:
        if isinstance(func, JudgeReward):
            for dataset in (train_dataset, eval_dataset):
                func.check_rows(dataset)
            func.check()
    _check_best_metric(args, reward_funcs, eval_funcs)
    check_lora_config(peft_config)
    if peft_config.lora_dropout:
        raise ValueError(
            f"lora_dropout={peft_config.lora_dropout} would make the network that is trained differ from the one "
            "that sampled; set it to 0."
        )
    if args.base_precision == "fp8" and peft_config.use_dora:
        raise ValueError(
            "base_precision='fp8' does not go with use_dora=True, whose norms PEFT computes from the weights as they are "
            "kept. Use 'int8', or leave use_dora out."
        )
    check_writable(args.output_dir, "output_dir")
    if args.prompt_cache_dir is not None:
        check_writable(args.prompt_cache_dir, "prompt_cache_dir")


def _check_best_metric(args: RPOConfig, reward_funcs: list[Callable], eval_funcs: list[Callable]) -> None:
    name = (args.metric_for_best_model or "win_rate").removeprefix("eval_")
    names = ["win_rate", "tie_rate", "failure_rate", *(["success_all"] if eval_funcs else [])]
    of_eval_funcs = bool(eval_funcs) and name.startswith(("success/", "base_success_all"))
    # what the functions of users log is known when they run
    only_judges = all(isinstance(func, JudgeReward) for func in reward_funcs)
    if only_judges and not (name in names or of_eval_funcs or name.startswith("judge/")):
        raise ValueError(
            f"metric_for_best_model={args.metric_for_best_model!r} is nothing that an evaluation of this run measures; "
            f"use one of {', '.join(names)}."
        )


def check_resuming(args: RPOConfig, peft_config: LoraConfig) -> Path | None:
    """
    The checkpoint that `resume_from_checkpoint` names, if any.

    Raises:
        [`CheckpointError`]: when it names none that this run could go on from.
    """
    folder = find_checkpoint(args.resume_from_checkpoint, Path(args.output_dir), args.hub_token)
    if folder is not None:
        check_settings(folder, fixed_settings(args, peft_config))
    return folder


def fixed_settings(args: RPOConfig, lora: LoraConfig, holds_rollout: bool = True) -> dict[str, Any]:
    """
    What the optimizer's state and a rollout in a checkpoint are of, as far as it is known.

    Args:
        args ([`RPOConfig`]): the configuration.
        lora (`peft.LoraConfig`): the adapter.
        holds_rollout (`bool`, *optional*, defaults to `True`):
            Whether it is of a checkpoint inside a rollout, of which each process has saved its part. Between rollouts
            the global batch has to stay, and how many processes share it does not.
    """
    batch, processes = args.per_device_train_batch_size, args.world_size
    zero = args.deepspeed_plugin
    settings = {}
    if holds_rollout or zero is not None:  # DeepSpeed saves a part of the optimizer for each process
        settings |= {"num_processes": processes}
    if holds_rollout:
        settings |= {"per_device_train_batch_size": batch, "steps_per_generation": args.steps_per_generation}
    settings |= {
        "per_device_train_batch_size × gradient_accumulation_steps × num_processes": (
            batch * args.gradient_accumulation_steps * processes
        ),
        "per_device_train_batch_size × steps_per_generation × num_processes": (
            batch * args.steps_per_generation * processes
        ),
        "zero_stage": None if zero is None else zero.zero_stage,
        "optim": args.optim.removesuffix("_fused"),  # whose state is the same
        "lora_r": lora.r,
        "lora_alpha": lora.lora_alpha,
    }
    settings |= {name: getattr(args, name) for name in ("num_iterations", "num_generations", "window_size")}
    targets = lora.target_modules
    if targets is not None:
        settings["lora_target_modules"] = targets if isinstance(targets, str) else sorted(targets)
    return settings
