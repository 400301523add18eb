"""
What `log_completions` shows of a rollout: the candidates with rewards and verdicts, on disk, in the trackers and in the
dataset on the Hub that `log_completions_hub_repo` names.
"""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Value
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HTTPError
from PIL import Image as PILImage
from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback

from ..data import MASK_COLUMN, SOURCE_COLUMN
from ..evaluation import save_samples
from ..evaluation.grid import edited_pictures
from ..folders import replacing
from ..hub_errors import hub_problem
from ..judges import JudgeReward
from ..quiet import without_bars_of_datasets
from ..release import PushError, public_name
from ..release.card_sections import card_environment
from ..runtime import BackgroundPush
from .evaluation import gather_to_main


logger = logging.getLogger(__name__)

_TYPES = {"judge_margin": "float64", "judge_consistent": "bool"}  # of columns that need not be text
_SIDE_SENT = 320  # pixels of the longer side of a picture that goes from one process to another: those of a sheet
_EVERY_S = 120  # the Hub limits commits an hour, and a rollout may be short


def log_completions(
    folder: Path,
    step: int,
    rows: Sequence[Mapping[str, Any]],
    images: Sequence[PILImage.Image],
    columns: Mapping[str, Sequence[Any]],
    num_shown: int,
    report_to: Sequence[str],
    callbacks: Sequence[TrainerCallback],
    rewards: Sequence[str] = (),
    process: int = 0,
    num_processes: int = 1,
) -> list[str]:
    """
    Write `step_000010.parquet` with a row per candidate, and `step_000010.png` with the first prompts: their candidates with
    rewards and advantage, the winner in a frame, and what the judge said. These prompts also go to wandb, trackio and
    TensorBoard, as a table and as that sheet, where the run reports to them.

    Called by all processes. Each writes a table of its own candidates, `step_000010-00001-of-00008.parquet` where there are
    several. Only what the sheet and the trackers show goes to the main one, and of others at the size of the sheet.

    A disk that is full costs a warning and not the run.

    Args:
        folder (`Path`): where the files go.
        step (`int`): the first optimizer step that trains on them, the first of a run being 1.
        rows (`Sequence[dict]`):
            the `prompt` of every group of candidates, and the `source_image` if it edits one, or the list of them, with its
            `mask_image`.
        images (`Sequence[PIL.Image.Image]`): the candidates of a row adjacent.
        columns (`Mapping[str, Sequence]`): what else is known of every candidate, such as rewards and verdicts.
        num_shown (`int`): rows on the sheet and in the trackers.
        report_to (`Sequence[str]`): names of the trackers.
        callbacks (`Sequence[~transformers.TrainerCallback]`): the run's callbacks; TensorBoard's holds the writer.
        rewards (`Sequence[str]`, *optional*): the columns that are rewards.
        process (`int`, *optional*, defaults to `0`): number of this process.
        num_processes (`int`, *optional*, defaults to `1`): how many have as many candidates each.

    Returns:
        `list[str]`: names of the tables that were written; on the main process alone.
    """
    n = len(images) // len(rows)
    candidates = {
        "step": [step] * len(images),
        "prompt": [row["prompt"] for row in rows for _ in range(n)],
        "candidate": [k + 1 for _ in rows for k in range(n)],
        # a reward function may have logged something else than one value per candidate
        **{name: list(values) for name, values in columns.items() if len(values) == len(images)},
    }
    pictures = ["image"]
    edited = edited_pictures(rows)
    if "source" in edited:
        # one reference or several: a column has one type
        listed = [list(source) if isinstance(source, list) else [source] for source in edited["source"]]
        candidates[SOURCE_COLUMN] = [source for source in listed for _ in range(n)]
    if "mask" in edited:
        candidates[MASK_COLUMN] = [mask for mask in edited["mask"] for _ in range(n)]
    pictures = [*(name for name in (SOURCE_COLUMN, MASK_COLUMN) if name in candidates), *pictures]
    candidates["image"] = list(images)
    table = f"step_{step:06d}" + (f"-{process:05d}-of-{num_processes:05d}" if num_processes > 1 else "") + ".parquet"
    written = _save_table(folder / table, candidates, step)

    shown = slice(max(0, num_shown - process * len(rows)) * n)
    first = {name: values[shown] for name, values in candidates.items()}
    if process:
        first |= {name: [*map(_small, first[name])] for name in pictures}
    parts = gather_to_main((table if written else None, first))
    if parts is None:
        return []
    tables = [name for name, _ in parts if name is not None]
    joined = {name: [value for _, of_process in parts for value in of_process.get(name, [])] for name in first}
    joined = {name: values for name, values in joined.items() if len(values) == len(joined["prompt"])}
    sheet = folder / f"step_{step:06d}.png"
    try:
        for other in folder.glob(f"step_{step:06d}*.parquet"):
            if other.name not in tables:  # of as many processes as there were before the run was resumed
                other.unlink()
        _save_sheet(sheet, joined, n, rewards)
    except OSError as error:
        _warn(step, error)
    else:
        _report(sheet, step, joined, [name for name in pictures if name in joined], report_to, callbacks)
    return tables


