"""`arr-trl pairs best-worst` and `arr-trl pairs rich`: draw pictures, and make pairs of what models say of them."""

import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..folders import check_writable, replacing
from .arguments import TINY_SCENES, TINY_SCENES_EDIT, explained, parse
from .checks import check_limit
from .judge_arguments import as_tournament, build_judge, named_chat_model
from .pairs_arguments import BestWorstArguments, DatasetArguments, PairsArguments, RichArguments
from .picture_arguments import load_pipeline_of, read_rows, settings_of
from .shown import print_request


if TYPE_CHECKING:
    from ..chat import ChatModel
    from ..judges import JudgeReward
    from ..pairs import Painter, PairOutcome

_MADE_BY = {
    "best-worst": "Of several pictures of a prompt the one that a judge found best, and the one that it found worst.",
    "rich": "Pictures and what an editor made of them after a model's critique. A judge said which of the two is better for "
    "the prompt, in both orders; the edited one, the second, may have lost.",
}


def run_best_worst(argv: list[str]) -> int:
    from ..pairs import BestWorst, BestWorstConfig
    from ..pairs.progress import planned_for_best_worst
    from ..pairs.rows import best_worst_row

    with explained():
        args, config = _parse(argv, "best-worst", BestWorstArguments, BestWorstConfig)
        rows = _checked_rows(args)
        judge = as_tournament(build_judge(args, _store(args), order="both"), args.judge_pairs)
        judge.check_first_row(rows)
        planned = planned_for_best_worst(len(rows), config, judge)
        if args.dry_run:
            _print_plan(planned)
            return 0
        judge.check_for(config.num_candidates)
        painter = _painter(args)
    progress = _progress(args, planned, judge)
    maker = BestWorst(painter, judge, config, progress.stage, progress.done)
    return _make(args, maker.write(rows), "best-worst", progress, lambda one: best_worst_row(one, judge, painter))


def run_rich(argv: list[str]) -> int:
    from ..pairs import RichPairs, RichPairsConfig
    from ..pairs.progress import planned_for_rich
    from ..pairs.rich import writer
    from ..pairs.rows import rich_row

    with explained():
        args, config = _parse(argv, "rich", RichArguments, RichPairsConfig)
        _check_editor(args)
        rows = _checked_rows(args)
        judge = build_judge(args, _store(args), order="both")
        critic, instructor = _writers(args)
        judge.check_first_row(rows)
        planned = planned_for_rich(len(rows), config, judge)
        if args.dry_run:
            _print_plan(planned)
            _print_questions(args, config, rows[0], critic, instructor)
            return 0
        judge.check_for(2)
        for model in {id(model): model for model in (critic, instructor)}.values():
            model.check()
        painter = _painter(args)
        editor = painter if args.edit_model is None else _painter(_for_the_editor(args))
    progress = _progress(args, planned, judge)
    store = _answers(args)
    writers = [writer(progress.watch(model), store, config) for model in (critic, instructor)]
    maker = RichPairs(painter, editor, *writers, judge, config, progress.stage, progress.done)
    return _make(args, maker.write(rows), "rich", progress, lambda one: rich_row(one, judge, painter, editor))


def _make(args: PairsArguments, blocks, how: str, progress, row_of: "Callable[[PairOutcome], dict[str, Any]]") -> int:
    """Make the pairs, tell what became of them, and write those that there are."""
    from ..judges import StoreError
    from ..pairs import PairsError
    from ..pairs.outcome import dropped_by_reason
    from ..pairs.progress import summary_of
    from ..release.pairs import PairsFacts, write_pairs

    outcomes: list[PairOutcome] = []
    problem = None
    try:
        with progress:
            for block in blocks:
                outcomes += block
                progress.console.print(summary_of(outcomes, how), highlight=False, soft_wrap=True)
    except (PairsError, StoreError) as error:
        problem = str(error)
    made = [outcome for outcome in outcomes if outcome.made]
    output, dropped = Path(args.output), dropped_by_reason(outcomes)
    report = {
        "looked_at": len(outcomes),
        "pairs": len(made),
        "winners": dict(Counter(str(outcome.verdict.winner) for outcome in made)),
        "dropped": dropped,
        "problems": [outcome.problem for outcome in outcomes if outcome.problem is not None][:20],
        "stopped": problem,
        "cost": progress.cost,
    }
    with replacing(output / "report.json") as written:
        written.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if made:
        facts = PairsFacts(_MADE_BY[how], left_out=dropped)
        counts = write_pairs(map(row_of, made), output, facts, args.test_share)
        print(f"Wrote {', '.join(f'{number} rows ({split})' for split, number in counts.items())} to {output}.")
    if problem is None and not made:
        problem = f"There is not one pair: {summary_of(outcomes, how)}"
    if problem is not None:
        print(f"arr-trl: {problem}", file=sys.stderr)
        return 1
    return pushed(args)


def pushed(args: DatasetArguments) -> int:
    """Put what was written on the Hub, where that was asked for; the exit status."""
    from ..release import PushError
    from ..release.pairs import push_pairs

    if args.repo_id is None:
        return 0
    try:
        print(f"Pushed to {push_pairs(Path(args.output), args.repo_id, args.private or None)}")
    except PushError as error:
        print(f"arr-trl: {error}", file=sys.stderr)
        return 1
    return 0


