"""What can be wrong with the arguments of a run, found before anything is loaded."""

import os
from collections.abc import Callable, Sequence

import torch
from datasets import Dataset, IterableDataset
from peft import PeftConfig
from PIL import Image

from ..data import (
    MASK_COLUMN,
    SOURCE_COLUMN,
    check_prompts,
    check_sources,
    decode_columns,
    decode_sources,
    load_image,
    read_rows,
    stored_first_row,
    undecoded,
)
from ..folders import check_writable
from ..judges import JudgeFailureError, JudgeReward
from ..policies import FlowPolicy, check_model, policy_class_of, read_dtypes
from ..release import check_lora_config, check_model_card
from ..rewards import ModelScorer, Scorer, check_columns, met_criteria
from ..runtime.attention import check_attention
from ..runtime.sharding import uses_fsdp
from .align_prop_config import AlignPropConfig
from .card import first_row
from .flow_config import FlowConfig
from .inherited import check_inherited
from .online_config import OnlineConfig
from .rehearse import check_rehearsal
from .trainable import Model


_SOURCES_CHECKED = 256  # of a training dataset, before it begins; a row that cannot be used later ends the run


def check_arguments(
    trainer: str,
    args: FlowConfig,
    reward_funcs: list[Callable],
    reward_func_names: list[str],
    eval_funcs: list[Callable],
    watch_funcs: list[Callable],
    train_dataset: Dataset | IterableDataset | None,
    eval_dataset: Dataset | None,
    peft_config: PeftConfig | None,
) -> None:
    """
    Refuse a run that could not end well.

    Args:
        trainer (`str`): name of the trainer's class.
        args ([`FlowConfig`]): the configuration.
        reward_funcs (`list[Callable]`): reward functions.
        reward_func_names (`list[str]`): what they are called.
        eval_funcs (`list[Callable]`): ground truths.
        watch_funcs (`list[Callable]`): what is asked like reward functions and rewards nothing.
        train_dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`]): rows to train on.
        eval_dataset ([`~datasets.Dataset`], *optional*): rows to evaluate on.
        peft_config (`peft.PeftConfig`, *optional*): the adapter.

    Raises:
        `ValueError` or `TypeError`: with a sentence that says what to change; and what the `check` of a judge or
            a scorer raises.
    """
    check_inherited(args)
    if args.reward_weights is not None and len(args.reward_weights) != len(reward_funcs):
        raise ValueError(
            f"reward_weights has {len(args.reward_weights)} entries for {len(reward_funcs)} reward functions "
            f"({', '.join(reward_func_names)}); give one weight for each."
        )
    for func in [*reward_funcs, *eval_funcs, *watch_funcs]:
        if not callable(func):
            raise TypeError(f"{func!r} cannot be called; reward_funcs, eval_funcs and watch_funcs are functions.")
    if train_dataset is None:
        raise ValueError(f"{trainer} needs a `train_dataset` with a `prompt` column.")
    train_dataset, eval_dataset = (d if d is None else undecoded(d) for d in (train_dataset, eval_dataset))
    if isinstance(eval_dataset, IterableDataset):
        raise ValueError(
            "eval_dataset is a stream, and every evaluation draws all of it again; take some rows of it, for example with "
            "`Dataset.from_list(list(stream.take(64)))`."
        )
    for dataset, name in ((train_dataset, "train_dataset"), (eval_dataset, "eval_dataset")):
        if dataset is not None:
            check_prompts(dataset, name)
            check_columns(dataset.column_names or next(iter(dataset)), name)
    check_judges_and_scorers([*reward_funcs, *watch_funcs], args, train_dataset, eval_dataset)
    _check_best_metric(args, reward_funcs, eval_funcs)
    if peft_config is not None:
        _check_adapter(peft_config)
    check_writable(args.output_dir, "output_dir")
    check_model_card(args.output_dir)
    if args.prompt_cache_dir is not None:
        check_writable(args.prompt_cache_dir, "prompt_cache_dir")


def _check_adapter(peft_config: PeftConfig) -> None:
    check_lora_config(peft_config)
    if peft_config.lora_dropout:
        raise ValueError(
            f"lora_dropout={peft_config.lora_dropout} would make the network that is trained differ from the one "
            "that sampled; set it to 0."
        )


