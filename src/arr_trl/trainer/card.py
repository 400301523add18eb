"""What a run tells its model card."""

from importlib.metadata import version
from typing import TYPE_CHECKING

import torch

from ..judges import JudgeReward
from ..release import AdapterCard, base_license, public_name, training_settings


if TYPE_CHECKING:
    from .rpo_trainer import RPOTrainer


def adapter_card(trainer: "RPOTrainer", datasets: list[str], train_seconds: float | None) -> AdapterCard:
    """
    The card of the adapter that is trained, with what is known of it so far.

    Args:
        trainer ([`RPOTrainer`]): the trainer.
        datasets (`list[str]`): datasets on the Hub that the prompts came from.
        train_seconds (`float`, *optional*): how long training took.
    """
    lora = trainer.model.peft_config["default"]
    judges = [judge for func in trainer.reward_funcs if isinstance(func, JudgeReward) for judge in func.members]
    rubrics = list(dict.fromkeys(judge.rubric for judge in judges if judge.rubric is not None))
    args = trainer.args
    curve = [
        {"step": entry["step"], "win rate": entry["eval_win_rate"]}
        | ({"all criteria": entry["eval_success_all"]} if "eval_success_all" in entry else {})
        for entry in trainer.state.log_history
        if entry.get("eval_win_rate") is not None
    ]
    # the last step may have been evaluated twice
    curve = list({row["step"]: row for row in curve}.values())
    return AdapterCard(
        subfolder=args.adapter_subfolder,
        base_model=trainer.base_model,
        task="image-editing" if trainer.policy.editing else "text-to-image",
        pipeline_class=trainer.policy.pipeline_class.__name__,
        prompt=next(iter(trainer.eval_dataset if trainer.eval_dataset is not None else trainer.train_dataset))[
            "prompt"
        ],
        lora_r=lora.r,
        lora_alpha=lora.lora_alpha,
        target_modules=lora.target_modules,
        inference={
            "height": args.eval_height,
            "width": args.eval_width,
            "num_inference_steps": args.eval_num_inference_steps,
            trainer.policy.guidance_argument: args.guidance_scale,
            **trainer.policy.call_kwargs(args.eval_height, args.eval_width),
        },
        call_setup=trainer.policy.call_setup(),
        dtype=str(trainer.policy.dtype).removeprefix("torch."),
        training=training_settings(args),
        rewards=trainer.reward_func_names,
        rubric=rubrics[0] if rubrics else None,
        further_rubrics=rubrics[1:],
        judge=", ".join(dict.fromkeys(public_name(judge.model.model)[0] for judge in judges)) or None,
        datasets=datasets,
        results=trainer.evaluation,
        learning_curve=curve,
        samples="samples.png" if trainer.evaluation is not None else None,
        train_seconds=train_seconds,
        hardware=_hardware(trainer.accelerator.num_processes),
        versions={name: version(name) for name in ("arr_trl", "trl", "transformers", "diffusers", "peft", "torch")},
        **base_license(trainer.base_model),
    )


def _hardware(num_processes: int) -> str:
    if torch.cuda.is_available():
        return f"{num_processes} × {torch.cuda.get_device_name()}"
    return f"{num_processes * torch.get_num_threads()} CPU threads"
