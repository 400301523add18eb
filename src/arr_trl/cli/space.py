"""`arr-trl space`: a Gradio Space that draws with a base and an adapter of a release, written, and pushed on request."""

import argparse
import sys

from .arguments import TINY_SCENES, TINY_SCENES_EDIT, explained
from .push import print_files


def run(argv: list[str]) -> int:
    """Write a Space; returns 0 for success, 1 when the Hub did not take it, 2 for input that has to be changed."""
    parser = argparse.ArgumentParser(
        prog="arr-trl space",
        description="Write a Gradio Space that draws with the base and with an adapter at one seed, by the code of the model "
        "card, with prompts of the evaluation as examples.",
    )
    parser.add_argument("folder", help="Output folder of a training run, or the folder of an adapter in it.")
    parser.add_argument("--subfolder", help="The adapter, where the folder has several.")
    parser.add_argument("--output", help="Where the Space goes. Unset, space/<adapter> in the output folder.")
    parser.add_argument(
        "--base_model",
        "--base-model",
        help="Hub id or local folder of the base, or tiny_scenes. Unset, what the model card names.",
    )
    parser.add_argument(
        "--adapter_repo",
        "--adapter-repo",
        help="Repository from which the app loads the adapter. Unset, its file is copied into the Space.",
    )
    parser.add_argument("--push", action="store_true", help="Put the Space on the Hub.")
    parser.add_argument("--repo_id", "--repo-id", help="Space to push to, such as user/name.")
    parser.add_argument("--private", action="store_true", help="Create the Space as private.")
    parser.add_argument("--revision", help="Branch to commit to. Unset, main.")
    parser.add_argument("--commit_message", "--commit-message", help="First line of the commit message.")
    parser.add_argument(
        "--dry_run", "--dry-run", action="store_true", help="With --push, show what would be sent, and send nothing."
    )
    args = parser.parse_args(argv)

    from ..release import PushError, push_space, write_space

    with explained():
        if args.push != (args.repo_id is not None):
            raise ValueError(
                "`--push` and `--repo_id` go together: the Space is pushed to the repository that you name."
            )
        base_model = args.base_model
        if base_model in (TINY_SCENES, TINY_SCENES_EDIT):
            from ..tiny_scenes import BASE_MODEL, EDIT_BASE_MODEL

            base_model = str(BASE_MODEL if base_model == TINY_SCENES else EDIT_BASE_MODEL)
        space = write_space(args.folder, args.output, args.subfolder, base_model, args.adapter_repo)
        print(f"Wrote {space}; try it with `pip install -r requirements.txt` and `python app.py` in that folder.")
        if not args.push:
            return 0
        try:
            push = push_space(
                space,
                args.repo_id,
                private=args.private or None,
                revision=args.revision,
                commit_message=args.commit_message,
                dry_run=args.dry_run,
            )
        except PushError as error:
            print(f"arr-trl: {error}", file=sys.stderr)
            return 1
    print_files(push)
    return 0