def check_judges_and_scorers(
    funcs: list[Callable],
    args: FlowConfig,
    train_dataset: Dataset | IterableDataset,
    eval_dataset: Dataset | None,
) -> None:
    """
    Hold the judges among reward functions to the rows and to the number of candidates that they will be asked about, and
    find out whether scorers can score.

    Raises:
        `ValueError`: with a sentence that says what to change; and what the `check` of a judge or scorer raises.
    """
    for func in funcs:
        if isinstance(func, JudgeReward):
            if func.sleeps and args.world_size > 1:
                raise ValueError(
                    f"A judge that sleeps is for one process; {args.world_size} would put it to sleep while another asks. "
                    "Leave `judge_sleep` out and give the judge a GPU of its own."
                )
            for dataset in (train_dataset, eval_dataset):
                func.check_first_row(dataset)
            # others than online trainers ask in evaluation alone, about the base's picture and the adapter's
            candidates = args.num_generations if isinstance(args, OnlineConfig) else 2
            num_sources, shown_beside = num_beside_candidates(train_dataset)
            func.check_for(candidates, shown_beside)
            if args.rehearse_judge and args.process_index == 0:
                check_rehearsal(func, args, train_dataset, num_sources or 0)
        elif isinstance(func, Scorer):
            func.check()


def check_rewards_have_gradients(
    args: AlignPropConfig, reward_funcs: list[Callable], train_dataset: Dataset | IterableDataset | None
) -> None:
    """
    Refuse what a gradient cannot be passed back through, and what it was not verified for.

    Raises:
        `TypeError`: when a judge, or a scorer that is not in this process, is among the reward functions.
        `ValueError`: when the run is sharded, or a dataset has fewer prompts than an optimizer step.
    """
    for func in reward_funcs:
        if isinstance(func, JudgeReward):
            raise TypeError(
                f"A {type(func).__name__} cannot be a reward here: it reads finished pictures and says which is better, and "
                "a verdict has no gradient to pass back. Train on it with RPOTrainer, FlowGRPOTrainer or "
                "DiffusionNFTTrainer, or give it as `eval_reward_funcs`, and evaluations are judged by it."
            )
        if isinstance(func, Scorer) and not isinstance(func, ModelScorer):
            raise TypeError(
                f"{type(func).__name__} scores pictures outside of torch, and there is no gradient to pass back. Take a scorer "
                "with its model in this process, or train on this one with FlowGRPOTrainer or DiffusionNFTTrainer."
            )
    if uses_fsdp(args) or args.deepspeed_plugin is not None:
        raise ValueError(
            "A gradient through several steps goes through the network several times before one backward, which FSDP and "
            "DeepSpeed are not verified for here. Take one process, or several with `--accelerate_config ddp`."
        )
    needed = args.pictures_per_draw
    if isinstance(train_dataset, Dataset) and len(train_dataset) < needed:
        raise ValueError(
            f"train_dataset has {len(train_dataset)} prompts, and one optimizer step takes {needed}; add prompts or lower "
            "per_device_train_batch_size × gradient_accumulation_steps."
        )


def num_beside_candidates(dataset: Dataset | IterableDataset) -> tuple[int | None, int | None]:
    """
    How many pictures the first row edits, and how many a judge is shown beside the candidates, a mask with its source; `None`
    where rows edit none.
    """
    row = stored_first_row(dataset)
    source = row.get(SOURCE_COLUMN)
    if source is None:
        return None, None
    sources = len(source) if isinstance(source, list) else 1
    return sources, sources + (row.get(MASK_COLUMN) is not None)


def check_placement(model: Model, args: FlowConfig) -> None:
    """
    Refuse ways to keep the base, and to compute with it, that do not go together with how and where the run is launched.

    Raises:
        `ValueError`: with a sentence that says what to change.
    """
    if args.attn_backend is not None:
        check_attention(args.attn_backend)
    fsdp = uses_fsdp(args)
    if args.offload_blocks and (fsdp or args.deepspeed_plugin is not None):
        raise ValueError(
            "offload_blocks=True is for one process, or several with `--accelerate_config ddp`. FSDP and DeepSpeed "
            "have settings of their own that offload what they shard: `fsdp_offload_params`, `offload_param`."
        )
    if args.base_precision is not None and fsdp:
        raise ValueError(
            f"base_precision={args.base_precision!r} is for one process, or several with `--accelerate_config ddp`: "
            "FSDP does not shard weights of 8 bits. Leave it out, or use ddp."
        )
    if not args.use_peft and args.deepspeed_plugin is not None and args.deepspeed_plugin.zero_stage == 3:
        raise ValueError(
            "use_peft=False is not verified with ZeRO-3, whose shards no copy of the weights can be made of here. Shard with "
            "`--accelerate_config fsdp2`, or take zero2."
        )
    scaled = args.fp16 or os.environ.get("ACCELERATE_MIXED_PRECISION") == "fp16" or args.deepspeed_plugin is not None
    if _dtype_of(model, args) == torch.float16 and not scaled:
        raise ValueError(
            "The transformer is in float16, in which most gradients of latents are rounded to 0 unless they are scaled. "
            "Load it in bfloat16, or where the GPU has none, set fp16=True and bf16=False."
        )


def _dtype_of(model: Model, args: FlowConfig) -> torch.dtype | None:
    if isinstance(model, str | os.PathLike):
        dtype = read_dtypes(args.model_init_kwargs or {}).get("dtype")
        return dtype.get("transformer", dtype.get("default")) if isinstance(dtype, dict) else dtype
    return model.dtype if isinstance(model, FlowPolicy) else model.transformer.dtype


