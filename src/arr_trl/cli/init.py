"""`arr-trl init`: the beginning of a project, a folder with settings, a rubric, prompts and the commands to run."""

import argparse
import json
import re
from itertools import product
from pathlib import Path

from ..folders import check_writable
from ..shipped import file_or_shipped, find, names
from .arguments import TINY_SCENES, explained


_TRAINERS = ("rpo", "grpo", "nft")  # what takes prompts and a judge; the first that a family has is the default
_OWN = ("dataset_name", "eval_dataset_split", "rubric", "judge_model", "output_dir")  # settings that are the project's
_TRAIN, _TEST = 48, 16  # prompts; no recipe draws more than 48 in a rollout, but for
_TINY_TRAIN = 96  # those of TinyScenes
_SUBJECTS = (
    "a red bicycle", "two white cups", "an old sailing boat", "a woman with a yellow umbrella", "a sleeping grey cat",
    "a stack of three books", "a chair with one broken leg", "a man playing a violin",
)  # fmt: skip
_PLACES = (
    "on a rainy street at night", "in front of a white wall", "in a meadow of blue flowers", "beside a large window",
    "under a stone bridge", "on a snowy hill",
)  # fmt: skip
_HELD_OUT_PLACES = ("at the sea at dawn", "in an empty museum")

_SETTINGS = """\
# Made from the recipe `{recipe}`. Keys are the names of flags, and flags win over this file:
# arr-trl {command} --config train.yaml
# `arr-trl {command} --help` shows those that most runs need, `--help_all` every one.

# What this project is about. Paths are from the folder in which commands are run, this one.
dataset_name: {train}
eval_dataset_name: {test}
eval_dataset_split: train
rubric: rubric.json
{judge}output_dir: adapter

{settings}"""
_JUDGE = """\
# the judge: a server that speaks the OpenAI protocol and takes pictures, `vllm serve Qwen/Qwen3-VL-8B-Instruct`
judge_model: Qwen/Qwen3-VL-8B-Instruct
base_url: http://localhost:8000/v1
"""
_README = """\
# {title}

`train.yaml` has the settings, `rubric.json` what the judge looks for, `prompts/` what is drawn: {prompts} Put your own there, \
and write in the rubric what you want of the pictures. What it does not name is not rewarded.

```bash
arr-trl doctor {command} --config train.yaml
arr-trl {command} --config train.yaml
arr-trl evaluate --run adapter --output evaluation
arr-trl push adapter --repo_id YOUR_NAME/{title} --dry_run
```

The first says what is missing, whether it fits your card, and what a step asks of the judge. The second trains, and may be \
stopped and started again. The third compares the adapter with its base and writes `evaluation/report.html`. The last puts it \
on the Hub once you leave `--dry_run` out.
{server}"""
_SERVER = """
The judge runs beside, on a GPU of its own: `vllm serve Qwen/Qwen3-VL-8B-Instruct`. Any other server that speaks the OpenAI \
protocol and takes pictures will do; its address stands in `train.yaml`.
"""


def run(argv: list[str]) -> int:
    """Write the project; the exit status is 2 where its folder has something of that name already."""
    parser = argparse.ArgumentParser(
        prog="arr-trl init",
        description="Begin a project: train.yaml, rubric.json, prompts/ and a README with four commands.",
    )
    parser.add_argument("family", choices=families(), metavar="family", help=f"one of {', '.join(families())}")
    parser.add_argument("folder", help="folder of the project")
    parser.add_argument(
        "--trainer", choices=_TRAINERS, help="unset, the first of these that has a recipe for the family"
    )
    args = parser.parse_args(argv)
    with explained():
        command, recipe = _recipe_of(args.family, args.trainer)
        folder = Path(args.folder)
        taken = [name for name in ("train.yaml", "rubric.json", "prompts", "README.md") if (folder / name).exists()]
        if taken:
            raise ValueError(f"{folder} has {', '.join(taken)} already; name another folder, or move them away.")
        check_writable(folder, "folder")
        write_project(folder, command, recipe)
    print(f"Wrote train.yaml, rubric.json, prompts and README.md to {folder}. Next:\n  cd {folder}")
    print(f"  arr-trl doctor {command} --config train.yaml")
    return 0