def _parse(argv: list[str], command: str, arguments: type, config: type) -> tuple:
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # what it says while it is imported is not for users
    from trl import TrlParser

    parser = TrlParser((arguments, config), prog=f"arr-trl pairs {command}", description=_MADE_BY[command])
    args, config = parse(parser, argv)
    if args.model is None or args.dataset is None:
        raise ValueError("`model` and `dataset` are needed: what draws, and the prompts.")
    if not 0 <= args.test_share < 1:
        raise ValueError(f"test_share={args.test_share} is a share, 0 or greater and less than 1.")
    check_limit(args.limit)
    if not args.dry_run:
        check_writable(args.output, "output")
    if args.model in (TINY_SCENES, TINY_SCENES_EDIT):
        from ..tiny_scenes import use_one_thread

        use_one_thread()
    return args, config


def _checked_rows(args: PairsArguments) -> list[dict[str, Any]]:
    return read_rows(args, tiny_split="train")


def _store(args: PairsArguments) -> Path | None:
    store = Path(args.judge_store or Path(args.output, "work", "answers.sqlite"))
    return None if args.dry_run and not store.is_file() else store  # a dry run leaves nothing behind


def _answers(args: PairsArguments):
    from ..judges import VerdictStore

    return VerdictStore(_store(args))


def _painter(args: PairsArguments) -> "Painter":
    from ..evaluation.adapters import parse_adapters
    from ..pairs import Painter

    (adapter,) = parse_adapters([args.adapter]) if args.adapter is not None else [None]
    policy = load_pipeline_of(args)
    folder = Path(args.output, "work", "images")
    return Painter(policy, folder, settings_of(args, policy), args.model, adapter, args.batch_size)


def _for_the_editor(args: RichArguments) -> RichArguments:
    """The same options, of the editor."""
    names = ("adapter", "num_inference_steps", "guidance_scale", "condition_size", "max_sequence_length")
    own = {name: getattr(args, f"edit_{name}") for name in names}
    return replace(args, model=args.edit_model, negative_prompt=None, **own)


def _check_editor(args: RichArguments) -> None:
    from ..policies import policy_class_of
    from ..shipped import place_of

    policy_class = policy_class_of(place_of(args.model))
    if args.edit_model is None and not (policy_class.editing or policy_class.may_edit):
        raise ValueError(
            f"`edit_model` is needed, since {args.model} does not edit pictures itself; name an editor such as "
            "black-forest-labs/FLUX.1-Kontext-dev or Qwen/Qwen-Image-Edit-2511."
        )


def _writers(args: RichArguments) -> "tuple[ChatModel, ChatModel]":
    """The model that finds faults, and the one that writes instructions."""
    judges = args.judge_model or []
    if args.critic_model is None and len(judges) != 1:
        raise ValueError("`critic_model` is needed where there are several judges, or none: who finds faults?")
    name = args.critic_model or judges[0]
    url = args.critic_base_url or (args.base_url or [None])[0]
    key = args.critic_api_key_env or args.api_key_env
    critic = named_chat_model(replace(args, api_key_env=key), name, url)
    if args.instruct_model is None and args.instruct_base_url is None:
        return critic, critic
    key = args.instruct_api_key_env or key
    return critic, named_chat_model(
        replace(args, api_key_env=key), args.instruct_model or name, args.instruct_base_url or url
    )


def _progress(args: PairsArguments, planned: dict, judge: "JudgeReward"):
    from ..autorubric.progress import RunProgress

    progress = RunProgress(planned, args.price_in, args.price_out)
    for one in _asking(judge):
        one.model = progress.watch(one.model)
    return progress


def _asking(judge: "JudgeReward") -> list:
    """The judges that ask a model, in whatever they are wrapped."""
    from ..judges import EnsembleJudge, TournamentJudge
    from ..judges.chat_judge import ChatJudge

    if isinstance(judge, ChatJudge):
        return [judge]
    if isinstance(judge, TournamentJudge):
        return _asking(judge.judge)
    return [one for part in judge.judges for one in _asking(part)] if isinstance(judge, EnsembleJudge) else []


def _print_plan(planned: dict[str, tuple[int, int]]) -> None:
    stages: Counter = Counter()
    for name, (_, most) in planned.items():
        stages[name.split()[0]] += most
    for name, most in stages.items():
        print(f"{name}: at most {most} {'pictures' if name in ('sample', 'edit') else 'questions'}")


def _print_questions(args: RichArguments, config, row: dict[str, Any], *models: "ChatModel") -> None:
    """The first questions in full; a picture that is not drawn yet is shown by its size."""
    from PIL import Image

    from ..data import decode_sources
    from ..judges import VerdictStore
    from ..pairs.painter import edited
    from ..pairs.replies import EXAMPLE, critique_question, instruct_question
    from ..pairs.rich import writer
    from ..policies import policy_class_of
    from ..shipped import place_of

    (row,) = decode_sources([row])
    source, mask = edited(policy_class_of(place_of(args.model)), row)
    image = Image.new("RGB", (args.width, args.height))
    critic, instructor = (writer(model, VerdictStore(), config) for model in models)
    for what, question, model in (
        ("critique", critique_question(row["prompt"], source, image, critic, mask), models[0]),
        (
            "instruct, after a critique such as this",
            instruct_question(row["prompt"], source, image, [EXAMPLE], instructor, config.max_edits, mask),
            models[1],
        ),
    ):
        print(f"\n--- {what}: request to {model.model} ---")
        print_request(question.request())
