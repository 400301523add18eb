"""
What every command that trains does: read its options, build its trainer, train, evaluate, and write the release. The same
steps stand in examples/scripts/rpo_flux.py.
"""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers.utils import logging as transformers_logging

from ..folders import check_writable
from .arguments import TINY_SCENES, TINY_SCENES_EDIT, explained, parse, with_config_files
from .launch import LAUNCH_HELP, OPTION, launch, split_options
from .lines import say
from .run_file import save_run, what_next
from .train_arguments import TrainArguments, build_rewards, load_prompt_datasets, lora_config


if TYPE_CHECKING:
    from trl import TrlParser

    from ..trainer import FlowConfig, FlowTrainer


def train(
    argv: list[str],
    command: str,
    description: str,
    script_arguments_class: type[TrainArguments],
    config_class: "type[FlowConfig]",
    trainer_class: "type[FlowTrainer]",
    load_rewards: Callable[[TrainArguments, "FlowConfig"], dict[str, Any]] = build_rewards,
    load_datasets: Callable[[TrainArguments, "FlowConfig"], dict[str, Any]] = load_prompt_datasets,
) -> int:
    """
    Run a command that trains, in this process or, with `--accelerate_config`, in several.

    Args:
        argv (`list[str]`): what follows the command.
        command (`str`): its name, such as `rpo`.
        description (`str`): what its help says it does.
        script_arguments_class (`type`): a dataclass of its options, [`TrainArguments`] or a subclass.
        config_class (`type`): the configuration of its trainer, such as [`RPOConfig`], whose fields are options too.
        trainer_class (`type`): its trainer, such as [`RPOTrainer`].
        load_rewards (`Callable`, *optional*, defaults to [`build_rewards`]):
            Takes both sets of options and returns the trainer's arguments that measure pictures.
        load_datasets (`Callable`, *optional*, defaults to [`load_prompt_datasets`]):
            Takes both sets of options and returns the trainer's arguments that hold rows.

    Returns:
        `int`: exit status, 0 for success, 1 when training, release or push failed.

    Raises:
        `SystemExit`: with status 2, for input that has to be changed.
    """
    with quiet():
        from safetensors import SafetensorError
        from trl import TrlParser

        from ..data import RowError, StreamError
        from ..judges import JudgeFailureError, StoreError
        from ..release import PushError
        from ..trainer import CheckpointError, RewardError

        parser = TrlParser(
            (script_arguments_class, config_class),
            prog=f"arr-trl {command}",
            description=description,
            epilog=LAUNCH_HELP,
        )
        with explained():
            argv = with_config_files(argv)
        with_accelerator = let_it_be_on_the_cpu(parser, argv)
        if OPTION in argv:
            with explained():
                argv, of_launcher = split_options(parser, argv)
                parse(parser, argv)  # what is wrong with them is said once, not by every process
            return launch(command, argv, of_launcher)
        with explained(CheckpointError):
            script_args, training_args = parse(parser, argv)
            _check_given(script_args, training_args)
            is_tiny = script_args.model_name_or_path in (TINY_SCENES, TINY_SCENES_EDIT)
            if is_tiny:
                from ..tiny_scenes import use_one_thread

                use_one_thread()
            rewards = load_rewards(script_args, training_args)
            datasets = load_datasets(script_args, training_args)
            trainer = trainer_class(
                model=script_args.model_name_or_path,
                args=training_args,
                peft_config=lora_config(script_args, training_args),
                **rewards,
                **datasets,
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


def _check_given(script_args: TrainArguments, training_args: "FlowConfig") -> None:
    """What can be wrong with the input and costs nothing to find."""
    if script_args.model_name_or_path is None or script_args.dataset_name is None:
        raise ValueError("`model_name_or_path` and `dataset_name` are needed: what is trained, and on which prompts.")
    if script_args.eval_dataset_split is None:
        asked = f"eval_strategy={training_args.eval_strategy.value}" if training_args.eval_strategy != "no" else None
        if script_args.eval_dataset_name is not None:
            asked = f"eval_dataset_name={script_args.eval_dataset_name}"
        if asked is not None:
            raise ValueError(
                f"{asked} needs `eval_dataset_split`, without which there is no evaluation; a file has one split, `train`."
            )
    check_writable(training_args.output_dir, "output_dir")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep from users what transformers and TRL say to each other while loading: deprecated names, optional packages."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # also of what is loaded later
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
