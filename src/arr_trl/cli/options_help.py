"""The help of a command with many options: those that most runs need, in groups; the others are in `--help_all`."""

import re
import shutil
import textwrap
from argparse import SUPPRESS, Action, ArgumentParser


_GROUPS = {
    "Model": (
        "model_name_or_path", "model", "adapter_path", "adapter", "lora_r", "lora_alpha", "lora_target_modules", "base_precision",
        "offload_encoders", "offload_blocks", "gradient_checkpointing", "dtype", "use_cpu", "bf16",
    ),
    "Data": (
        "dataset_name", "dataset", "dataset_split", "eval_dataset_name", "eval_dataset_split", "prompt_column", "source_column",
        "limit",
    ),
    "Judge and rewards": (
        "method", "judge_preset", "verdicts", "judge_name", "judge_model", "rubric", "base_url", "judge_provider", "judge_local", "judge_mode", "judge_order", "judge_pairs",
        "reward_funcs", "eval_funcs", "watch_funcs",
    ),
    "Sampling": (
        "height", "width", "num_generations", "num_inference_steps", "guidance_scale", "classifier_free_guidance", "sde_type",
        "noise_level", "sde_window_size", "max_sequence_length", "batch_size", "seed",
    ),
    "Objective": (
        "loss_type", "first_token_weight", "pair_reward", "learning_rate", "beta", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps",
        "num_iterations", "ema_decay",
    ),
    "Evaluation": (
        "eval_strategy", "eval_steps", "eval_num_inference_steps", "num_eval_samples", "early_stopping",
        "load_best_model_at_end",
    ),
    "Output": (
        "output_dir", "output", "adapter_subfolder", "logging_steps", "save_strategy", "save_steps", "save_total_limit",
        "resume_from_checkpoint", "report_to", "dry_run",
    ),
    "Hub": ("push_to_hub", "hub_model_id", "hub_strategy", "hub_private_repo", "repo_id", "private"),
}  # fmt: skip
OPTIONS = tuple(name for names in _GROUPS.values() for name in names)
# What most runs leave as it is of the options that commands beside those that train have; their others are shown.
_RARE = (
    "api_key_env", "judge_decide", "judge_tie_margin", "judge_calibration", "judge_score_range", "judge_rule", "judge_weights",
    "judge_normalise", "judge_language", "judge_num_criteria", "judge_max_tokens", "judge_temperature", "judge_max_concurrency",
    "judge_timeout_s", "judge_max_retries", "judge_max_image_size", "judge_sleep", "judge_extra_body", "judge_store",
    "data_files", "dataset_config", "dataset_revision", "max_bad_rows", "condition_size", "negative_prompt",
    "compare_base_url", "compare_api_key_env", "compare_judge_decide", "compare_judge_language",
    "writer_api_key_env", "verifier_api_key_env", "critic_api_key_env", "instruct_api_key_env",
    "edit_condition_size", "edit_max_sequence_length", "max_tokens", "temperature", "max_concurrency", "max_failure_rate",
    "prompts_at_once", "pictures_seed", "max_instruction_words", "min_pixel_change", "max_changed_share",
)  # fmt: skip
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
    if everything:
        parser.print_help()
        return
    options = [action for action in parser._actions if action.option_strings and action.dest != "help"]
    actions: dict[str, Action] = {}
    for action in options:
        actions.setdefault(action.dest, action)  # and not `--no_x`, which comes after `--x`
    groups = {title: [actions[name] for name in names if name in actions] for title, names in _GROUPS.items()}
    if "learning_rate" not in actions:  # trainers have a hundred that are transformers'
        groups = {"This command": [a for name, a in actions.items() if name not in OPTIONS + _RARE]} | groups
    width = min(shutil.get_terminal_size().columns, 110)
    required = "".join(f" {action.option_strings[0]} ..." for action in actions.values() if action.required)
    lines = [*textwrap.wrap(f"usage: {parser.prog}{required} [--config FILE] [--OPTION VALUE ...]", width), ""]
    lines += [*textwrap.wrap(" ".join((parser.description or "").split()), width), ""]
    lines += textwrap.wrap(
        "Options may stand in YAML files, one `name: value` a line; later files and options win. A file that ships with the "
        "package is named without its ending, such as rpo_flux.",
        width,
    )
    for title, some in groups.items():
        lines += ["", f"{title}:"] if some else []
        for action in some:
            lines += textwrap.wrap(
                _said(action), width, initial_indent=f"  {action.option_strings[0]:<30} ", subsequent_indent=" " * 33,
                max_lines=2, placeholder=" …",
            )  # fmt: skip
    shown = sum(map(len, groups.values()))
    all_of = "shows all of them" if shown < len(actions) else "says more of each"
    lines += ["", f"{shown} of {len(actions)} options; {HELP_ALL} {all_of}.", ""]
    lines += textwrap.wrap(parser.epilog or "", width)
    print("\n".join(lines).rstrip())


def _said(action: Action) -> str:
    """The first sentence about an option, and what it is unless given."""
    text = "" if action.help in (None, SUPPRESS) else " ".join(action.help.split())
    said = re.split(r"(?<=[.;])\s", text, maxsplit=1)[0].rstrip(";")
    if action.required:
        return f"{said} (required)"
    if action.default in (None, SUPPRESS, "", [], False):
        return said
    return f"{said} ({getattr(action.default, 'value', action.default)})"
