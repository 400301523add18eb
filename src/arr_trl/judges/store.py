"""Every question a judge asked and what came back, in one SQLite file: cache and audit trail at once."""

import json
import sqlite3
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from ..rubrics import Rubric


_APPLICATION_ID = 0x41525254  # "ARRT": tells our file from any other SQLite file
_SCHEMA_VERSION = 1
_SUFFIXES = (".sqlite", ".sqlite3", ".db")
_TIMEOUT_S = 60  # how long another process may hold the file
_MEMORY_ROWS = 20_000  # what a store without a file keeps

_CREATE = """
CREATE TABLE IF NOT EXISTS questions (
    key TEXT PRIMARY KEY,
    status TEXT NOT NULL,
    model TEXT NOT NULL,
    template TEXT NOT NULL,
    rubric TEXT NOT NULL,
    prompt TEXT NOT NULL,
    images TEXT NOT NULL,
    positions TEXT NOT NULL,
    reply TEXT,
    choice_logprobs TEXT,
    problem TEXT,
    asked INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    latency_s REAL NOT NULL,
    created_at REAL NOT NULL,
    server TEXT
);
CREATE TABLE IF NOT EXISTS rubrics (hash TEXT PRIMARY KEY, content TEXT NOT NULL);
"""


@dataclass(frozen=True)
class StoredAnswer:
    """
    One question and its answer.

    Args:
        key (`str`): digest of everything that can change the answer.
        status (`str`):
            `"answered"`; `"invalid"` when the model replied, and again after the repair, with something that is no
            answer; `"failed"` when no reply came. A failed question is asked again, and so is an invalid one by the
            next run.
        model (`str`): name of the chat model.
        template (`str`): name, version and digest of the prompt template.
        rubric (`str`): content hash of the rubric.
        prompt (`str`): the caption or instruction.
        images (`tuple[str, ...]`): digests of the images in the order shown, the source image first if there is one.
        positions (`tuple[int, ...]`): index of the candidate at each position shown.
        reply (`str`, *optional*): last reply of the model.
        choice_logprobs (`dict[str, float]`, *optional*): log-probability of each choice.
        problem (`str`, *optional*): why the status is not `"answered"`.
        asked (`int`): how often the model was asked, in all runs: 2 when a repair was needed.
        prompt_tokens (`int`): tokens in, over all asking.
        completion_tokens (`int`): tokens out, over all asking.
        latency_s (`float`): seconds, over all asking.
        created_at (`float`): seconds since the epoch; filled in by the store.
        server (`str`, *optional*): where the chat model was asked; its name alone may be that of several.
    """

    key: str
    status: str
    model: str
    template: str
    rubric: str
    prompt: str
    images: tuple[str, ...]
    positions: tuple[int, ...]
    reply: str | None = None
    choice_logprobs: dict[str, float] | None = None
    problem: str | None = None
    asked: int = 1
    prompt_tokens: int = 0
    completion_tokens: int = 0
    latency_s: float = 0.0
    created_at: float = 0.0
    server: str | None = None


_COLUMNS = [field.name for field in fields(StoredAnswer)]
_JSON_COLUMNS = ("images", "positions", "choice_logprobs")


class StoreError(OSError):
    """An answer cannot be kept; the message says what to change."""


