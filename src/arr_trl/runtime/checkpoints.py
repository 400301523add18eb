"""
Checkpoint folders that are either whole or not there: written beside their place, sealed with a list of what they hold,
and moved into place in one step.
"""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_origin, get_type_hints

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HTTPError

from ..data import check_source


logger = logging.getLogger(__name__)

SEAL = "checkpoint.json"
# Folders of the run that hold unfinished work; what a killed run left in them is removed by the next one.
WRITING, PUSHING = ".writing", ".pushing"
# What a field of a configuration says in its annotation, such as `Annotated[int, ALWAYS]`: that a run which resumes has to
# have the same value, always or where the checkpoint holds a rollout. Not in `metadata`, all of which
# `HfArgumentParser` hands to argparse.
ALWAYS, ROLLOUT = "resume: always", "resume: rollout"

_NEWEST = ("auto", "last", "latest", "newest")  # what users of other trainers write for `true`


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or cannot be used; the message says what to do."""


def checkpoint_name(step: int) -> str:
    return f"checkpoint-{step}"


def seal(written: Path, folder: Path, settings: Mapping[str, Any]) -> None:
    """
    Seal a checkpoint and move it to its place.

    Args:
        written (`Path`): the folder it was written to, on the same disk.
        folder (`Path`): where it belongs; what is there is replaced.
        settings (`dict`): what a run that resumes from it has to have in common with the one that wrote it.
    """
    files = {str(file.relative_to(written)): _digest(file) for file in sorted(written.rglob("*")) if file.is_file()}
    (written / SEAL).write_text(json.dumps({"settings": settings, "files": files}, indent=2))
    if folder.exists():
        folder.rename(written.with_name("replaced"))
    written.rename(folder)
    shutil.rmtree(written.parent)


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, in words; `None` if it is whole."""
    try:
        seal = json.loads((folder / SEAL).read_text())
        files, _ = seal["files"], seal["settings"]
    except FileNotFoundError:
        return f"it has no {SEAL}, so it was not written to its end, or not by arr_trl"
    except (ValueError, KeyError, TypeError):
        return f"its {SEAL} cannot be read"
    for name, digest in files.items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if _digest(folder / name) != digest:
            return f"{name} is not what was written"
    return None


def newest_whole(output_dir: Path, before: int | None = None) -> Path | None:
    """
    The newest checkpoint that can be used; damaged ones are named in the log.

    Args:
        output_dir (`Path`): folder of the run.
        before (`int`, *optional*): only checkpoints of earlier steps than this.
    """
    for step, folder in sorted(_checkpoints(output_dir), reverse=True):
        if before is not None and step >= before:
            continue
        problem = damage(folder)
        if problem is None:
            return folder
        logger.warning("%s is damaged and not used: %s.", folder, problem)
    return None


def find_checkpoint(
    resume_from: str | os.PathLike | bool | None,
    output_dir: Path,
    token: str | None = None,
) -> Path | None:
    """
    The checkpoint that `resume_from_checkpoint` asks for, every file of it read.

    Args:
        resume_from (`str`, `os.PathLike` or `bool`, *optional*):
            A folder; `True` for the newest whole checkpoint of `output_dir`; or on the Hub `"user/repo"` for the one
            that `hub_strategy="checkpoint"` or `"all_checkpoints"` has put there, or `"user/repo/checkpoint-20"`.
        output_dir (`Path`):
            Folder of the run.
        token (`str`, *optional*):
            Token for the Hub.

    Returns:
        `Path`: `None` to begin at the beginning, which `True` means where there is no checkpoint yet.

    Raises:
        [`CheckpointError`]: when the checkpoint is damaged or is not there.
    """
    if resume_from is None or str(resume_from).lower() == "false":
        return None
    if str(resume_from).lower() == "true":  # the command line has only text
        folder = newest_whole(output_dir)
        if folder is None:
            if _checkpoints(output_dir):
                raise CheckpointError(
                    f"No checkpoint in {output_dir} is whole; leave out `resume_from_checkpoint` to begin again."
                )
            return None
    else:
        if str(resume_from).lower() in _NEWEST and not Path(resume_from).is_dir():
            raise CheckpointError(
                f"resume_from_checkpoint={str(resume_from)!r} names no checkpoint; write `true` for the newest whole one "
                f"in {output_dir}, or give a folder."
            )
        folder = Path(resume_from) if Path(resume_from).is_dir() else _download(str(resume_from), token)
        problem = damage(folder)
        if problem is not None:
            step = _step_of(folder)
            older = None if step is None else newest_whole(folder.parent, before=step)
            offer = (
                f"resume from {older}, the newest whole one before it" if older else "there is no whole one before it"
            )
            raise CheckpointError(f"{folder} is damaged: {problem}; {offer}.")
    return folder