def _warn(step: int, error: OSError) -> None:
    logger.warning("The candidates of step %d could not be written: %s", step, error)


def _small(picture: PILImage.Image | list[PILImage.Image]) -> PILImage.Image | list[PILImage.Image]:
    if isinstance(picture, list):
        return [*map(_small, picture)]
    picture = picture.copy()
    picture.thumbnail((_SIDE_SENT, _SIDE_SENT), PILImage.Resampling.LANCZOS)
    return picture


def _save_sheet(path: Path, table: Mapping[str, Sequence[Any]], n: int, rewards: Sequence[str]) -> None:
    prompts = table["prompt"][::n]
    named = {"source": SOURCE_COLUMN, "mask": MASK_COLUMN}
    edited = {label: table[name][::n] for label, name in named.items() if name in table}
    shown = {**edited, **{f"candidate {k + 1}": table["image"][k::n] for k in range(n)}}
    save_samples(path, prompts, shown, **_of_verdicts(table, rewards, n, len(prompts)))


def _of_verdicts(table: Mapping[str, Sequence[Any]], rewards: Sequence[str], n: int, prompts: int) -> dict[str, Any]:
    """What a sheet says of the first prompts, as `save_samples` takes it."""
    captions = {f"candidate {k + 1}": [] for k in range(n)}
    best, remarks = [], []
    for i in range(prompts):
        winner = table["judge_winner"][i * n] if "judge_winner" in table else None
        best.append(f"candidate {winner.split()[-1]}" if winner is not None and winner.startswith("image ") else None)
        reason = table["judge_reason"][i * n] if "judge_reason" in table else None
        said = {None: "", "tie": "a tie", "failed": "no verdict"}.get(winner, f"{best[-1]} won")
        remarks.append(": ".join(part for part in (said, reason) if part))
        for k in range(n):
            of_it = [("reward" if len(rewards) == 1 else name, table[name][i * n + k]) for name in rewards]
            of_it += [("advantage", table["advantage"][i * n + k])] if "advantage" in table else []
            captions[f"candidate {k + 1}"].append("\n".join(f"{name} {_figure(value)}" for name, value in of_it))
    return {"captions": captions, "best": best, "remarks": remarks}


def _figure(value: float | None) -> str:
    return "none" if value is None or math.isnan(value) else f"{value:.3g}"


def judged_by(judges: Sequence[JudgeReward], count: int) -> dict[str, list[str]]:
    """
    Columns that say who judged `count` candidates: `judge`, the models, and `rubric`, what they judged by: hashes
    of rubrics, names and versions of presets.

    Args:
        judges (`Sequence[JudgeReward]`): the judges of the run; without any there are no columns.
        count (`int`): number of candidates.
    """
    if not judges:
        return {}
    models = dict.fromkeys(public_name(name)[0] for judge in judges for name in judge.model_names)
    rubrics = dict.fromkeys(asked for judge in judges for asked in judge.asked_by)
    return {"judge": [", ".join(models)] * count, "rubric": [", ".join(rubrics)] * count}


def _save_table(path: Path, candidates: Mapping[str, Sequence[Any]], step: int) -> bool:
    """Whether it could be written."""
    try:
        with without_bars_of_datasets():  # they would stand in the middle of the screen
            data = Dataset.from_dict(candidates)
            for name, feature in data.features.items():
                if feature == Value("null"):  # a column of nothing would not fit those of other steps
                    data = data.cast_column(name, Value(_TYPES.get(name, "string")))
            with replacing(path) as written:
                data.to_parquet(written)
    except OSError as error:
        _warn(step, error)
        return False
    return True


