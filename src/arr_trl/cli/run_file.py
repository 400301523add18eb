"""What a run was given, kept beside its release: an evaluation later reads it, and the end of the run says what is next."""

import json
import re
import shlex
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..chat.addresses import without_secrets
from ..folders import replacing
from ..text_files import read_json, read_text
from .judge_arguments import JudgeArguments


if TYPE_CHECKING:
    from ..trainer import FlowConfig
    from .train_arguments import TrainArguments

RUN_FILE = "run.json"
_OF_SCRIPT = ("dataset_config", "prompt_column", "source_column", "reward_funcs", "eval_funcs")
_OF_CONFIG = ("guidance_scale", "max_sequence_length", "condition_size", "negative_prompt", "size_from_source")


def save_run(script_args: "TrainArguments", training_args: "FlowConfig") -> None:
    """
    Write what `arr-trl evaluate` would have to be told, to `run.json` in the output folder.

    Args:
        script_args ([`TrainArguments`]): the options of the command.
        training_args ([`FlowConfig`]): the configuration of the trainer.
    """
    names = script_args.dataset_name if script_args.eval_dataset_name is None else [script_args.eval_dataset_name]
    given = {
        "model": script_args.model_name_or_path,
        "dataset": names[0],
        "dataset_split": script_args.eval_dataset_split or script_args.dataset_split,
        "adapter": training_args.adapter_subfolder,
        "height": training_args.eval_height,
        "width": training_args.eval_width,
        "num_inference_steps": training_args.eval_num_inference_steps,
        **{name: getattr(training_args, name, None) for name in _OF_CONFIG},
        **{name: getattr(script_args, name) for name in _OF_SCRIPT},
    }
    for setting in fields(JudgeArguments):
        usual = setting.default if setting.default_factory is MISSING else setting.default_factory()
        if getattr(script_args, setting.name) != usual:
            given[setting.name] = getattr(script_args, setting.name)
    given = {name: value for name, value in given.items() if not _holds_a_secret(value)}
    with replacing(Path(training_args.output_dir) / RUN_FILE) as written:
        text = json.dumps({name: value for name, value in given.items() if value is not None}, indent=2)
        written.write_text(text + "\n", encoding="utf-8")


def _holds_a_secret(value: Any) -> bool:
    """Whether a server's address is among the values that names a user, a password or, in a query, most likely a key."""
    texts = [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]
    return any("://" in text and without_secrets(text) != text for text in texts)


def with_run(argv: list[str], aliases: dict[str, str]) -> list[str]:
    """
    A command line in which `--run FOLDER` is what that run was given; what stands beside it wins.

    Args:
        argv (`list[str]`): the command line.
        aliases (`dict[str, str]`): other names of options, without dashes.

    Raises:
        `ValueError`: when the folder is not that of a run.
    """
    argv = [part for word in argv for part in (word.split("=", 1) if word.startswith("--run=") else [word])]
    if "--run" not in argv:
        return argv
    at = argv.index("--run")
    folder, argv = Path("".join(argv[at + 1 : at + 2])), argv[:at] + argv[at + 2 :]
    file = folder / RUN_FILE
    if not file.is_file():
        raise ValueError(
            f"There is no {RUN_FILE} in {folder}; `--run` takes the output folder of a run, which every command that trains "
            "writes it to. Without it name `model`, `dataset`, `adapter` and the judge yourself."
        )
    try:
        given = read_json(read_text(file))
    except ValueError as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    here = {word[2:].partition("=")[0].replace("-", "_") for word in argv if word.startswith("--")}
    here = {aliases.get(name, name) for name in here}
    given["adapter"] = str(folder / given["adapter"])
    return [word for name, value in given.items() if name not in here for word in _option(name, value)] + argv


def _option(name: str, value: Any) -> list[str]:
    if isinstance(value, dict):
        return [f"--{name}", json.dumps(value)]
    return [f"--{name}", *(str(item) for item in (value if isinstance(value, list) else [value]))]


def what_next(training_args: "FlowConfig") -> str:
    """What one does with a finished run, as commands with its own values."""
    folder = shlex.quote(str(training_args.output_dir))
    name = re.sub(r"[^\w.-]+", "-", Path(training_args.output_dir).resolve().name)
    lines = [
        "Next, on more prompts or with more pictures of each, and with a report:",
        f"  arr-trl evaluate --run {folder} --output {shlex.quote(str(Path(training_args.output_dir) / 'evaluation'))}",
    ]
    if not training_args.push_to_hub:
        lines += [
            "and to share it; with `--dry_run` it shows what would be sent, and sends nothing:",
            f"  arr-trl push {folder} --repo_id YOUR_NAME/{name} --dry_run",
        ]
    return "\n".join(lines)
