"""`arr-trl judge train`: a judge that learns from labelled pairs, measured before and after, and released with its question."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..folders import check_writable
from .arguments import TINY_SCENES, explained, parse, parse_early, with_config_files
from .checks import check_limit
from .command import light_or_imported
from .launch import LAUNCH_HELP, OPTION, launch, split_options


if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import ProcessorMixin
    from trl import TrlParser

    from ..data.preferences import Preference
    from ..judge_training import JudgeFacts, JudgeTrainer
    from ..judge_training.verdict_pairs import Teacher
    from ..judges import Preset

# of each method: its trainer's configuration
CONFIGS = {
    "first-token": "arr_trl.judge_training.first_token_config.FirstTokenSFTConfig",
    "traces": "arr_trl.judge_training.first_token_config.FirstTokenSFTConfig",
    "gcpo": "arr_trl.judge_training.gcpo_config.GCPOConfig",
    "thurstone": "arr_trl.judge_training.gcpo_config.GCPOConfig",
}
METHODS = tuple(CONFIGS)
# what a method sets of its trainer's configuration, unless told otherwise
_SETTINGS = {
    "gcpo": {"pair_reward": "gcpo"},
    "thurstone": {
        "pair_reward": "thurstone",
        "scale_rewards": "group",
        "beta": 0.04,
        "num_generations": 6,
        "per_device_train_batch_size": 12,
    },
}
# those of the language model: servers take no adapter on the part that sees
LINEAR_LAYERS = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"


@dataclass(kw_only=True)
class JudgeTrainArguments:
    """What `arr-trl judge train` takes beside the configuration of the method's trainer."""

    method: str = field(
        default="first-token",
        metadata={"help": "How the judge learns: `first-token`, which label is right; `gcpo` or `thurstone`, reasons that end "
                  "in the right score; `traces`, reasons of others.", "choices": list(METHODS)},
    )  # fmt: skip
    model_name_or_path: str = field(
        metadata={"help": "The vision-language model that is trained: a repository or folder."}
    )
    judge_preset: str = field(
        metadata={
            "help": "The question it learns to answer: a name of `arr-trl judge list`, a JSON file, a folder, or a repository "
            "on the Hub."
        }
    )
    dataset_name: str = field(
        metadata={
            "help": "Labelled pairs in any layout that is read: a .jsonl, .json or .parquet file, a dataset on the Hub, or a "
            "benchmark with pairs."
        }
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration name of the dataset."})
    dataset_split: str = field(default="train", metadata={"help": "Split to train on."})
    eval_dataset_name: str | None = field(
        default=None,
        metadata={
            "help": "Pairs that it is measured on, before and after. Unset, the same dataset, `eval_dataset_split`."
        },
    )
    eval_dataset_split: str | None = field(
        default=None, metadata={"help": "Split to measure on. Unset without `eval_dataset_name`, nothing is measured."}
    )
    eval_limit: int | None = field(default=500, metadata={"help": "How many pairs to measure on at most."})
    verdicts: str | None = field(
        default=None,
        metadata={
            "help": "Verdict store of a judge under a rubric, such as judge.sqlite of a run: its verdicts about the pairs take the "
            "place of their labels, to train and to measure on, and its words are learned behind them."
        },
    )
    judge_name: str | None = field(
        default=None, metadata={"help": "What the judge is called. Unset, the name of the output folder."}
    )
    lora_r: int = field(default=32, metadata={"help": "Rank of the adapter."})
    lora_alpha: int = field(default=64, metadata={"help": "Alpha of the adapter."})
    lora_target_modules: list[str] | None = field(
        default=None,
        metadata={
            "help": "Layers that get an adapter: names, one pattern, or `all-linear`. Unset, the linear layers of the language "
            "model, the only ones that servers take adapters on."
        },
    )


def run(argv: list[str]) -> int:
    """Train, measure and write the release; 0 for success, 1 when training or the push failed."""
    from .train import let_it_be_on_the_cpu, quiet

    with explained():
        argv = with_config_files(argv)
        method = _method(argv)
        if OPTION not in argv:
            parse_early(_parser(method, light_or_imported(CONFIGS[method])), argv)
    with quiet():
        from peft import LoraConfig

        from ..judge_training import (
            FirstTokenSFTConfig,
            FirstTokenSFTTrainer,
            GCPOConfig,
            GCPOTrainer,
            answer_rows,
            question_rows,
        )
        from ..judge_training.rows import check_labels, check_traces
        from ..judge_training.trace_data import trace_rows
        from ..judge_training.traces import check_traced

        if method == "first-token":
            config_class, trainer_class = FirstTokenSFTConfig, FirstTokenSFTTrainer
            make_rows, check = answer_rows, check_labels
        elif method == "traces":
            config_class, trainer_class = FirstTokenSFTConfig, FirstTokenSFTTrainer
            make_rows, check = trace_rows, lambda preset, processor: check_traced(preset)
        else:
            config_class, trainer_class = GCPOConfig, GCPOTrainer
            make_rows, check = question_rows, check_traces
        parser = _parser(method, config_class)
        with_accelerator = let_it_be_on_the_cpu(parser, argv)
        if OPTION in argv:
            with explained():
                argv, of_launcher = split_options(parser, argv)
                parse(parser, argv)
            return launch("judge", ["train", *argv], of_launcher)

        from ..release import PushError
        from ..runtime import CheckpointError

        with explained(CheckpointError):
            args, training_args = parse(parser, argv)
            check_limit(args.eval_limit)
            check_writable(training_args.output_dir, "output_dir")
            if training_args.eval_strategy != "no":
                raise ValueError(
                    f"eval_strategy={training_args.eval_strategy.value}: a judge is measured before and after its training, on "
                    "`eval_dataset_name`, and not during it; leave `eval_strategy` out."
                )

            from ..chat.vlm import load_vlm
            from ..judge_training.rows import check_preset
            from ..judges import load_preset

            preset = load_preset(args.judge_preset)
            processor = _processor(args.model_name_or_path)
            check(preset, processor)
            pairs, held_out = load_pairs(args), load_held_out(args)
            pairs, held_out, teacher = _taught(args, pairs, held_out)
            if method != "traces":
                check_preset(preset, pairs)
            model = load_vlm(args.model_name_or_path, dtype="float32" if training_args.use_cpu else "auto")
            facts = _facts(args, len(pairs), len(held_out), teacher)
            if held_out and training_args.process_index == 0:
                _measure(facts, "before", preset, held_out, training_args.output_dir, model, processor)
            trainer = trainer_class(
                model,
                args=training_args,
                train_dataset=make_rows(pairs, preset),
                processing_class=processor,
                peft_config=LoraConfig(
                    r=args.lora_r,
                    lora_alpha=args.lora_alpha,
                    target_modules=_targets(args.lora_target_modules),
                    task_type="CAUSAL_LM",
                ),
                preset=preset,
                name=args.judge_name,
                facts=facts,
            )
    if trainer.is_world_process_zero() and not with_accelerator:
        print("There is no accelerator here: this runs on the CPU (use_cpu=True).")
    try:
        trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
    except (CheckpointError, FloatingPointError) as error:
        print(f"arr-trl: {error}", file=sys.stderr)
        return 1
    trainer.save_model(_internal_call=True)
    trainer.accelerator.wait_for_everyone()
    if trainer.is_world_process_zero():
        if held_out:
            _measure_release(trainer, held_out, teacher)
        trainer.create_model_card()
        print(f"Wrote adapter, preset.json and README.md to {training_args.output_dir}.")
    place = training_args.output_dir
    try:
        if training_args.push_to_hub and (push := trainer.push_to_hub()) is not None:
            print(f"Pushed to {push.commit_url}")
            place = push.repo_id
    except (PushError, ValueError) as error:
        print(f"arr-trl: {error}", file=sys.stderr)
        return 1
    if trainer.is_world_process_zero():
        print(f"Judge with it: --judge_preset {place} --judge_local")
    trainer.accelerator.end_training()
    return 0


def load_pairs(args: JudgeTrainArguments) -> "Dataset":
    """
    The pairs to train on.

    Raises:
        `ValueError` or `OSError`: when they cannot be read.
    """
    if args.dataset_name == TINY_SCENES:
        from ..tiny_scenes import pairs

        return pairs(args.dataset_split)
    if args.method == "traces":
        from datasets import load_dataset

        if Path(args.dataset_name).is_file():
            raise ValueError(
                f"{args.dataset_name} is a file; `--method traces` trains on the folder that `arr-trl judge traces` writes."
            )

        return load_dataset(args.dataset_name, args.dataset_config, split=args.dataset_split)
    from ..data.preference_rows import preference_rows

    return preference_rows(args.dataset_name, args.dataset_config, args.dataset_split)


def load_held_out(args: JudgeTrainArguments) -> "Sequence[Preference | str]":
    """
    The pairs to measure on; none where nothing is to be measured.

    Raises:
        `ValueError` or `OSError`: when they cannot be read, or would be those that it is trained on.
    """
    name, split = args.eval_dataset_name or args.dataset_name, args.eval_dataset_split
    if args.eval_dataset_name is None and split is None:
        return []
    split = split or "train"
    if (name, split) == (args.dataset_name, args.dataset_split):
        raise ValueError(
            "The judge would be measured on the pairs that it is trained on; give another `eval_dataset_split` or "
            "`eval_dataset_name`."
        )
    if name == TINY_SCENES:
        from ..tiny_scenes import preferences

        return preferences(args.eval_limit or 500, split=split, in_turn=True)
    from ..data.preferences import load_preferences

    return list(islice(load_preferences(name, args.dataset_config, split), args.eval_limit))


def _processor(model: str) -> "ProcessorMixin":
    from ..chat.vlm import load_processor

    try:
        return load_processor(model)
    except OSError as error:
        raise OSError(f"model_name_or_path={model} cannot be loaded: {error}") from error


def _method(argv: list[str]) -> str:
    """The method that is asked for, on which it depends which options there are."""
    import yaml

    from ..text_files import read_text

    asked = "first-token"
    for option, value in pairwise(argv):
        if option == "--config":
            content = yaml.safe_load(read_text(value))
            asked = content.get("method", asked) if isinstance(content, dict) else asked
    words = [part for word in argv for part in (word.split("=", 1) if word.startswith("--method=") else [word])]
    asked = next((value for option, value in pairwise(words) if option == "--method"), asked)
    if asked not in METHODS:
        raise ValueError(f"method={asked!r} is not one of {', '.join(METHODS)}.")
    return asked


def _parser(method: str, config_class: type) -> "TrlParser":
    from trl import TrlParser

    parser = TrlParser(
        (JudgeTrainArguments, config_class),
        prog="arr-trl judge train",
        description="Train a judge on labelled pairs.",
        epilog=LAUNCH_HELP,
    )
    parser.set_defaults(**_SETTINGS.get(method, {}))
    return parser


def _targets(names: list[str] | None) -> str | list[str]:
    if names is None:
        return LINEAR_LAYERS
    return names[0] if len(names) == 1 else names


def _taught(
    args: JudgeTrainArguments, pairs: "Dataset", held_out: "Sequence[Preference | str]"
) -> "tuple[Dataset, Sequence[Preference | str], Teacher | None]":
    """The pairs with the labels of the judge whose verdicts are given, and what it said and cost; else as they are."""
    if args.verdicts is None:
        return pairs, held_out, None
    if args.method == "traces":
        raise ValueError("`verdicts` label pairs, and method='traces' learns from traces; leave it out.")
    if not Path(args.verdicts).is_file():
        raise FileNotFoundError(
            f"There is no verdict store at {args.verdicts}; a run writes one as `judge.sqlite`, and `arr-trl judge eval` with "
            "`judge_store`."
        )
    from ..judge_training.verdict_pairs import StoredVerdicts, taught_preferences, taught_rows
    from ..judges import VerdictStore

    verdicts = StoredVerdicts(VerdictStore(args.verdicts))
    pairs, teacher = taught_rows(pairs, verdicts)
    left_out = "".join(f"; {number} {reason}" for reason, number in teacher.left_out.items())
    print(
        f"{teacher.model} under {teacher.rubric} decided {teacher.pairs} pairs to train on, {teacher.agreement:.1%} of them as they "
        f"were labelled{left_out}."
    )
    if held_out:
        held_out, teacher = taught_preferences(held_out, verdicts)
    return pairs, held_out, teacher


def _facts(args: JudgeTrainArguments, pairs: int, held_out: int, teacher: "Teacher | None") -> "JudgeFacts":
    from ..judge_training import JudgeFacts

    name, split = args.eval_dataset_name or args.dataset_name, args.eval_dataset_split or "train"
    return JudgeFacts(
        datasets=[] if args.dataset_name == TINY_SCENES else [args.dataset_name],  # which is no dataset on the Hub
        learned="It learned from "
        + (
            "reasons that models wrote about pictures, chosen by how well they agree with a verifier."
            if args.method == "traces"
            else "which of two pictures people preferred."
            if teacher is None
            else f"which of two pictures {teacher.model} preferred under the rubric {teacher.rubric}, and from its words."
        ),
        pairs=None if args.method == "traces" else pairs,
        measured_on=f"{held_out} held-out pairs of {name} (split {split})"
        + (f", labelled by {teacher.model}" if teacher is not None else "")
        if held_out
        else None,
    )


def _measure(
    facts: "JudgeFacts", when: str, preset: "Preset", pairs: "Sequence[Preference | str]", folder: str, *model: Any
) -> None:
    """Ask a model about the held-out pairs; what it answered is kept, so that a run that resumes does not ask again."""
    from ..chat.local import LocalChatModel
    from ..judge_training.measure import measure_judge
    from ..judges import PresetJudge

    store = Path(folder) / "judge_eval.sqlite"
    judge = PresetJudge(preset, LocalChatModel(*model), order="fixed", store=store, max_failure_rate=None)
    facts.measured[when], facts.calibration[when] = measure_judge(judge, pairs)


def _measure_release(trainer: "JudgeTrainer", pairs: "Sequence[Preference | str]", teacher: "Teacher | None") -> None:
    """Measure what was written, as anybody will load it, and show it beside what was before."""
    from ..evaluation.judge_eval import print_summary, save_summary
    from ..judge_training.judge_release import EVALUATION_FILE
    from ..judges import load_preset

    folder, facts = trainer.args.output_dir, trainer.facts
    _measure(facts, "after", load_preset(folder), pairs, folder, folder)
    taught_by = {} if teacher is None else {"taught_by": asdict(teacher)}
    save_summary(facts.measured | {"calibration_error": facts.calibration} | taught_by, Path(folder) / EVALUATION_FILE)
    print_summary(facts.measured)
    for sentence in [*_told_of(facts), *([] if teacher is None else teacher.beside(facts.measured["after"]))]:
        print(sentence)


def _told_of(facts: "JudgeFacts") -> list[str]:
    """What the table does not say."""
    told = []
    after = facts.measured["after"]
    if after.get("accuracy_mean") is not None and after["accuracy_mean_ci"][1] < 0.5:
        told.append(
            "It decides most held-out pairs against their labels: either it has hardly learned, or the two datasets do not say "
            "in the same way which picture was preferred. The page of `arr-trl judge eval` shows pairs and labels."
        )
    errors = [f"{when} {error:.3f}" for when, error in facts.calibration.items() if error is not None]
    return told + ([f"Calibration error of its scores: {', '.join(errors)}."] if errors else [])
