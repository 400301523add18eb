"""
`arr-trl judge list`: the published judges and scorers. `arr-trl judge show`: what a preset asks. `arr-trl judge try`: one
verdict on the screen.
"""

import argparse
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..text_files import read_json
from .arguments import explained, parse
from .judge_arguments import JudgeArguments, build_judge


if TYPE_CHECKING:
    from ..judges import JudgeReward, Preset, Verdict


@dataclass(kw_only=True)
class TryArguments(JudgeArguments):
    """What `arr-trl judge try` takes beside the name of a preset: pictures, and the options of a judge."""

    image: list[str] = field(metadata={"help": "Pictures to judge: one, or several candidates of the same prompt."})
    prompt: str = field(metadata={"help": "What they were made for: the caption, or the instruction of an edit."})
    source: list[str] | None = field(default=None, metadata={"help": "The picture that was edited, or several."})
    mask: str | None = field(
        default=None, metadata={"help": "What of that picture was to be drawn anew, white; black is what stays."}
    )
    reference: str | None = field(default=None, metadata={"help": "The picture that candidates are compared with."})
    columns: dict[str, Any] | str | None = field(
        default=None, metadata={"help": 'Further columns of the row as JSON, such as \'{"requirement": "..."}\'.'}
    )


def run_list(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="arr-trl judge list", description="The published judges and scorers.")
    parser.add_argument("--task", choices=["text-to-image", "image-editing", "any"], help="Only those for a task.")
    args = parser.parse_args(argv)

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from ..judges import load_preset, preset_names

    # what is typed again stands in one piece, also on 80 columns; the rest is below it
    table = Table(title="Judges: arr-trl judge show NAME says what each asks", title_justify="left", show_lines=True)
    table.add_column("name", no_wrap=True)
    table.add_column("task, kind, answer")
    table.add_column("weights, licence, how to serve", overflow="fold")
    presets = [load_preset(name) for name in preset_names()]
    for preset in presets:
        if args.task in (None, preset.task):
            asked = f"{preset.task}, {preset.kind}, {', '.join(preset.answers)}"
            served = f"{preset.weights or 'any model'}\n{preset.licence or 'licence not stated'}\n{preset.serve}"
            table.add_row(*map(escape, (preset.name, asked, served)))
    Console().print(table)
    if scorers := _scorers():
        table = Table(title="Scorers: reward functions that ask no chat model", title_justify="left", show_lines=True)
        table.add_column("class", no_wrap=True)
        table.add_column("what it is, weights, licence", overflow="fold")
        for name, weights, licence, words in scorers:
            table.add_row(escape(name), escape("\n".join(filter(None, (words, weights, licence)))))
        Console().print(table)
    return 0


def _scorers() -> list[tuple[str, str, str, str]]:
    """Class, weights, licence and first sentence of what `arr_trl.rewards` exports as a scorer."""
    from .. import rewards

    found = [getattr(rewards, name) for name in rewards.__all__]
    scorer = next((part for part in found if getattr(part, "__name__", "") == "Scorer"), None)
    if scorer is None:
        return []
    classes = [part for part in found if isinstance(part, type) and issubclass(part, scorer)]
    return [
        (
            f"arr_trl.rewards.{c.__name__}",
            c.weights or "",
            c.licence or "",
            " ".join((c.__doc__ or "").split("\n\n")[0].split()),
        )
        for c in classes
        if not c.__abstractmethods__
    ]


def run_show(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="arr-trl judge show", description="What a preset asks, in full.")
    parser.add_argument("preset", help="Name of `arr-trl judge list`, a JSON file, or a repository on the Hub.")
    parser.add_argument("--output", help="Folder to write it to, as a file and its templates, to edit or to share.")
    args = parser.parse_args(argv)
    with explained():
        from ..judges import load_preset, save_preset

        preset = load_preset(args.preset)
        if args.output is not None:
            print(f"Wrote {save_preset(preset, args.output)}; `--judge_preset {args.output}` asks by it.")
            return 0
    _print_preset(preset)
    return 0


def _print_preset(preset: "Preset") -> None:
    scale = (
        "as it is" if preset.scale is None else f"from {preset.scale[0]:g} to {preset.scale[1]:g}, mapped to 0 to 1"
    )
    print(f"{preset.name}, version {preset.version}: {preset.task}, {preset.kind}")
    print(f"Score: {preset.combine} of the answers, {scale}.")
    if preset.columns:
        print(f"Columns that it needs: {', '.join(preset.columns)}.")
    print(f"Weights: {preset.weights or 'any model'}; licence: {preset.licence or 'not stated'}.")
    print(f"Serve: {preset.serve}")
    print(f"Source: {preset.source}")
    before = [] if preset.before is None else [preset.before]
    for ask in (*before, *preset.asks):
        once = ", once for each prompt" if ask in before else f", for each item of {ask.each}" if ask.each else ""
        print(f"\n--- {ask.name}{once}; at most {ask.max_tokens} tokens")
        if ask.system:
            print(f"[system] {ask.system}\n")
        print(ask.template.strip())
        print(f"--- read by {json.dumps(ask.read.model_dump(exclude_defaults=True), ensure_ascii=False)}")


def run_try(argv: list[str]) -> int:
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # what it says while it is imported is not for users
    from trl import TrlParser

    parser = TrlParser((TryArguments,), prog="arr-trl judge try", description="One verdict of a published judge.")
    with explained():
        if argv and not argv[0].startswith("-"):
            argv = ["--judge_preset", argv[0], *argv[1:]]
        (args,) = parse(parser, argv)
        judge = build_judge(args, store=None)

        from ..data import load_image
        from ..judges import JudgeRow

        columns = read_json(args.columns) if isinstance(args.columns, str) else args.columns or {}
        if not isinstance(columns, dict):
            raise ValueError('`columns` has to be a JSON object, such as {"requirement": "..."}.')
        if args.reference is not None:
            columns["reference_image"] = load_image(args.reference)
        if args.mask is not None:
            columns["mask_image"] = load_image(args.mask)
        images = tuple(load_image(path) for path in args.image)
        source = None if args.source is None else [load_image(path) for path in args.source]
        (verdict,) = judge.compare([JudgeRow(args.prompt, images, source, columns=columns)])
    _print_verdict(verdict, judge, args.image)
    return int(verdict.failure is not None)


def _print_verdict(verdict: "Verdict", judge: "JudgeReward", names: list[str]) -> None:
    from ..judges.reward import verdict_rewards

    for i, (name, reward) in enumerate(zip(names, verdict_rewards(verdict), strict=True)):
        behind = [f"{axis} {scores[i]:g}" for axis, scores in verdict.axes]
        told = "no reward" if reward is None else f"reward {reward:.4f}"
        print(f"{name}: {told}" + (f" ({', '.join(behind)})" if behind else ""))
    if len(names) > 1 and verdict.failure is None:
        print("They are level." if verdict.winner is None else f"The best is {names[verdict.winner]}.")
    if verdict.failure is not None:
        print(f"No verdict: {verdict.failure}")
    if verdict.reason:
        print(f"It said: {verdict.reason}")