def _report(sheet: Path, step: int, shown: dict[str, list], pictures: Sequence[str], report_to, callbacks) -> None:
    table = {name: values for name, values in shown.items() if name not in pictures}
    trackers = []
    if "wandb" in report_to:
        import wandb

        trackers.append(wandb)
    if "trackio" in report_to:
        import trackio

        trackers.append(trackio)
    rows = list(zip(*table.values(), strict=True))
    for tracker in trackers:
        # of several references the trackers get the first
        firsts = [[some[0] if isinstance(some, list) else some for some in shown[name]] for name in pictures]
        drawn = [[tracker.Image(image) for image in images] for images in zip(*firsts, strict=True)]
        data = [[*row, *some] for row, some in zip(rows, drawn, strict=True)]
        tracker.log({
            "completions": tracker.Table(columns=[*table, *pictures], data=data),
            "completions/sheet": tracker.Image(str(sheet)),
            "train/global_step": step,
        })  # fmt: skip
    for callback in callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.tb_writer is not None:
            picture = np.asarray(PILImage.open(sheet).convert("RGB"))
            callback.tb_writer.add_image("completions/sheet", picture, step, dataformats="HWC")
            callback.tb_writer.add_text("completions", _markdown([list(table), ["---"] * len(table), *rows]), step)


def _markdown(lines: list[Sequence[Any]]) -> str:
    def cell(value: Any) -> str:
        return str(value).replace("\n", " ").replace("|", "\\|")

    return "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines)


class CompletionsRepo:
    """
    Keeps a folder of tables on the Hub too, beside training: what has come together in two minutes is one commit, and
    what could not be sent is sent with the next.

    Args:
        repo_id (`str`): the dataset's repository, created when missing.
        folder (`Path`): where the tables are written.
        path_in_repo (`str`): folder in the repository, so that several adapters can share it.
        private (`bool`, *optional*): visibility of a repository that has to be created.
        token (`str`, *optional*): token with write permission.
    """

    def __init__(self, repo_id: str, folder: Path, path_in_repo: str, private: bool | None, token: str | None):
        self.repo_id, self.folder, self.path_in_repo = repo_id, folder, path_in_repo
        self._private, self._api = private, HfApi(token=token)
        self._new: set[str] = set()  # written or written again by this run, and not sent
        self._last = -float(_EVERY_S)
        self._lacks_some = False  # which was told
        self._push = BackgroundPush()

    def add(self, names: Sequence[str]) -> None:
        """Send these tables now or later."""
        self._new.update(names)
        if any(not (self.folder / name).is_file() for name in names) and not self._lacks_some:
            self._lacks_some = True
            logger.warning(
                "Some tables of completions lie on other machines, and are not sent to %s: let `output_dir` be a folder that "
                "all machines share.",
                self.repo_id,
            )
        if not self._push.busy and time.monotonic() - self._last >= _EVERY_S:
            self._last = time.monotonic()
            self._push.start(self._send, set(self._new))

    def finish(self) -> None:
        """Send what is left, and wait for it."""
        self._push.wait()
        if self._new:
            self._push.attempt(self._send, set(self._new))

    @property
    def failure(self) -> str | None:
        """What went wrong with the last commit."""
        return self._push.failure

    def _send(self, names: set[str]) -> None:
        try:
            self._api.create_repo(self.repo_id, repo_type="dataset", private=self._private, exist_ok=True)
            there = self._api.list_repo_files(self.repo_id, repo_type="dataset")
            # with what an earlier part of the run could not send
            left = {file.name for file in self.folder.glob("*.parquet")}
            names = names | {name for name in left if f"{self.path_in_repo}/{name}" not in there}
            files = {f"{self.path_in_repo}/{name}": self.folder / name for name in sorted(names & left)}
            if "README.md" not in there:
                card = card_environment().get_template("completions.md.jinja2").render(repo_id=self.repo_id)
                files["README.md"] = card.encode()
            self._api.create_commit(
                self.repo_id,
                [CommitOperationAdd(path_in_repo=path, path_or_fileobj=file) for path, file in files.items()],
                commit_message=f"{len(names)} tables of completions",
                repo_type="dataset",
            )
        except (HTTPError, OSError, RuntimeError) as error:
            raise PushError(
                f"Could not push completions to the dataset {self.repo_id}: {hub_problem(error, self.repo_id)} They are "
                f"kept in {self.folder}, and the next push sends them too."
            ) from error
        self._new -= names
