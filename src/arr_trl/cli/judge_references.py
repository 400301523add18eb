"""`arr-trl judge references`: what presets such as `reference-yes` compare with, drawn once by the base."""

from dataclasses import dataclass, field
from pathlib import Path

from ..folders import check_writable
from .arguments import TINY_SCENES, TINY_SCENES_EDIT, explained, parse
from .checks import check_limit
from .picture_arguments import PictureArguments, load_pipeline_of, read_prompts, settings_of


@dataclass
class ReferencesArguments(PictureArguments):
    """What `arr-trl judge references` takes: the base, the prompts, and how it draws."""

    output: str = field(
        default="prompts-with-references",
        metadata={
            "help": "Folder for the prompts with their `reference_image`, and for `work`, where pictures are kept."
        },
    )
    seed: int = field(default=0, metadata={"help": "Seed of the noise, with the prompt and the picture to edit."})


def run(argv: list[str]) -> int:
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # what it says while it is imported is not for users
    from trl import TrlParser

    description = "Draw a picture of each prompt with the base, for judges that compare candidates with one."
    parser = TrlParser((ReferencesArguments,), prog="arr-trl judge references", description=description)
    with explained():
        (args,) = parse(parser, argv)
        if args.model is None or args.dataset is None:
            raise ValueError("`model` and `dataset` are needed: the base, and the prompts.")
        check_limit(args.limit)
        check_writable(args.output, "output")
        if args.model in (TINY_SCENES, TINY_SCENES_EDIT):
            from ..tiny_scenes import use_one_thread

            use_one_thread()

        from rich.progress import Progress

        from ..pairs import Painter
        from ..pairs.references import with_references, write_prompts

        rows = read_prompts(args, tiny_split="train")
        policy = load_pipeline_of(args)
        images = Path(args.output, "work", "images")
        painter = Painter(policy, images, settings_of(args, policy), args.model, batch_size=args.batch_size)
        with Progress(transient=True) as progress:
            task = progress.add_task("pictures", total=len(rows))
            rows = with_references(rows, painter, args.seed, lambda count: progress.update(task, advance=count))
        write_prompts(rows, Path(args.output))
    print(
        f"Wrote {len(rows)} prompts with a `reference_image` of each to {args.output}. Train and evaluate on them with "
        "`--judge_preset reference-yes`."
    )
    return 0
