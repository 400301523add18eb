"""What a run tells its model card."""

from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import torch
from datasets import Dataset, IterableDataset
from peft import LoraConfig

from ..data import SOURCE_COLUMN, undecoded
from ..judges import JudgeReward
from ..policies import FlowPolicy
from ..release import AdapterCard, base_license, public_name, training_settings
from ..rewards import get_callable_name
from ..version import __version__
from .flow_config import FlowConfig
from .trainable import name_of


def adapter_card(
    args: FlowConfig,
    policy: FlowPolicy,
    lora: LoraConfig | None,
    reward_funcs: Sequence[Callable],
    log_history: Sequence[dict[str, float]],
    num_processes: int,
    trainer_class: type,
    row: dict[str, Any],
    compared_by: Sequence[Callable] = (),
    **facts: Any,
) -> AdapterCard:
    """
    The card of what is trained, with what is known of it so far.

    Args:
        args ([`FlowConfig`]): the configuration.
        policy ([`FlowPolicy`]): the base.
        lora (`peft.LoraConfig`, *optional*): the adapter; `None` where all weights are trained.
        reward_funcs (`Sequence[Callable]`): what rewarded.
        log_history (`Sequence[dict]`): what was logged.
        num_processes (`int`): how many trained.
        trainer_class (`type`): what trained.
        row (`dict`): what [`first_row`] gave.
        compared_by (`Sequence[Callable]`, *optional*): what compares in evaluations beside.
        facts:
            what else [`~arr_trl.release.AdapterCard`] takes: `datasets`, `results`, `train_seconds`, `released`,
            `gallery`, `preferences`.
    """
    judges = [func for func in (*reward_funcs, *compared_by) if isinstance(func, JudgeReward)]
    rubrics = list(dict.fromkeys(rubric for judge in judges for rubric in judge.rubrics))
    curve = [
        {"step": entry["step"], "win rate": entry["eval_win_rate"]}
        | ({"all criteria": entry["eval_success_all"]} if "eval_success_all" in entry else {})
        for entry in log_history
        if entry.get("eval_win_rate") is not None
    ]
    # a step may have been evaluated twice
    curve = list({row["step"]: row for row in curve}.values())
    return AdapterCard(
        subfolder=args.adapter_subfolder,
        base_model=name_of(policy),
        task="image-editing" if policy.edits(row) else "text-to-image",
        pipeline_class=policy.pipeline_class.__name__,
        **_trained(policy, lora),
        inference={
            "height": args.eval_height,
            "width": args.eval_width,
            "num_inference_steps": args.eval_num_inference_steps,
            policy.guidance_argument: args.guidance_scale,
            **policy.call_kwargs(args.eval_height, args.eval_width),
        },
        call_setup="\n".join(line for line in (policy.call_setup(), _said_of_size(args, policy, row)) if line),
        dtype=str(policy.dtype).removeprefix("torch."),
        training=training_settings(args),
        rewards=[get_callable_name(func) for func in reward_funcs],
        rubric=rubrics[0] if rubrics else None,
        further_rubrics=rubrics[1:],
        judge=", ".join(dict.fromkeys(public_name(name)[0] for judge in judges for name in judge.model_names)) or None,
        learning_curve=curve,
        **_method(trainer_class, is_judged=any(isinstance(func, JudgeReward) for func in reward_funcs)),
        prompt=row["prompt"],
        samples=None if facts.get("results") is None else "samples.png",
        hardware=_hardware(num_processes),
        versions={"arr_trl": __version__}
        | {name: version(name) for name in ("trl", "transformers", "diffusers", "peft", "torch")},
        **base_license(name_of(policy)),
        **facts,
    )


def _said_of_size(args: FlowConfig, policy: FlowPolicy, row: dict[str, Any]) -> str:
    """A comment before the call of the pipeline, whose `height` and `width` are those of a square source."""
    if not (args.size_from_source and policy.edits(row)):
        return ""
    return (
        f"# Edits were drawn with the aspect ratio of their source and the area of {args.eval_width} × {args.eval_height} "
        f"pixels:\n# for another source take its height and width below, in multiples of {policy.size_multiple}."
    )


def _trained(policy: FlowPolicy, lora: LoraConfig | None) -> dict[str, Any]:
    """What of the base was trained: modules that carry an adapter, or its transformer."""
    if lora is None:
        return {"transformer_class": type(policy.pipeline.transformer).__name__}
    return {"lora_r": lora.r, "lora_alpha": lora.lora_alpha, "target_modules": lora.target_modules}


def win_rate_by(reward_funcs: Sequence[Callable]) -> str:
    """Whose preference the win rate of an evaluation is: that of the judges where there are some, else of all functions."""
    others = [get_callable_name(func) for func in reward_funcs if not isinstance(func, JudgeReward)]
    judges = len(reward_funcs) - len(others)
    if judges == 0:
        return f"Reward{'s' if len(others) > 1 else ''} {', '.join(others)}"
    name = "Judge" if judges == 1 else "Judges"
    return name + (f" (without {', '.join(others)}, which rewarded too)" if others else "")


def _method(trainer_class: type, is_judged: bool) -> dict[str, Any]:
    """What trained: a class that says what it is called by that, and another by its own name and where it comes from."""
    own = vars(trainer_class)
    tags = ["reinforcement-learning", *(tag for tag in own.get("_tag_names", ()) if tag != "arr_trl")]
    if "rpo" in tags:
        tags[tags.index("rpo")] = "rubric-policy-optimization"
    if is_judged:
        tags.append("auto-rubric")
    if "_name" in own:
        return {"method": own["_name"], "paper": own.get("_paper"), "tags": tags}
    base = next(cls for cls in trainer_class.__mro__[1:] if cls.__module__.startswith("arr_trl."))
    return {"method": f"`{trainer_class.__name__}`, which is made from `{base.__name__}`", "tags": tags}


def first_row(dataset: Dataset | IterableDataset) -> dict[str, Any]:
    """
    The row that the card shows, its pictures as they are stored. Read before training: whoever reads a stream moves it, and
    a network may be gone later.
    """
    stored = undecoded(dataset)
    columns = stored.column_names or next(iter(stored))
    return next(iter(stored.select_columns([name for name in ("prompt", SOURCE_COLUMN) if name in columns])))


def _hardware(num_processes: int) -> str:
    if torch.cuda.is_available():
        return f"{num_processes} × {torch.cuda.get_device_name()}"
    threads = num_processes * torch.get_num_threads()
    return f"{threads} CPU thread{'' if threads == 1 else 's'}"