def check_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """
    Find out whether a run can go on from a checkpoint.

    Args:
        folder (`Path`):
            The checkpoint.
        settings (`dict`):
            What the run that wrote it has to have in common with this one; names that it did not record are passed over.

    Raises:
        [`CheckpointError`]: when it was written with other settings.
    """
    written = json.loads((folder / SEAL).read_text())["settings"]
    settings = json.loads(json.dumps(settings))  # tuples as lists
    changed = [name for name in settings if name in written and written[name] != settings[name]]
    if changed:
        raise CheckpointError(
            f"{folder} was written with {', '.join(f'{name}={written[name]}' for name in changed)}, and this run has "
            f"{', '.join(f'{name}={settings[name]}' for name in changed)}. What it holds fits no other run: resume with "
            "the same, or leave out `resume_from_checkpoint` to begin again."
        )


def fixed_fields(args: Any, holds_rollout: bool) -> dict[str, Any]:
    """
    Those fields of a configuration that have to stay when a run resumes, as their annotations say.

    Args:
        args (`Any`): the configuration, a dataclass.
        holds_rollout (`bool`): whether the checkpoint holds a rollout, so that fields marked `ROLLOUT` count too.
    """
    counting = (ALWAYS, ROLLOUT) if holds_rollout else (ALWAYS,)
    hints = get_type_hints(type(args), include_extras=True)
    marked = {name: hint.__metadata__ for name, hint in hints.items() if get_origin(hint) is Annotated}
    return {name: getattr(args, name) for name, marks in marked.items() if any(mark in counting for mark in marks)}


def write_failure(folder: Path, error: BaseException | None) -> CheckpointError:
    """The error for a checkpoint that could not be written: why, and what is still there."""
    whole = newest_whole(folder.parent)
    kept = f"resume from {whole}, which is whole" if whole else "there is no earlier checkpoint"
    free = shutil.disk_usage(folder.parent).free / 1e9
    return CheckpointError(
        f"{folder} could not be written ({error or 'another process could not write its part'}; {free:.2f} GB are "
        f"free there). Make room or choose another `output_dir`; {kept}."
    )


def remove_leftovers(output_dir: Path) -> None:
    """Clear away what a killed run had begun to write."""
    for name in (WRITING, PUSHING):
        shutil.rmtree(output_dir / name, ignore_errors=True)


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as content:
        while part := content.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def _step_of(folder: Path) -> int | None:
    match = re.fullmatch(r"checkpoint-(\d+)", folder.name)
    return int(match[1]) if match else None


def _checkpoints(output_dir: Path) -> list[tuple[int, Path]]:
    folders = [folder for folder in output_dir.glob("checkpoint-*") if folder.is_dir()]
    return [(step, folder) for folder in folders if (step := _step_of(folder)) is not None]


def _download(name: str, token: str | None) -> Path:
    repo_id, subfolder = "/".join(name.split("/")[:2]), "/".join(name.split("/")[2:])
    try:
        check_source(repo_id, "resume_from_checkpoint", "model")
        files = HfApi(token=token).list_repo_files(repo_id)
        if not subfolder:
            folders = {Path(file).parts[0] for file in files if Path(file).name == SEAL}
            steps = {step: folder for folder in folders if (step := _step_of(Path(folder))) is not None}
            subfolder = "last-checkpoint" if "last-checkpoint" in folders or not steps else steps[max(steps)]
        if f"{subfolder}/{SEAL}" not in files:
            raise CheckpointError(
                f"{repo_id} on the Hub holds no checkpoint in {subfolder}/; check `resume_from_checkpoint`."
            )
        root = snapshot_download(repo_id, allow_patterns=f"{subfolder}/*", token=token)
    except (HTTPError, OSError, ValueError) as error:
        raise CheckpointError(
            f"resume_from_checkpoint={name!r} is no folder, and on the Hub it cannot be found: {error}"
        ) from error
    return Path(root) / subfolder
