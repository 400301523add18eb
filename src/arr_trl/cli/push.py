"""`arr-trl push`: put the adapters of a release on the Hub, beside those that are there already."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..adapter_names import DIFFUSERS_WEIGHTS_FILE


if TYPE_CHECKING:
    from ..release import Push


def run(argv: list[str]) -> int:
    """Push a release; returns 0 for success, 1 when the Hub did not take it, 2 for input that has to be changed."""
    parser = argparse.ArgumentParser(
        prog="arr-trl push",
        description="Push the adapters of a release, their samples and the model card to the Hub, in one commit; or a judge that "
        "was trained, with its question.",
    )
    parser.add_argument(
        "folder",
        help="Output folder of a training run, with README.md and one subfolder per adapter, or of `arr-trl judge train`.",
    )
    parser.add_argument("--repo_id", "--repo-id", required=True, help="Repository, such as user/name.")
    parser.add_argument("--subfolder", help="The adapter to push. Unset, all adapters of the folder.")
    parser.add_argument("--private", action="store_true", help="Create the repository as private.")
    parser.add_argument("--revision", help="Branch to commit to, created when missing. Unset, main.")
    parser.add_argument("--commit_message", "--commit-message", help="First line of the commit message.")
    parser.add_argument(
        "--dry_run", "--dry-run", action="store_true", help="Show what would be sent, and send nothing."
    )
    parser.add_argument(
        "--convert", action="store_true", help="Before, do what `arr-trl release convert` does, where it is needed."
    )
    args = parser.parse_args(argv)

    from ..release import PushError, push_to_hub

    try:
        if Path(args.folder, "preset.json").is_file():
            print_files(_push_judge(args))
            return 0
        _mend(push_to_hub(args.folder, args.repo_id, subfolder=args.subfolder, dry_run=True).files, args)
        push = push_to_hub(
            args.folder,
            args.repo_id,
            subfolder=args.subfolder,
            private=args.private or None,
            dry_run=args.dry_run,
            revision=args.revision,
            commit_message=args.commit_message,
        )
    except ValueError as error:
        print(f"arr-trl: {error}", file=sys.stderr)
        return 2
    except PushError as error:
        print(f"arr-trl: {error}", file=sys.stderr)
        return 1
    print_files(push, merged=True)
    return 0


def _push_judge(args: argparse.Namespace) -> "Push":
    from ..judge_training import push_judge  # which needs torch

    if args.subfolder is not None or args.convert:
        raise ValueError(
            f"{args.folder} holds a judge, which has no subfolders and nothing to convert; leave these out."
        )
    return push_judge(
        args.folder,
        args.repo_id,
        private=args.private or None,
        revision=args.revision,
        commit_message=args.commit_message,
        dry_run=args.dry_run,
    )


def print_files(push: "Push", merged: bool = False) -> None:
    """What was sent and where it is, or what would be; `merged` where the README is put together with the one there."""
    print("Would send:" if push.commit_url is None else "Sent:")
    for name, path in push.files.items():
        size = "merged with the card there" if merged and name == "README.md" else in_bytes(path.stat().st_size)
        print(f"  {name} ({size})")
    print(f"Nothing was sent to {push.repo_id}." if push.commit_url is None else push.commit_url)


def in_bytes(size: int) -> str:
    """A size as people read it."""
    if size < 1_000:
        return f"{size} bytes"
    return f"{size / 1_000:.0f} kB" if size < 1_000_000 else f"{size / 1_000_000:.1f} MB"


def _mend(files: dict[str, Path], args: argparse.Namespace) -> None:
    """Convert adapters that not every loader applies at full strength, or offer to."""
    from ..release import weak_adapters

    adapters = dict.fromkeys(path.parent for path in files.values() if path.name == DIFFUSERS_WEIGHTS_FILE)
    weak = [adapter for adapter in adapters if weak_adapters(adapter)]
    if args.convert and not args.dry_run and weak:
        from ..release import convert_release  # which needs torch

        for adapter in weak:
            convert_release(adapter)
            print(f"Converted {adapter}.")
    elif weak:
        print(
            f"arr-trl: {', '.join(map(str, weak))} {'was' if len(weak) == 1 else 'were'} written by an earlier version, whose "
            "files say their scale in the header alone: ComfyUI does not read it and applies them at another strength. "
            "`--convert` mends them before they are sent.",
            file=sys.stderr,
        )
