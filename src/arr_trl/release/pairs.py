"""A dataset of preference pairs: parquet files with pictures that the Hub's viewer shows, and a card that says whose they are."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Image, List, Value
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HTTPError

from ..hub_errors import hub_problem
from .card_sections import card_environment
from .push import PushError


_ROWS_OF_A_FILE = 1000
# What a column holds, and what the card says of it; `source_image` is a list, since an instruction may refer to several.
COLUMNS = {
    "prompt": (Value("string"), "what was asked for"),
    "source_image": (List(Image()), "the pictures that were to be edited"),
    "mask_image": (Image(), "what of them was to be drawn anew, white"),
    "chosen": (Image(), "the picture that was preferred"),
    "rejected": (Image(), "the other one"),
    "images": (List(Image()), "the candidates of the prompt"),
    "label_rank": (List(Value("float64")), "the rank of each of them, 1 for the best, equal where they are level"),
    "rationale": (Value("string"), "the words of who preferred it"),
    "margin": (Value("float64"), "how clear the decision was, 0 to 1, where it is known"),
    "chosen_noise": (
        List(Value("int64")),
        "the noise that it was drawn from: the seed of a generator on the CPU, and how many candidates' noise it drew before",
    ),
    "rejected_noise": (List(Value("int64")), "the same of the other one"),
    "chosen_candidate": (Value("int64"), "its number among the candidates that were shown, from 1"),
    "rejected_candidate": (Value("int64"), "the same of the other one"),
    "judge": (Value("string"), "who preferred it"),
    "rubric": (Value("string"), "what it was judged by: the hash of a rubric, or the name and version of a preset"),
    "step": (Value("int64"), "optimizer step of the run before which it was drawn"),
    "model": (Value("string"), "what drew the pictures"),
    "edit_model": (Value("string"), "what edited the first picture into the second"),
    "instruction": (Value("string"), "what that was told"),
    "faults": (List(Value("string")), "what was found wrong with the first picture, or with each"),
    "rater": (Value("string"), "who voted"),
    "time": (Value("string"), "when, in UTC"),
    "seed": (Value("int64"), "seed of the first picture's noise"),
    "edit_seed": (Value("int64"), "seed of the second's, by the model that edited"),
}


@dataclass
class PairsFacts:
    """
    What the card of a dataset of pairs says beside its columns.

    Args:
        made_by (`str`): how the pairs came about, a sentence or two.
        judges (`set[str]`): who preferred, collected from the rows.
        rubrics (`set[str]`): hashes of the rubrics, collected from the rows.
        left_out (`dict[str, int]`): how many were left out, by reason.
    """

    made_by: str
    judges: set[str] = field(default_factory=set)
    rubrics: set[str] = field(default_factory=set)
    left_out: Mapping[str, int] = field(default_factory=dict)


def write_pairs(
    rows: Iterable[Mapping[str, Any]], folder: Path, facts: PairsFacts, test_share: float = 0.0
) -> dict[str, int]:
    """
    Write a dataset to a folder, in place of the one that was there; a thousand rows are in memory at a time.

    Args:
        rows (`Iterable[dict]`):
            Rows with names of [`COLUMNS`], all with the same ones; pictures as `{"bytes": ..., "path": None}`.
        folder (`Path`): gets `data/train-00000.parquet` and so on, and `README.md`.
        facts ([`PairsFacts`]): for the card; `left_out` may be filled while `rows` are read.
        test_share (`float`, *optional*, defaults to `0.0`):
            Share of the prompts, chosen by their text, whose rows are a split `test`.

    Returns:
        `dict[str, int]`: rows of each split.

    Raises:
        `ValueError`: when there is not one row.
    """
    folder.mkdir(parents=True, exist_ok=True)
    counts: dict[str, int] = {}
    waiting: dict[str, list[Mapping[str, Any]]] = {"train": [], "test": []}
    names: list[str] = []
    with tempfile.TemporaryDirectory(prefix=".saving-", dir=folder) as written:
        data = Path(written, "data")
        for row in rows:
            names = names or [name for name in COLUMNS if name in row]
            facts.judges |= {row["judge"]} if row.get("judge") else set()
            facts.rubrics |= {row["rubric"]} if row.get("rubric") else set()
            split = "test" if _place(row["prompt"]) < test_share else "train"
            waiting[split].append(row)
            if len(waiting[split]) == _ROWS_OF_A_FILE:
                _write(waiting[split], data, split, counts, names)
        for split, some in waiting.items():
            _write(some, data, split, counts, names)
        if not counts:
            found = ", ".join(f"{number} {reason}" for reason, number in facts.left_out.items())
            raise ValueError(f"There is not one pair to write{f': {found}' if found else ''}.")
        card = card_environment().get_template("pairs.md.jinja2")
        text = card.render(facts=facts, counts=counts, columns={n: COLUMNS[n][1] for n in names}, name=folder.name)
        Path(written, "README.md").write_text(text + "\n", encoding="utf-8")
        shutil.rmtree(folder / "data", ignore_errors=True)
        data.replace(folder / "data")
        Path(written, "README.md").replace(folder / "README.md")
    return counts


def push_pairs(folder: Path, repo_id: str, private: bool | None = None, token: str | None = None) -> str:
    """
    Put a dataset that [`write_pairs`] wrote on the Hub, in one commit.

    Returns:
        `str`: address of the commit.

    Raises:
        [`PushError`]: when the Hub does not take it.
    """
    api = HfApi(token=token)
    try:
        repo_id = api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True).repo_id
        files = [folder / "README.md", *sorted((folder / "data").glob("*.parquet"))]
        names = [file.relative_to(folder).as_posix() for file in files]
        there = api.list_repo_files(repo_id, repo_type="dataset")
        old = [name for name in there if name.startswith("data/") and name not in names]
        commit = api.create_commit(
            repo_id,
            [
                *(CommitOperationAdd(name, file) for name, file in zip(names, files, strict=True)),
                *(CommitOperationDelete(name) for name in old),
            ],
            commit_message="Preference pairs",
            repo_type="dataset",
        )
    except (HTTPError, OSError, RuntimeError) as error:
        raise PushError(
            f"Could not push the pairs to the dataset {repo_id}: {hub_problem(error, repo_id)} They are kept in {folder}."
        ) from error
    return commit.commit_url


def _write(rows: list, data: Path, split: str, counts: dict[str, int], names: list[str]) -> None:
    if not rows:
        return
    features = Features({name: COLUMNS[name][0] for name in names})
    data.mkdir(exist_ok=True)
    number = counts.get(split, 0) // _ROWS_OF_A_FILE
    Dataset.from_list(rows, features=features).to_parquet(data / f"{split}-{number:05}.parquet")
    counts[split] = counts.get(split, 0) + len(rows)
    rows.clear()


def _place(prompt: str) -> float:
    """Where a prompt lies in 0..1, the same in every run."""
    return int.from_bytes(hashlib.blake2b(prompt.encode(), digest_size=8).digest(), "big") / 2**64
