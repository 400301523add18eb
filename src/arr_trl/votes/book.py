"""Votes of several raters on pairs: kept in a SQLite file, and written as preference rows that anything here reads."""

import json
import sqlite3
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..folders import replacing


_APPLICATION_ID = 0x41525256  # "ARRV": tells our file from any other SQLite file
_TIMEOUT_S = 60
_CREATE = """
CREATE TABLE IF NOT EXISTS pairs (key TEXT PRIMARY KEY, row TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS votes (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    rater TEXT NOT NULL,
    pair TEXT NOT NULL,
    choice TEXT NOT NULL,
    reason TEXT NOT NULL,
    faults TEXT NOT NULL,
    time TEXT NOT NULL,
    UNIQUE (rater, pair)
);
"""
CHOICES = ("0", "1", "tie", "skip")


@dataclass(frozen=True)
class VotingPair:
    """
    A pair to vote on.

    Args:
        key (`str`): digest of the prompt and the pictures.
        prompt (`str`): the caption, or the instruction of an edit.
        images (`tuple[str, str]`): paths of its pictures, from the folder of the votes.
        source (`tuple[str, ...]`): paths of what was edited.
        given_rank (`tuple[int, int]`, *optional*): the label that it came with, which raters do not see.
        models (`tuple[str, str]`, *optional*): what drew the pictures, which they do not see either.
        mask (`str`, *optional*): path of the mask of an edit, white where it was to be drawn anew.
    """

    key: str
    prompt: str
    images: tuple[str, str]
    source: tuple[str, ...] = ()
    given_rank: tuple[int, int] | None = None
    models: tuple[str, str] | None = None
    mask: str | None = None

    def row(self) -> dict[str, Any]:
        """What the pair has in the row of every vote on it."""
        source = {"source_image": list(self.source)} if self.source else {}
        source |= {} if self.mask is None else {"mask_image": self.mask}
        return {
            "prompt": self.prompt,
            "images": list(self.images),
            **source,
            "pair": self.key,
            "given_rank": self.given_rank,
            "models": self.models,
        }


@dataclass(frozen=True)
class Vote:
    """
    What a rater said of a pair.

    Args:
        rater (`str`): who.
        pair (`str`): key of the pair.
        choice (`str`): `"0"` or `"1"` for the better picture in the order of the data, `"tie"` or `"skip"`.
        reason (`str`): why, in the rater's words.
        faults (`tuple[tuple[str, ...], tuple[str, ...]]`): kinds of faults of each picture.
        time (`str`): when, in UTC.
    """

    rater: str
    pair: str
    choice: str
    reason: str = ""
    faults: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    time: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="milliseconds"))


class VoteBook:
    """
    The votes of a file of rows: beside it a SQLite file holds every vote as it is cast, so that nothing is lost when the
    program ends at any moment and several of them may write at once; the file itself is written anew after each vote. A
    rater has one vote on a pair, which counts until it is taken back or cast again. Skips are in no row.

    Args:
        path (`str` or `Path`): the file of rows, such as `votes.jsonl`.

    Raises:
        `ValueError`: when the file beside it is none of votes.
        `OSError`: when it cannot be written to.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.store = self.path.with_suffix(".sqlite")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        try:
            self._connection = sqlite3.connect(self.store, timeout=_TIMEOUT_S, check_same_thread=False)
            (tables,) = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            (application,) = self._connection.execute("PRAGMA application_id").fetchone()
            if tables and application != _APPLICATION_ID:
                raise ValueError(f"{self.store} is a SQLite file of something else; give `output` another name.")
            self._connection.executescript(f"PRAGMA application_id = {_APPLICATION_ID}; {_CREATE}")
        except sqlite3.OperationalError as error:
            raise OSError(f"The votes cannot be kept in {self.store} ({error}); choose another `output`.") from error
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{self.store} is not a SQLite file; give `output` another name.") from error

    def cast(self, pair: VotingPair, vote: Vote) -> None:
        """Keep a vote, in place of an earlier one of the same rater on the same pair, and write the rows."""
        if vote.choice not in CHOICES:
            raise ValueError(f"choice={vote.choice!r} is not one of {', '.join(CHOICES)}.")
        with self._lock:
            with self._connection:
                self._connection.execute(
                    "INSERT OR REPLACE INTO pairs VALUES (?, ?)", (pair.key, json.dumps(pair.row(), ensure_ascii=True))
                )
                values = (vote.rater, pair.key, vote.choice, vote.reason, json.dumps(vote.faults), vote.time)
                self._connection.execute(
                    "INSERT OR REPLACE INTO votes (rater, pair, choice, reason, faults, time) VALUES (?, ?, ?, ?, ?, ?)",
                    values,
                )
            self._write()

    def undo(self, rater: str) -> Vote | None:
        """Take back a rater's latest vote or skip, and write the rows; `None` where there is none."""
        with self._lock:
            with self._connection:
                found = self._connection.execute(
                    "SELECT number, rater, pair, choice, reason, faults, time FROM votes WHERE rater = ? "
                    "ORDER BY number DESC LIMIT 1",
                    (rater,),
                ).fetchone()
                if found is None:
                    return None
                self._connection.execute("DELETE FROM votes WHERE number = ?", found[:1])
            self._write()
        return _vote(found[1:])

    def done(self, rater: str) -> set[str]:
        """Keys of the pairs that a rater has voted on or skipped."""
        with self._lock:
            found = self._connection.execute("SELECT pair FROM votes WHERE rater = ?", (rater,)).fetchall()
        return {key for (key,) in found}

    def votes(self) -> list[Vote]:
        """Every vote and skip, in the order in which they were cast."""
        with self._lock:
            found = self._connection.execute(
                "SELECT rater, pair, choice, reason, faults, time FROM votes ORDER BY number"
            ).fetchall()
        return [_vote(one) for one in found]

    def rows(self) -> list[dict[str, Any]]:
        """A row for each vote, as [`~arr_trl.data.preferences.load_preferences`] reads it."""
        with self._lock:
            return self._rows()

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _rows(self) -> list[dict[str, Any]]:
        found = self._connection.execute(
            "SELECT rater, votes.pair, choice, reason, faults, time, row FROM votes JOIN pairs ON votes.pair = pairs.key "
            "WHERE choice != 'skip' ORDER BY number"
        ).fetchall()
        return [row_of_vote(_vote(one[:-1]), json.loads(one[-1])) for one in found]

    def _write(self) -> None:
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in self._rows()]
        with replacing(self.path) as written:
            written.write_text("".join(lines), encoding="utf-8")


def row_of_vote(vote: Vote, pair: Mapping[str, Any]) -> dict[str, Any]:
    """
    The row of a vote.

    Args:
        vote ([`Vote`]): a vote that is no skip.
        pair (`dict`): what [`VotingPair.row`] says of its pair.
    """
    return {
        **pair,
        "label_rank": {"0": [1, 2], "1": [2, 1], "tie": [1, 1]}[vote.choice],
        "rationale": vote.reason or None,
        "faults": [list(kinds) for kinds in vote.faults],
        "rater": vote.rater,
        "time": vote.time,
    }


def _vote(found: tuple) -> Vote:
    *start, faults, time = found
    first, second = json.loads(faults)
    return Vote(*start, (tuple(first), tuple(second)), time)
