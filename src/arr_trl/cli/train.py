"""
What every command that trains does: read its options, build its trainer, train, evaluate, and write the release. The same
steps stand in examples/scripts/rpo_flux.py.
"""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..folders import check_writable
from .arguments import TINY_SCENES, TINY_SCENES_EDIT, explained, parse, parse_early, with_config_files
from .command import TrainCommand
from .launch import OPTION, launch, split_options
from .lines import say
from .run_file import save_run, what_next
from .train_arguments import TrainArguments, lora_config


if TYPE_CHECKING:
    from trl import TrlParser

    from ..trainer import FlowConfig, FlowTrainer


def train(argv: list[str], command: TrainCommand) -> int:
    """
    Run a command that trains, in this process or, with `--accelerate_config`, in several.

    What can be said of the input without its trainer is said first: to import that takes seconds.

    Args:
        argv (`list[str]`): what follows the command.
        command ([`TrainCommand`]): what it takes and trains.

    Returns:
        `int`: exit status, 0 for success, 1 when training, release or push failed.

    Raises:
        `SystemExit`: with status 2, for input that has to be changed.
    """
    of_launcher, made = None, None
    with explained():
        argv = with_config_files(argv)
        if OPTION in argv:
            argv, of_launcher = split_options(command.parser(command.light_config_class()), argv)
        early = read_early(command, argv)
    with quiet():
        if early is not None and of_launcher is None:
            with explained():
                made = _make(command, *early)

        from safetensors import SafetensorError

        from ..data import RowError, StreamError
        from ..judges import JudgeFailureError, StoreError
        from ..release import PushError
        from ..trainer import CheckpointError, RewardError

        with explained(CheckpointError):
            script_args, training_args, with_accelerator = read(command, argv)
        if of_launcher is not None:  # what is wrong with the options has been said once, not by every process
            return launch(command.name, argv, of_launcher)
        with explained(CheckpointError):
            is_tiny = script_args.model_name_or_path in (TINY_SCENES, TINY_SCENES_EDIT)
            if is_tiny:
                from ..tiny_scenes import use_one_thread

                use_one_thread()
            if made is None:
                made = _make(command, script_args, training_args)
            trainer = command.trainer_class()(
                model=script_args.model_name_or_path,
                args=training_args,
                peft_config=lora_config(script_args, training_args),
                **made,
            )
    if trainer.is_world_process_zero():
        if not with_accelerator:
            print("There is no accelerator here: this runs on the CPU (use_cpu=True).")
        save_run(script_args, training_args)
        print(trainer.batch_arithmetic())
        if is_tiny and (passes := trainer.passes_per_step()) is not None:
            from ..tiny_scenes import how_long

            say(how_long(passes, training_args.max_steps, script_args.model_name_or_path == TINY_SCENES_EDIT))
    try:
        trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
    except (
        CheckpointError,
        ConnectionError,
        FloatingPointError,
        JudgeFailureError,
        RewardError,
        RowError,
        StoreError,
        StreamError,
    ) as error:
        print(f"arr-trl: {error}", file=sys.stderr)
        return 1
    try:
        failure = _write_release(trainer, script_args.dataset_name)
    except (FloatingPointError, OSError, SafetensorError) as error:
        print(
            f"arr-trl: {training_args.output_dir} could not be written to: {error}. The trained adapter is in "
            f"{trainer.last_checkpoint or 'no checkpoint'}.",
            file=sys.stderr,
        )
        return 1
    push = None
    try:
        if training_args.push_to_hub:
            # saves and writes the card again, so that whoever calls it alone pushes what was trained
            push = trainer.push_to_hub(dataset_name=_on_the_hub(script_args.dataset_name))
    except (PushError, ValueError) as error:
        print(f"arr-trl: {error}", file=sys.stderr)
        return 1
    if push is not None:
        print(f"Pushed to {push.commit_url}")
    if trainer.is_world_process_zero() and failure is None:
        print(what_next(training_args))
    # a process that leaves the group open may abort while it exits, which its launcher takes for a failure
    trainer.accelerator.end_training()
    return 0 if failure is None else 1


def let_it_be_on_the_cpu(parser: "TrlParser", argv: list[str]) -> bool:
    """
    Let a run be on the CPU, in float32, where there is nothing else and it says nothing of both: transformers would answer
    every mistake in the input with what is missing.

    Returns:
        `bool`: whether there is an accelerator, or the input says that it knows.
    """
    import torch

    if torch.accelerator.is_available():
        return True
    parser.set_defaults(use_cpu=True, bf16=False)
    files = [Path(file) for option, file in pairwise(argv) if option == "--config"]
    said = " ".join(argv) + "".join(file.read_text(errors="ignore") for file in files if file.is_file())
    return "use_cpu" in said