class VerdictStore:
    """
    Answers by content. Several threads and processes may use one file at once.

    Args:
        path (`str` or `Path`, *optional*):
            SQLite file; it and its folder are created when needed, at the first use. The file has to be on a local
            disk: SQLite's locks do not work on network file systems. Without a path the last 20,000 answers are kept
            in memory.

    Raises:
        `ValueError`: at the first use, when the file is something else or of another version.
        `OSError`: at the first use, when it cannot be opened or written.
        [`StoreError`]: when an answer cannot be written later, for a disk that is full.
    """

    def __init__(self, path: str | Path | None = None):
        self.path = None if path is None else Path(path)
        self.opened_at = time.time()
        self._has_told = False
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def get(self, keys: Iterable[str]) -> dict[str, StoredAnswer]:
        """The answers that are there; a failed question counts as not there."""
        found, keys = {}, list(keys)
        with self._lock:
            connection = self._open()
            for start in range(0, len(keys), 500):  # SQLite limits the number of parameters
                part = keys[start : start + 500]
                rows = connection.execute(
                    f"SELECT {', '.join(_COLUMNS)} FROM questions "
                    f"WHERE status != 'failed' AND key IN ({', '.join('?' * len(part))})",
                    part,
                )
                found.update((row[0], _answer(row)) for row in rows)
        return found

    def put(self, answers: Iterable[StoredAnswer], rubrics: Iterable[Rubric] = ()) -> None:
        """Keep answers, and the rubrics they were given under. The first reply to a question stands."""
        now = time.time()
        rows = [_row(answer, now) for answer in answers]
        updates = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[1:])
        with self._lock:
            connection = self._open()
            try:
                with connection:  # one transaction: all of it or nothing
                    connection.executemany(
                        f"INSERT INTO questions ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) "
                        f"ON CONFLICT (key) DO UPDATE SET {updates} WHERE status = 'failed' "
                        # a reply that was no answer gives way to an answer, and to a later reply that is none
                        "OR (status = 'invalid' AND excluded.status = 'answered') "
                        "OR (status = 'invalid' AND excluded.status = 'invalid' AND excluded.asked > asked)",
                        rows,
                    )
                    connection.executemany(
                        "INSERT OR IGNORE INTO rubrics VALUES (?, ?)",
                        [(rubric.content_hash, rubric.model_dump_json()) for rubric in rubrics],
                    )
                    if self.path is None:
                        connection.execute(
                            "DELETE FROM questions WHERE rowid <= (SELECT max(rowid) FROM questions) - ?",
                            (_MEMORY_ROWS,),
                        )
            except sqlite3.DatabaseError as error:  # a full disk, a quota, a disk that became read-only
                raise StoreError(
                    f"The verdict store {self.path} cannot be written to ({error}); make room there, or give `store` a "
                    "path on another disk. What it holds is kept."
                ) from error

    def give_up(self, answers: Sequence[StoredAnswer]) -> None:
        """Take answers for none, since the question is asked again; the first time warn of all that are none."""
        if not answers:
            return
        with self._lock:
            connection = self._open()
            with connection:
                connection.executemany(
                    "UPDATE questions SET status = 'invalid', problem = ? WHERE key = ?",
                    [(answer.problem, answer.key) for answer in answers],
                )
            (count,) = connection.execute(
                "SELECT count(*) FROM questions WHERE status = 'invalid' AND created_at < ?", (self.opened_at,)
            ).fetchone()
            if self._has_told:
                return
            self._has_told = True
        warnings.warn(
            f"{count} questions in the verdict store {self.path} had no usable answer in an earlier run, one of them: "
            f"{answers[-1].problem} Those that this run comes to are asked again."
        )

    def __len__(self) -> int:
        with self._lock:
            return self._open().execute("SELECT count(*) FROM questions").fetchone()[0]

    def __iter__(self) -> Iterator[StoredAnswer]:
        """Every question, oldest first, failed ones too."""
        with self._lock:
            rows = self._open().execute(f"SELECT {', '.join(_COLUMNS)} FROM questions ORDER BY created_at").fetchall()
        return map(_answer, rows)

    def rubric(self, content_hash: str) -> Rubric | None:
        """The rubric with this hash, if answers were given under it."""
        with self._lock:
            row = self._open().execute("SELECT content FROM rubrics WHERE hash = ?", (content_hash,)).fetchone()
        return None if row is None else Rubric.model_validate_json(row[0])

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            if self.path is None:
                self._connection = _connect(":memory:")
            else:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    self._connection = _connect(self.path)
                except sqlite3.OperationalError as error:  # locked, read-only, disk full: the file is not at fault
                    raise OSError(
                        f"The verdict store {self.path} cannot be opened ({error}); check that the folder can be "
                        "written and is on a local disk."
                    ) from error
                except sqlite3.DatabaseError as error:
                    if self.path.suffix not in _SUFFIXES:  # some other file, given by mistake
                        raise ValueError(
                            f"{self.path} is not a SQLite file; give `store` a path of its own, such as judge.sqlite."
                        ) from error
                    ending = time.strftime("corrupt-%Y%m%d-%H%M%S")
                    for part in ("", "-wal", "-shm"):  # a journal left behind would be applied to the new file
                        path = Path(f"{self.path}{part}")
                        if path.exists():
                            path.replace(f"{self.path}.{ending}{part}")
                    warnings.warn(
                        f"The verdict store {self.path} cannot be read ({error}). It was set aside as "
                        f"{self.path.name}.{ending} and a new one is begun; what it held is asked again."
                    )
                    self._connection = _connect(self.path)
        return self._connection


def _connect(path: str | Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_TIMEOUT_S, check_same_thread=False)
    try:
        _use_write_ahead_log(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("BEGIN IMMEDIATE")  # two processes may create the file at the same moment
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and application != _APPLICATION_ID:
            raise ValueError(f"{path} is a SQLite file of something else; give `store` a path of its own.")
        # damage within the file would otherwise be met in the middle of a run
        if tables and (found := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(" ".join(found.split()))
        if tables and version != _SCHEMA_VERSION:
            raise ValueError(
                f"The verdict store {path} has version {version}; this arr_trl reads version {_SCHEMA_VERSION}. Give "
                "`store` another path, or use the arr_trl that wrote it."
            )
        for statement in filter(str.strip, _CREATE.split(";")):
            connection.execute(statement)
        if "server" not in [column[1] for column in connection.execute("PRAGMA table_info(questions)")]:
            connection.execute("ALTER TABLE questions ADD COLUMN server TEXT")  # a store from before it was recorded
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        connection.commit()
    except BaseException:
        connection.close()
        raise
    return connection


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Writers wait for each other, readers for nobody."""
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            # of two processes that make the switch at once, SQLite refuses one without waiting
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _row(answer: StoredAnswer, now: float) -> list:
    values = vars(answer) | {"created_at": answer.created_at or now}
    for name in _JSON_COLUMNS:
        values[name] = None if values[name] is None else json.dumps(values[name])
    # SQLite takes no halves of characters, and a caption cut by somebody's script may end in one
    return [
        v.encode("utf-8", "replace").decode("utf-8") if isinstance(v, str) else v for v in map(values.get, _COLUMNS)
    ]


def _answer(row: tuple) -> StoredAnswer:
    values = dict(zip(_COLUMNS, row, strict=True))
    values["images"] = tuple(json.loads(values["images"]))
    values["positions"] = tuple(json.loads(values["positions"]))
    if values["choice_logprobs"] is not None:
        values["choice_logprobs"] = json.loads(values["choice_logprobs"])
    return StoredAnswer(**values)