def check_family(
    model: Model,
    args: FlowConfig,
    eval_funcs: list[Callable],
    train_dataset: Dataset | IterableDataset,
    eval_dataset: Dataset | None,
) -> None:
    """
    Refuse a model that cannot be trained as it is, and rows that do not go with its family, of which configuration files
    tell.

    Raises:
        `ValueError`: with a sentence that says what to change.
    """
    if eval_dataset is not None:
        # with an empty picture: the mistakes of `eval_funcs` would show after training only
        blank = Image.new("RGB", (args.width, args.height), "white")
        first = decode_sources(read_rows(eval_dataset, [0]))
        met_criteria(eval_funcs, decode_columns(first, eval_dataset) if eval_funcs else first, [blank])
    check_model(model, **(args.model_init_kwargs or {}))
    policy_class = policy_class_of(model, **(args.model_init_kwargs or {}))
    if policy_class.edits(first_row(train_dataset)):
        if args.process_index:  # what one process finds ends all, and their disk is often the same
            return
        for column in (SOURCE_COLUMN, MASK_COLUMN)[: 1 + policy_class.needs_mask]:
            # a mistake in the column is in all of them, and who trains on a million pictures does not wait for their headers
            check_sources(undecoded(train_dataset), "train_dataset", at_most=_SOURCES_CHECKED, column=column)
            if eval_dataset is not None:  # all of it is going to be read
                check_sources(undecoded(eval_dataset), "eval_dataset", load_image, column=column)


def check_enough_prompts(args: OnlineConfig, train_dataset: Dataset | IterableDataset) -> None:
    """
    Raises:
        `ValueError`: when a dataset has fewer prompts than a rollout.
    """
    world_size = args.world_size
    needed = args.prompts_per_rollout * world_size
    if isinstance(train_dataset, Dataset) and len(train_dataset) < needed:
        raise ValueError(
            f"train_dataset has {len(train_dataset)} prompts, and one rollout takes {needed}"
            + (f" ({args.prompts_per_rollout} on each of {world_size} devices)" if world_size > 1 else "")
            + "; add prompts or lower "
            "per_device_train_batch_size × steps_per_generation."
        )


def check_guidance(model: Model, args: OnlineConfig) -> None:
    """
    Raises:
        `ValueError`: when nobody would know how probable the candidates were.
    """
    if args.classifier_free_guidance == "rollout" and not args.on_policy and _may_use_cfg(model, args):
        raise ValueError(
            "classifier_free_guidance='rollout' has no old log-probabilities, since another velocity drew the "
            "candidates: it needs one optimizer step per rollout. Set gradient_accumulation_steps to a multiple of "
            "steps_per_generation × num_iterations, or classifier_free_guidance to 'both' or 'off'."
        )


def _may_use_cfg(model: Model, args: FlowConfig) -> bool:
    """Whether guidance has a second branch in this family, as far as its class tells before it is loaded."""
    family = policy_class_of(model, **(args.model_init_kwargs or {}))
    off = family.cfg_off_scale
    return off is not None and (args.guidance_scale is None or args.guidance_scale > off)


def _check_best_metric(args: FlowConfig, reward_funcs: list[Callable], eval_funcs: list[Callable]) -> None:
    name = (args.metric_for_best_model or "win_rate").removeprefix("eval_")
    names = ["win_rate", "tie_rate", "failure_rate", *(["success_all"] if eval_funcs else [])]
    of_eval_funcs = bool(eval_funcs) and name.startswith(("success/", "base_success_all"))
    # what the functions of users log is known when they run
    only_judges = all(isinstance(func, JudgeReward) for func in reward_funcs)
    names += [*args.measured]
    if only_judges and not (name in names or of_eval_funcs or name.startswith("judge/")):
        raise ValueError(
            f"metric_for_best_model={args.metric_for_best_model!r} is nothing that an evaluation of this run measures; "
            f"use one of {', '.join(names)}."
        )


def check_first_verdicts(judges: Sequence[JudgeReward], is_judged: bool, reason: str | None) -> None:
    """
    Stop where the first rollout got no verdict at all: a judge that never answers is set up wrongly, not unlucky.

    Args:
        judges (`Sequence[JudgeReward]`): those of the run.
        is_judged (`bool`): whether any candidate of any process has a reward.
        reason (`str`, *optional*): the last failure of a judge.

    Raises:
        [`JudgeFailureError`]: when there is none, unless no judge may stop the run.
    """
    if not is_judged and reason is not None and any(judge.may_stop for judge in judges):
        raise JudgeFailureError(
            f"The judge gave no verdict on any candidate of the first rollout. The last failure was: {reason} Repair the "
            "judge, or its settings, and start the same command again."
        )
