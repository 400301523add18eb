"""`arr-trl doctor`: what a run would founder on and what it will cost, before it costs anything."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from .arguments import explained, with_config_files
from .command import TRAINERS, TrainCommand, command_of
from .lines import say
from .train import quiet, read, read_early
from .train_arguments import TrainArguments, lora_config


if TYPE_CHECKING:
    from ..judges import JudgeReward
    from ..trainer import FlowConfig

_HELP = """usage: arr-trl doctor [rpo|grpo|nft|align-prop|dpo] --config FILE
                      [--OPTION VALUE ...]

Says what a run with these options would founder on (packages, model, prompts,
rubric, server), shows what the judge replies to one real question, and counts
what a step asks and takes and whether it fits the card. No weights are read.

The first word is the command that trains; unset, the first of them that knows
every setting of the files. Options are those of that command, which
`arr-trl doctor rpo --help` shows.
"""
_BESIDE = 1.5e9  # bytes of a card that allocator, CUDA context and work space of kernels take


def run(argv: list[str]) -> int:
    """Examine a run; the exit status is 1 where something has to be mended."""
    if not argv:
        print(_HELP)
        return 2
    if {"-h", "--help"} & set(argv):
        print(_HELP)
        if argv[0] in TRAINERS:
            read_early(command_of(argv[0]), ["--help"])
        sys.exit(0)
    with explained():
        if argv[0] in TRAINERS:
            command, argv = command_of(argv[0]), argv[1:]
        else:
            command = command_for(argv)
    return examine(argv, command)


def command_for(argv: list[str]) -> TrainCommand:
    """
    The first command that trains and knows every setting, and its value where it is one of a few, of the files behind `--config`.

    Raises:
        `ValueError`: when none does.
    """
    import yaml

    from ..text_files import read_text

    words = with_config_files(argv)
    files = [words[i + 1] for i, word in enumerate(words) if word == "--config"]
    settings = {name: value for file in files for name, value in (yaml.safe_load(read_text(file)) or {}).items()}
    for command in map(command_of, TRAINERS):
        options = [*fields(command.arguments), *fields(command.light_config_class())]
        known = {option.name: option.metadata.get("choices") for option in options}
        if all(name in known and value in (known[name] or [value]) for name, value in settings.items()):
            return command
    raise ValueError(
        f"No command that trains knows all of these settings; name the one that is meant: {', '.join(TRAINERS)}."
    )


def examine(argv: list[str], command: TrainCommand) -> int:
    """As [`~arr_trl.cli.train.train`], up to where a model would be loaded; returns 1 where something has to be mended."""
    with explained():
        argv = with_config_files(argv)
        read_early(command, argv)
    with quiet(), explained():
        script_args, args, _ = read(command, argv)
        print(f"arr-trl {command.name}, {script_args.model_name_or_path}")
        examined = _Examined(script_args, args, command)
        faults = 0
        for name, part in (
            ("packages", examined.packages),
            ("model", examined.model),
            ("prompts", examined.data),
            ("rewards", examined.rewards),
            ("judge", examined.judge),
            ("settings", examined.settings),
            ("a step", examined.step),
            ("memory", examined.memory),
        ):
            faults += _tell(name, part)
    print("Nothing is missing." if not faults else f"{faults} to mend.", file=sys.stderr if faults else sys.stdout)
    return 1 if faults else 0


def _tell(name: str, part: Callable[[], Iterator[str]]) -> int:
    """Print what a part of the examination finds; returns 1 where it ends with what has to be mended."""
    try:
        for line in part():
            say(f"  ok  {name}: {line}", indent=" " * 6)
    except (ValueError, TypeError, OSError, ImportError) as error:
        say(f"  !!  {name}: {error}", indent=" " * 6)
        return 1
    return 0


class _Examined:
    """What is known so far of a run that is examined; each method yields lines, and raises what has to be mended."""

    def __init__(self, script_args: TrainArguments, args: "FlowConfig", command: TrainCommand):
        from ..shipped import place_of

        self.script_args, self.args, self.command = script_args, args, command
        self.place = place_of(script_args.model_name_or_path)
        self.policy_class = None
        self.rewarding: dict[str, list[Callable]] | None = None
        self.rows: dict[str, Any] | None = None

    @property
    def judges(self) -> "list[JudgeReward]":
        from ..judges import JudgeReward

        functions = [f for functions in (self.rewarding or {}).values() for f in functions]
        return [f for f in functions if isinstance(f, JudgeReward)]

    def packages(self) -> Iterator[str]:
        from ..trainer.inherited import check_inherited

        check_inherited(self.args)
        if self.script_args.judge_local and find_spec("torchvision") is None:
            raise ValueError("judge_local needs torchvision for the judge's pictures; install `arr_trl[judge]`.")
        yield "what these settings need is installed"

    def model(self) -> Iterator[str]:
        from diffusers import AutoencoderKL

        from ..policies import check_model, policy_class_of
        from ..policies.files import file_kwargs
        from ..shipped import check_sizes_of_shipped

        init_kwargs, args = self.args.model_init_kwargs or {}, self.args
        policy_class = policy_class_of(self.place, **init_kwargs)
        check_model(self.place, **init_kwargs)
        sizes = {name: getattr(args, name) for name in ("height", "width", "eval_height", "eval_width")}
        vae = AutoencoderKL.load_config(self.place, subfolder="vae", **file_kwargs(init_kwargs))
        policy_class.check_sizes(sizes, policy_class.size_multiple_of(vae))
        check_sizes_of_shipped(self.place, sizes)
        self.policy_class = policy_class
        yield f"{policy_class.pipeline_class.__name__}, {args.height} × {args.width} pixels"

    def data(self) -> Iterator[str]:
        from datasets import Dataset

        from ..trainer import OnlineConfig
        from ..trainer.checks import check_enough_prompts

        self.rows = self.command.load_datasets(self.script_args, self.args)
        train, held_out = self.rows["train_dataset"], self.rows["eval_dataset"]
        if isinstance(self.args, OnlineConfig):
            check_enough_prompts(self.args, train)
        count = f"{len(train)} rows" if isinstance(train, Dataset) else "a stream"
        evaluated = "no evaluation" if held_out is None else f"{len(held_out)} to evaluate on"
        yield f"{count} with {', '.join(train.column_names or next(iter(train)))}; {evaluated}"

    def rewards(self) -> Iterator[str]:
        self.rewarding = self.command.load_rewards(self.script_args, self.args)
        names = [getattr(f, "__name__", type(f).__name__) for f in self.rewarding["reward_funcs"]]
        yield ", ".join(names) or "none, which this command does not need"
        for judge in self.judges:
            for rubric in judge.rubrics:
                yield f"rubric {rubric.name}, {len(rubric.criteria)} criteria"

    def judge(self) -> Iterator[str]:
        from ..data import undecoded
        from ..trainer import OnlineConfig
        from ..trainer.checks import num_beside_candidates
        from ..trainer.rehearse import rehearse

        if self.rows is None:
            return
        rows = undecoded(self.rows["train_dataset"])
        for judge in self.judges:
            judge.check_first_row(rows)
            candidates = self.args.num_generations if isinstance(self.args, OnlineConfig) else 2
            sources, shown_beside = num_beside_candidates(rows)
            judge.check_for(candidates, shown_beside)
            for said in rehearse(judge, rows, self.args.height, self.args.width, sources or 0):
                if said.failure is not None:
                    raise ValueError(f"asked about two flat pictures, {said}")
                yield f"asked about two flat pictures, {said}"

    def settings(self) -> Iterator[str]:
        from ..trainer.checks import check_arguments, check_family, check_placement
        from ..trainer.trainable import adapter_to_train

        if self.rewarding is None or self.rows is None or self.policy_class is None:
            return
        args, model = self.args, self.place
        asked = self.rewarding | self.rows
        peft_config, _ = adapter_to_train(model, args, lora_config(self.script_args, args))
        args.rehearse_judge = False  # it was
        names = [getattr(f, "__name__", type(f).__name__) for f in asked["reward_funcs"]]
        check_arguments(
            self.command.trainer_class().__name__, args, asked["reward_funcs"], names, asked["eval_funcs"], asked["watch_funcs"],
            asked["train_dataset"], asked["eval_dataset"], peft_config,
        )  # fmt: skip
        check_placement(model, args)
        check_family(model, args, asked["eval_funcs"], asked["train_dataset"], asked["eval_dataset"])
        yield "they go together"

    def step(self) -> Iterator[str]:
        from ..trainer import OnlineConfig
        from ..trainer.cost import passes_of_a_step

        args = self.args
        if self.policy_class is not None:
            scale = self.policy_class.default_guidance_scale if args.guidance_scale is None else args.guidance_scale
            off = self.policy_class.cfg_off_scale
            passes = passes_of_a_step(args, guided=off is not None and scale > off)
            yield f"{passes:,.0f} passes of the transformer on each device, a backward counted as one"
        if isinstance(args, OnlineConfig):
            prompts = (
                args.prompts_per_rollout * args.world_size * args.gradient_accumulation_steps / args.steps_per_rollout
            )
            questions = sum(judge.questions_per_row(args.num_generations) for judge in self.judges) * prompts
            total = f", {questions * args.max_steps:,.0f} in {args.max_steps:,} steps" if args.max_steps > 0 else ""
            yield f"{prompts:,.4g} prompts, {prompts * args.num_generations:,.4g} pictures"
            if questions:
                yield f"{questions:,.4g} questions to the judge{total}"

    def memory(self) -> Iterator[str]:
        from datasets import Dataset

        from ..trainer.fit import card, memory_of

        if self.policy_class is None:
            return
        train = None if self.rows is None else self.rows["train_dataset"]
        evaluates = self.rows is not None and self.rows["eval_dataset"] is not None
        peft_config = lora_config(self.script_args, self.args)
        if peft_config is None and self.args.use_peft:
            yield "not counted with `adapter_path`, whose adapter is read when the run begins"
            return
        prompts = len(train) if isinstance(train, Dataset) else None
        needed = memory_of(self.place, self.args, peft_config, prompts, evaluates)
        yield f"counted, {needed}"
        found = card()
        if found is None:
            yield "there is no card here to hold against it"
            return
        name, size = found
        if needed.peak + _BESIDE > size:
            raise ValueError(
                f"{name} has {size / 1e9:.1f} GB, and about 1.5 GB of a card are never free. In this order: lower "
                "rollout_batch_size, per_device_train_batch_size with as many more gradient_accumulation_steps; then "
                + (
                    "offload_encoders, offload_blocks, base_precision."
                    if self.args.use_peft
                    else "offload_encoders, an optimizer of 8 bits such as optim=adamw_bnb_8bit, "
                    "`--accelerate_config fsdp2` over several cards, which share what is trained, or use_peft=True."
                )
            )
        yield f"{name} has {size / 1e9:.1f} GB" + ("" if needed.phases else ", of which the passes need the rest")
