"""`arr-trl judge ask`: a judge is asked about pictures of yours, and question and reply are shown in full."""

from dataclasses import dataclass, field

from .arguments import explained, parse
from .judge_arguments import JudgeArguments, build_judge
from .shown import print_questions


@dataclass(kw_only=True)
class AskArguments(JudgeArguments):
    """What `arr-trl judge ask` takes: pictures, and the options of a judge under a rubric."""

    image: list[str] = field(metadata={"help": "Pictures of one prompt, two or more."})
    prompt: str = field(metadata={"help": "What they were made for: the caption, or the instruction of an edit."})
    source: list[str] | None = field(default=None, metadata={"help": "The picture that was edited, or several."})
    mask: str | None = field(
        default=None, metadata={"help": "What of that picture was to be drawn anew, white; black is what stays."}
    )
    dry_run: bool = field(default=False, metadata={"help": "Show what would be asked, and ask nothing."})


def run(argv: list[str]) -> int:
    """Ask, or show what would be asked; returns 0 for a verdict, 1 for none, 2 for input that has to be changed."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # what it says while it is imported is not for users
    from trl import TrlParser

    parser = TrlParser((AskArguments,), prog="arr-trl judge ask", description="One question and its reply in full.")
    with explained():
        (args,) = parse(parser, argv)
        judge = build_judge(args, store=None)

        from ..data import load_image
        from ..judges import JudgeRow

        images = tuple(load_image(path) for path in args.image)
        source = None if args.source is None else [load_image(path) for path in args.source]
        columns = {} if args.mask is None else {"mask_image": load_image(args.mask)}
        row = JudgeRow(args.prompt, images, source, columns=columns)
        print_questions(judge, row)
        if args.dry_run:
            return 0
        (verdict,) = judge.compare([row])
    for answer in judge.store:
        shown = " ".join(args.image[position] for position in answer.positions)
        print(f"\n--- reply, shown {shown} ---\n{answer.reply or answer.choice_logprobs or answer.problem}")
    if verdict.failure is not None:
        print(f"\nNo verdict: {verdict.failure}")
        return 1
    best = "They are level." if verdict.winner is None else f"The best is {args.image[verdict.winner]}."
    print(f"\n{best}" + (" The orders disagree." if verdict.consistent is False else ""))
    return 0
