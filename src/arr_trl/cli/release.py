"""`arr-trl release`: what can be done with a release besides pushing it."""

import argparse

from .arguments import explained


def run(argv: list[str]) -> int:
    """Run `arr-trl release convert`; returns 0 for success, 2 for input that has to be changed."""
    parser = argparse.ArgumentParser(prog="arr-trl release", description="Bring a release up to date.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    convert = commands.add_parser(
        "convert",
        help="Give adapters of earlier versions their full strength in ComfyUI and others.",
        description="Write the diffusers files of earlier versions anew, with their scale in the weights: loaders that do "
        "not read it in the header apply them at another strength.",
    )
    convert.add_argument("folder", help="Output folder of a training run, or the folder of an adapter.")
    args = parser.parse_args(argv)
    with explained():
        from ..release import convert_release

        converted = convert_release(args.folder)
    for adapter in converted:
        print(f"Converted {adapter}.")
    if not converted:
        print(f"Nothing to convert: {args.folder} has its full strength in every loader.")
    return 0