def _on_the_hub(names: list[str]) -> list[str]:
    return [name for name in names if name not in (TINY_SCENES, TINY_SCENES_EDIT) and not Path(name).exists()]


def _write_release(trainer: "FlowTrainer", dataset_names: list[str]) -> Exception | None:
    """
    Write the adapter, what an evaluation found, and the card.

    Returns:
        `Exception`: what ended the evaluation or kept the card from being written, which takes nothing from what was
            trained; `None` if nothing did.
    """
    training_args, failure = trainer.args, None
    trainer.save_model(_internal_call=True)  # `_internal_call`: the push waits for evaluation and card
    if trainer.eval_dataset is not None:
        try:
            trainer.evaluate_release()
        except Exception as error:  # a judge that broke, or whatever functions of users raise
            failure = error
            print(
                f"arr-trl: The evaluation failed ({type(error).__name__}: {error}) The trained adapter and its card are "
                "written without it; `arr-trl evaluate` measures it later.",
                file=sys.stderr,
            )
    trainer.save_state()
    written = [trainer.adapter_folder.name]
    try:
        trainer.create_model_card(dataset_name=_on_the_hub(dataset_names))
    except ValueError as error:  # somebody has edited it since the run began
        failure = error
        print(f"arr-trl: The adapter is written, its model card is not: {error}", file=sys.stderr)
    else:
        written.append("README.md")
    if not trainer.is_world_process_zero():
        return failure
    if trainer.evaluation is not None:
        from ..evaluation import print_table

        trainer.evaluation.save(Path(training_args.output_dir) / "results.json")
        print_table(trainer.evaluation)
        written += ["samples.png", "results.json", "report.html"]
        if trainer.evaluation.failure_rate == 1:
            reason = trainer.evaluation.last_failure
            failure = ValueError(reason or "no reward function answered")
            print(
                f"arr-trl: The evaluation got no verdict on any of its {trainer.evaluation.prompts} prompts"
                + (f"; the last failure was: {reason}" if reason else ", since no reward function answered.")
                + " The adapter is written; repair the judge, and `arr-trl evaluate` measures it.",
                file=sys.stderr,
            )
    print(f"The adapter is that of {trainer.released}.")
    say(
        f"Wrote {', '.join(written[:-1]) + ' and ' if written[1:] else ''}{written[-1]} to {training_args.output_dir}."
    )
    return failure


def _make(command: TrainCommand, script_args: TrainArguments, training_args: "FlowConfig") -> dict[str, Any]:
    """The trainer's arguments that measure pictures, and those that hold rows; once it is known that they can be written."""
    check_writable(training_args.output_dir, "output_dir")
    return command.load_rewards(script_args, training_args) | command.load_datasets(script_args, training_args)


def read_early(command: TrainCommand, argv: list[str]) -> tuple[TrainArguments, Any] | None:
    """
    [`read`] before anything is imported that takes seconds; what only transformers can check is not checked.

    Returns:
        `tuple` or `None`: both sets of options, `None` where sources alone do not tell.

    Raises:
        `ValueError`: as [`read`].
    """
    early = parse_early(command.parser(command.light_config_class()), argv)
    if early is not None:
        check_given(*early)
    return early


def read(command: TrainCommand, argv: list[str]) -> tuple[TrainArguments, "FlowConfig", bool]:
    """
    Both sets of options of a command that trains, and whether there is an accelerator, or the input says that it knows.

    Raises:
        `ValueError`: when one cannot be, or what is needed is missing.
    """
    parser = command.parser(command.config_class())
    with_accelerator = let_it_be_on_the_cpu(parser, argv)
    script_args, training_args = parse(parser, argv)
    check_given(script_args, training_args)
    return script_args, training_args, with_accelerator


def check_given(script_args: TrainArguments, training_args: "FlowConfig") -> None:
    """
    What can be wrong with the input and costs nothing to find.

    Raises:
        `ValueError`: when something is missing.
    """
    if script_args.model_name_or_path is None or script_args.dataset_name is None:
        raise ValueError("`model_name_or_path` and `dataset_name` are needed: what is trained, and on which prompts.")
    if script_args.eval_dataset_split is None:
        strategy = str(getattr(training_args.eval_strategy, "value", training_args.eval_strategy))
        asked = f"eval_strategy={strategy}" if strategy != "no" else None
        if script_args.eval_dataset_name is not None:
            asked = f"eval_dataset_name={script_args.eval_dataset_name}"
        if asked is not None:
            raise ValueError(
                f"{asked} needs `eval_dataset_split`, without which there is no evaluation; a file has one split, `train`."
            )


@contextmanager
def quiet() -> Iterator[None]:
    """Keep from users what transformers and TRL say to each other while loading: deprecated names, optional packages."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # also of what is loaded later
    from transformers.utils import logging as transformers_logging

    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
