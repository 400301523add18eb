"""The help of a command that trains: the options that most runs need, in groups; the others are in `--help_all`."""

import re
import shutil
import textwrap
from argparse import SUPPRESS, ArgumentParser


_GROUPS = {
    "Model": (
        "model_name_or_path", "adapter_path", "lora_r", "lora_alpha", "lora_target_modules", "base_precision",
        "offload_encoders", "offload_blocks", "gradient_checkpointing", "use_cpu", "bf16",
    ),
    "Data": (
        "dataset_name", "dataset_split", "eval_dataset_name", "eval_dataset_split", "prompt_column", "source_column",
    ),
    "Judge and rewards": (
        "method", "judge_preset", "judge_name", "judge_model", "rubric", "base_url", "judge_provider", "judge_local", "judge_mode", "judge_order", "judge_pairs",
        "reward_funcs", "eval_funcs", "watch_funcs",
    ),
    "Sampling": (
        "height", "width", "num_generations", "num_inference_steps", "guidance_scale", "classifier_free_guidance", "sde_type",
        "noise_level", "sde_window_size", "max_sequence_length",
    ),
    "Objective": (
        "loss_type", "first_token_weight", "pair_reward", "learning_rate", "beta", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps",
        "num_iterations", "ema_decay", "seed",
    ),
    "Evaluation": (
        "eval_strategy", "eval_steps", "eval_num_inference_steps", "num_eval_samples", "early_stopping",
        "load_best_model_at_end",
    ),
    "Output": (
        "output_dir", "adapter_subfolder", "logging_steps", "save_strategy", "save_steps", "save_total_limit",
        "resume_from_checkpoint", "report_to",
    ),
    "Hub": ("push_to_hub", "hub_model_id", "hub_strategy", "hub_private_repo"),
}  # fmt: skip
OPTIONS = tuple(name for names in _GROUPS.values() for name in names)
HELP_ALL = "--help_all"


def print_help(parser: ArgumentParser, everything: bool = False) -> None:
    """
    Print what a command takes.

    Args:
        parser (`argparse.ArgumentParser`): its parser.
        everything (`bool`, *optional*, defaults to `False`): every option there is, as argparse shows them.
    """
    for action in parser._actions:  # each is there with `_` and with `-`
        once = [option for option in action.option_strings if "-" not in option.lstrip("-")]
        action.option_strings = once or action.option_strings
    actions = {action.dest: action for action in parser._actions if action.option_strings}
    groups = {title: [actions[name] for name in names if name in actions] for title, names in _GROUPS.items()}
    if everything or not groups["Model"]:  # a command that does not train has few
        parser.print_help()
        return
    width = min(shutil.get_terminal_size().columns, 110)
    lines = [
        f"usage: {parser.prog} --config FILE [--config FILE] [--OPTION VALUE ...]",
        "",
        parser.description or "",
        "",
    ]
    lines += [
        *textwrap.wrap(
            "Options may stand in YAML files, one `name: value` a line; later files and options win. A file that ships with the "
            "package is named without its ending, such as rpo_flux.",
            width,
        )
    ]
    for title, some in groups.items():
        if not some:
            continue
        lines += ["", f"{title}:"]
        for action in some:
            text = "" if action.help in (None, SUPPRESS) else " ".join(action.help.split())
            said = re.split(r"(?<=[.;])\s", text, maxsplit=1)[0].rstrip(";")
            if action.default not in (None, SUPPRESS, "", [], False):
                said += f" ({getattr(action.default, 'value', action.default)})"
            lines += textwrap.wrap(
                said, width, initial_indent=f"  {action.option_strings[0]:<30} ", subsequent_indent=" " * 33,
                max_lines=2, placeholder=" …",
            )  # fmt: skip
    shown = sum(map(len, groups.values()))
    lines += ["", f"{shown} of {len(actions) - 1} options; {HELP_ALL} shows all of them.", ""]
    lines += textwrap.wrap(parser.epilog or "", width)
    print("\n".join(lines))