def families() -> list[str]:
    """Names of what a project can train: TinyScenes, and every pipeline with a recipe."""
    found = {name.split("_", 1)[1] for name in names("configs") if name.split("_", 1)[0] in _TRAINERS}
    return [*sorted(found), TINY_SCENES]


def _recipe_of(family: str, trainer: str | None) -> tuple[str, str]:
    """
    Returns:
        `tuple(str, str)`: the command that trains, and the name of its configuration.

    Raises:
        `ValueError`: when there is no recipe of this trainer for the family.
    """
    named = {t: f"{family}_{t}" if family == TINY_SCENES else f"{t}_{family}" for t in _TRAINERS}
    there = [t for t, name in named.items() if find("configs", name) is not None]
    if trainer is not None and trainer not in there:
        raise ValueError(f"There is no recipe of {trainer} for {family}; there is one of {' and '.join(there)}.")
    trainer = trainer or there[0]
    return trainer, named[trainer]


def write_project(folder: Path, command: str, recipe: str) -> None:
    """
    Write the files of a project.

    Args:
        folder (`Path`): where to.
        command (`str`): what trains, such as `"rpo"`.
        recipe (`str`): name of the configuration that it begins with.
    """
    text = file_or_shipped("configs", recipe, "recipe").read_text(encoding="utf-8")
    tiny, editing = recipe.startswith(TINY_SCENES), "image_editing" in text
    prompts = folder / "prompts"
    prompts.mkdir()
    if editing:
        about, ending = "edits of drawn scenes, to begin with, each with its picture in `prompts/sources/`.", "jsonl"
        _write_edits(prompts)
    else:
        about, ending = "some to train on and some held out to measure with, one a line.", "txt"
        for name, lines in zip(("train", "test"), _tiny_prompts() if tiny else _prompts(), strict=True):
            (prompts / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    rubric = find("rubrics", TINY_SCENES if tiny else "image_editing" if editing else "text_to_image")
    (folder / "rubric.json").write_text(rubric.read_text(encoding="utf-8"), encoding="utf-8")
    settings = _SETTINGS.format(
        recipe=recipe, command=command, train=f"prompts/train.{ending}", test=f"prompts/test.{ending}",
        judge="judge_model: tiny_scenes\n" if tiny else _JUDGE, settings=_settings_of(text),
    )  # fmt: skip
    (folder / "train.yaml").write_text(settings, encoding="utf-8")
    title = re.sub(r"[^\w.-]+", "-", folder.resolve().name)
    readme = _README.format(title=title, command=command, prompts=about, server="" if tiny else _SERVER)
    (folder / "README.md").write_text(readme, encoding="utf-8")


def _settings_of(recipe: str) -> str:
    """A recipe without how it is called and without what the project says itself."""
    kept = []
    for line in recipe.splitlines():
        if re.match(rf"# arr-trl |#     --|({'|'.join(_OWN)}):", line) or "`make quickstart" in line:
            continue
        kept.append(line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)) + "\n"


def _prompts() -> tuple[list[str], list[str]]:
    train, test = (
        [f"{what} {where}" for where, what in product(places, _SUBJECTS)] for places in (_PLACES, _HELD_OUT_PLACES)
    )
    return train, test


def _tiny_prompts() -> tuple[list[str], list[str]]:
    from ..tiny_scenes import captions

    return captions("train")[:_TINY_TRAIN], captions("test")[:_TEST]


def _write_edits(folder: Path) -> None:
    from PIL.Image import Resampling

    from ..tiny_scenes import edit_prompts

    (folder / "sources").mkdir()
    for name, count in (("train", _TRAIN), ("test", _TEST)):
        lines = []
        for number, row in enumerate(edit_prompts(f"{name}[:{count}]")):
            file = f"sources/{name}-{number:02}.png"
            row["source_image"].resize((256, 256), Resampling.NEAREST).save(folder / file)
            lines.append(json.dumps({"prompt": row["prompt"], "source_image": file}))
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
