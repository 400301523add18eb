"""`arr-trl quickstart`: a whole run on TinyScenes in a few minutes on a CPU, with nothing that has to be downloaded."""

import argparse
from importlib import import_module

from .command import command_of
from .train import train


# of each choice: the command, and the configuration that ships
_RUNS = {
    None: ("nft", "tiny_scenes_nft"),
    "edit": ("nft", "tiny_scenes_nft_edit"),
    "rpo": ("rpo", "tiny_scenes_rpo"),
    "align_prop": ("align-prop", "tiny_scenes_align_prop"),
    "dpo": ("dpo", "tiny_scenes_edit_dpo"),
    "judge": ("nft", "tiny_scenes_nft_judge"),
}
# what some of them need is made before
_BEFORE = {
    "dpo": ("pairs", ["rich", "--config", "tiny_scenes_rich"]),
    "judge": ("judge", ["train", "--config", "tiny_scenes_judge"]),
}


def run(argv: list[str]) -> int:
    """
    Train, evaluate and write the release into a folder in `outputs/`. What is not known here goes on to the command that
    trains, so that `--max_steps 10` shortens it.

    Returns:
        `int`: the exit status of that command.
    """
    parser = argparse.ArgumentParser(
        prog="arr-trl quickstart",
        description="Train TinyScenes, a FluxPipeline of two million parameters, under a judge that reads pixels, on a CPU; "
        "then compare it with its base.",
        epilog="Further options are those of the command that trains, which is printed first: `--max_steps 10` is shorter, "
        "`--output_dir FOLDER` puts it elsewhere.",
        allow_abbrev=False,
    )
    which = parser.add_mutually_exclusive_group()
    for name, text in (
        ("edit", "edit pictures with a QwenImageEditPipeline of the same size"),
        ("rpo", "train with RPO, the objective of the Auto-Rubric paper, in place of DiffusionNFT"),
        ("align_prop", "train with the gradient of a reward"),
        (
            "judge",
            "train a judge on labelled pairs first, a vision-language model of a million parameters, and train under it",
        ),
        ("dpo", "make pairs of pictures and of what an editor makes of them after a critique, and train on them"),
    ):
        which.add_argument(f"--{name}", action="store_const", dest="which", const=name, help=text)
    args, others = parser.parse_known_args(argv)
    command, config = _RUNS[args.which]
    options = ["--config", config, *others]
    if args.which in _BEFORE:
        before, given = _BEFORE[args.which]
        print(f"arr-trl {before} {' '.join(given)}")
        status = import_module(f"arr_trl.cli.{before}").run(given)
        if status:
            return status
    print(f"arr-trl {' '.join([command, *options])}")
    return train(options, command_of(command))
