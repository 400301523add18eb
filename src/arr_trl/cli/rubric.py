"""`arr-trl rubric`: write a rubric from preferences, measure it, look at it, compare two, share one."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import explained, parse
from .checks import check_file
from .rubric_arguments import GenerateArguments, VerifyArguments, ZeroShotArguments
from .rubric_inputs import build_chat_model, build_embedder, build_models, read_pairs, source_of, usable_pairs
from .shown import print_request


if TYPE_CHECKING:
    from ..autorubric import AutoRubricConfig

_SHOWN_REQUESTS = 2  # of a dry run


def run(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="arr-trl rubric", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (_, help_text) in _COMMANDS.items():
        commands.add_parser(name, help=help_text, add_help=False)
    args, _ = parser.parse_known_args(argv[:1])
    return _COMMANDS[args.command][0](argv[1:])


def _generate(argv: list[str]) -> int:
    from ..autorubric import AutoRubric, AutoRubricConfig, AutoRubricError
    from ..autorubric.generate import check_guide
    from ..autorubric.holdout import split
    from ..autorubric.pipeline import task_of
    from ..autorubric.progress import RunProgress, planned_questions
    from ..evaluation.rubric_page import write_generated
    from ..judges import StoreError

    with explained():
        args, config = _parse(argv, "generate", GenerateArguments, AutoRubricConfig)
        if not args.dry_run:  # which leaves nothing behind
            check_file(args.output)
        output = Path(args.output)
        guide = list(usable_pairs(args.guide, [], 0)) if args.guide else []
        check_guide(guide)
        skipped: list[str] = []
        pairs = list(read_pairs(args, skipped))
        task_of(pairs)
        train, held_out = split(pairs, config.holdout, config.seed)
        planned = planned_questions(len(train), len(held_out), config)
        if args.dry_run:
            _dry_run(args, config, train, guide, planned)
            return 0
        progress = RunProgress(planned, args.price_in, args.price_out)
        writer, judge = build_models(args, config.language, output, progress.watch, config.max_tokens)
        embed = build_embedder(args, judge.store)
    rubric_writer = AutoRubric(writer, judge, config, embed, progress.stage)
    try:
        with progress:
            report = rubric_writer.write(pairs, args.name or output.stem, guide, **source_of(args))
    except (AutoRubricError, ConnectionError, StoreError) as error:
        print(f"arr-trl: {error}", file=sys.stderr)
        return 1
    report.skipped, report.cost = skipped, progress.cost
    _save(report.rubric, output)
    report.save(output.with_suffix(".report.json"))
    report.print()
    page = write_generated(output.with_suffix(".html"), report, train, judge.model.model)
    print(f"Wrote {output}, {output.with_suffix('.report.json')} and {page}.")
    return 0


def _verify(argv: list[str]) -> int:
    from ..autorubric.holdout import agreement, winners_of, with_rubric, without_rubric
    from ..autorubric.report import print_agreement
    from ..evaluation.rubric_page import write_verified
    from ..judges.rubric_source import resolve_rubric

    with explained():
        if argv and not argv[0].startswith("-"):  # the rubric first, as `show`, `diff` and `push` take it
            argv = ["--rubric", *argv]
        (args,) = _parse(argv, "verify", VerifyArguments)
        if args.update and not (Path(args.rubric).suffix == ".json" and Path(args.rubric).is_file()):
            raise ValueError(
                f"update=True writes into a JSON file, and {args.rubric} is none; make one with `arr-trl rubric show "
                f"{args.rubric} --output rubric.json`."
            )
        if args.report is not None:
            check_file(args.report)
        rubric = resolve_rubric(args.rubric)
        if rubric is None:
            raise ValueError(
                "`rubric` has to be a rubric that is there; `auto` is measured with `arr-trl judge eval`."
            )
        pairs = list(read_pairs(args, []))
        _, judge = build_models(args, args.language, Path("judge.json"))
        verdicts, _ = with_rubric(pairs, rubric, judge)
        plain, _ = without_rubric(pairs, judge)
    print_agreement(rubric, verdicts, pairs, agreement(plain, pairs))
    if rubric.edited:
        print(f"{args.rubric} was edited since it was made: the figures it was made with are of another text.")
    if args.report is not None:
        print(
            f"Wrote {write_verified(args.report, rubric, verdicts, pairs, agreement(plain, pairs), judge.model.model)}."
        )
    if args.update:
        measured = {
            "content_hash": rubric.content_hash,
            **source_of(args),
            "verifier": judge.model.model,
            "with_rubric": agreement(winners_of(verdicts), pairs).summary(),
            "without_rubric": agreement(plain, pairs).summary(),
        }
        rubric.measured(measured).save(args.rubric)
        print(f"Wrote what was measured to {args.rubric}.")
    return 0


def _zero_shot(argv: list[str]) -> int:
    from ..autorubric import AutoRubricConfig, AutoRubricError, Writer, describe_rubric

    with explained():
        (args,) = _parse(argv, "zero-shot", ZeroShotArguments)
        if not args.description.strip():
            raise ValueError("`description` is needed: what the images are for, in a sentence or two.")
        check_file(args.output)
        output = Path(args.output)
        config = AutoRubricConfig(max_themes=args.max_themes, max_tips=args.max_tips)
        model, judge = build_models(args, args.language, output)
        writer = Writer(model, judge.store, args.language, args.max_tokens, args.temperature)
        try:
            rubric = describe_rubric(args.description, args.name or output.stem, args.task, writer, config)
        except AutoRubricError as error:
            print(f"arr-trl: {error}", file=sys.stderr)
            return 1
    _save(rubric, output)
    print(rubric.render())
    print(f"Wrote {output}. Nothing has verified it: measure it with `arr-trl rubric verify` before you train.")
    return 0


def _show(argv: list[str]) -> int:
    from ..judges.rubric_source import resolve_rubric
    from ..rubrics import to_markdown, to_rubric_text

    forms = {
        "markdown": to_markdown,
        "text": to_rubric_text,
        "json": lambda rubric: rubric.to_json(),
        "prompt": lambda rubric: rubric.render() + "\n",
    }
    parser = argparse.ArgumentParser(
        prog="arr-trl rubric show", description="Show a rubric, or convert it between its forms."
    )
    parser.add_argument("rubric", help="A JSON, text (.txt) or Markdown (.md) file, or a repository on the Hub.")
    parser.add_argument(
        "--form",
        choices=list(forms),
        help="Markdown for people, the text of Themes and Tips, JSON, or what a judge reads. Unset, as the output.",
    )
    parser.add_argument("--output", help="File to write, .json, .md or .txt. Unset, it is printed.")
    args = parser.parse_args(argv)
    with explained():
        endings = {".json": "json", ".md": "markdown", ".txt": "text"}
        form = args.form or endings.get(Path(args.output or "x.md").suffix)
        if form is None:
            raise ValueError(f"{args.output} does not end in {', '.join(endings)}; name the form with `--form`.")
        rubric = resolve_rubric(args.rubric)
        if rubric is None:
            raise ValueError("There is nothing to show of `auto`, for which criteria are written for every prompt.")
        text = forms[form](rubric)
        if rubric.edited:
            print("It was edited since it was made; figures of the text before are not shown.", file=sys.stderr)
        if args.output is not None:
            check_file(args.output)
            Path(args.output).write_text(text, encoding="utf-8")
    print(f"Wrote {args.output}." if args.output is not None else text, end="\n" if args.output is not None else "")
    return 0


def _diff(argv: list[str]) -> int:
    from difflib import unified_diff

    from ..judges.rubric_source import resolve_rubric
    from ..rubrics import Rubric

    parser = argparse.ArgumentParser(
        prog="arr-trl rubric diff", description="What differs between two rubrics in what a judge reads."
    )
    parser.add_argument("old", help="A JSON, text or Markdown file, or a repository on the Hub.")
    parser.add_argument("new", help="The same.")
    args = parser.parse_args(argv)
    with explained():
        old, new = resolve_rubric(args.old), resolve_rubric(args.new)
        if not isinstance(old, Rubric) or not isinstance(new, Rubric):
            raise ValueError("`auto` cannot be compared; give two rubrics.")
    if old.content_hash == new.content_hash:
        print("A judge reads the same in both.")
        return 0
    lines = ([f"[{r.task}]", *r.render(numbered=False).splitlines()] for r in (old, new))
    print("\n".join(unified_diff(*lines, args.old, args.new, lineterm="", n=100)))
    return 0


def _push(argv: list[str]) -> int:
    from ..judges.rubric_source import resolve_rubric
    from ..rubrics import RubricHubError

    parser = argparse.ArgumentParser(
        prog="arr-trl rubric push", description="Put a rubric on the Hub, with a card that shows it."
    )
    parser.add_argument("rubric", help="A JSON, text or Markdown file.")
    parser.add_argument("--repo_id", "--repo-id", required=True, help="Repository, such as user/name.")
    parser.add_argument("--private", action="store_true", help="Create the repository as private.")
    parser.add_argument(
        "--dry_run", "--dry-run", action="store_true", help="Show what would be sent, and send nothing."
    )
    args = parser.parse_args(argv)
    with explained():
        rubric = resolve_rubric(args.rubric)
        if rubric is None:
            raise ValueError("`auto` is no rubric that could be pushed.")
        try:
            upload = rubric.push_to_hub(args.repo_id, private=args.private or None, dry_run=args.dry_run)
        except RubricHubError as error:
            print(f"arr-trl: {error}", file=sys.stderr)
            return 1
    for name, content in upload.files.items():
        print(f"{'Would send' if args.dry_run else 'Sent'} {name} ({len(content.encode())} bytes)")
    print(f"Nothing was sent to {upload.repo_id}." if args.dry_run else upload.commit_url)
    return 0


def _parse(argv: list[str], command: str, *classes: type) -> tuple:
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # what it says while it is imported is not for users
    from trl import TrlParser

    parser = TrlParser(classes, prog=f"arr-trl rubric {command}", description=_COMMANDS[command][1])
    return parse(parser, argv)


def _dry_run(args: GenerateArguments, config: "AutoRubricConfig", train: list, guide: list, planned: dict) -> None:
    from ..autorubric import Writer
    from ..autorubric.generate import generate_questions
    from ..judges import VerdictStore

    store = VerdictStore(args.store or Path(args.output).with_suffix(".sqlite"))
    if not store.path.is_file():  # a dry run leaves nothing behind
        store = VerdictStore()
    name = args.writer_model or args.judge_model
    model = build_chat_model(args, name, args.writer_base_url or args.base_url or "http://localhost", args.api_key_env)
    writer = Writer(model, store, config.language, config.max_tokens, config.temperature)
    questions = generate_questions(train, writer, config, guide)
    kept = store.get({question.blank.key for question in questions})
    for stage, (least, most) in planned.items():
        print(f"{stage}: {least}" + (f" to {most}" if most != least else "") + " questions")
    least, most = (sum(counts[i] for counts in planned.values()) for i in (0, 1))
    print(f"In all {least} to {most}; {len(kept)} of those to generate are answered in the store.")
    for number, question in enumerate(questions[:_SHOWN_REQUESTS], start=1):
        print(f"\n--- request {number} to {name} ---")
        print_request(question.request())


def _save(rubric: Any, output: Path) -> None:
    """Write the rubric; another one that was there, and may have been edited, is put aside."""
    if output.is_file() and output.read_bytes() != rubric.to_json().encode():
        aside = output.with_suffix(".previous.json")
        output.replace(aside)
        print(f"The rubric that was at {output} is now {aside}.")
    rubric.save(output)


_COMMANDS = {
    "generate": (_generate, "Write a rubric from preference pairs, verify it, and measure it on held-out pairs."),
    "verify": (_verify, "Measure a rubric on labelled pairs, criterion by criterion."),
    "show": (_show, "Show a rubric, or convert it between JSON, Markdown and text."),
    "diff": (_diff, "Compare two rubrics."),
    "push": (_push, "Put a rubric on the Hub."),
    "zero-shot": (_zero_shot, "Write a rubric from the description of a task alone."),
}
