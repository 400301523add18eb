import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from full_disk import fill

from arr_trl.judges import StoredAnswer, StoreError, VerdictStore
from arr_trl.rubrics import Criterion, Rubric


def answer(key, **values):
    return StoredAnswer(
        **{
            "key": key,
            "status": "answered",
            "model": "m",
            "template": "ranks.en/1",
            "rubric": "0123",
            "prompt": "a red cube",
            "images": ("d1", "d2"),
            "positions": (1, 0),
            "reply": "{}",
            **values,
        }
    )


def test_an_answer_comes_back_as_it_was_put(tmp_path):
    kept = answer("k", choice_logprobs={"1": -0.1}, prompt_tokens=5, latency_s=0.25, created_at=12.5)
    VerdictStore(tmp_path / "new" / "judge.sqlite").put([kept])
    store = VerdictStore(tmp_path / "new" / "judge.sqlite")
    assert store.get(["k", "other"]) == {"k": kept}
    assert list(store) == [kept]
    assert len(store) == 1


def test_half_a_character_does_not_stop_the_store(tmp_path):
    store = VerdictStore(tmp_path / "judge.sqlite")
    store.put([answer("a", prompt="a lamp \ud83d", reply="\udc00", problem="\x00")])
    kept = store.get(["a"])["a"]
    assert (kept.prompt, kept.reply, kept.problem) == ("a lamp ?", "?", "\x00")


def test_the_first_answer_stands_and_a_failure_gives_way(tmp_path):
    store = VerdictStore(tmp_path / "judge.sqlite")
    store.put([answer("a", reply="first"), answer("b", status="failed", reply=None, problem="lost")])
    assert set(store.get(["a", "b"])) == {"a"}
    store.put([answer("a", reply="second"), answer("b", reply="came")])
    assert {key: a.reply for key, a in store.get(["a", "b"]).items()} == {"a": "first", "b": "came"}


def test_rubrics_are_kept_with_the_answers(tmp_path):
    rubric = Rubric(name="r", criteria=[Criterion(text="x")])
    store = VerdictStore(tmp_path / "judge.sqlite")
    store.put([answer("a", rubric=rubric.content_hash)], [rubric])
    assert store.rubric(rubric.content_hash) == rubric
    assert store.rubric("unknown") is None


def test_many_keys_are_found_at_once(tmp_path):
    store = VerdictStore(tmp_path / "judge.sqlite")
    store.put(answer(str(i)) for i in range(2500))
    assert len(store.get(str(i) for i in range(3000))) == 2500


def test_a_store_without_a_file_forgets_the_oldest(monkeypatch):
    monkeypatch.setattr("arr_trl.judges.store._MEMORY_ROWS", 10)
    store = VerdictStore()
    for i in range(30):
        store.put([answer(str(i))])
    assert sorted(store.get(map(str, range(30))), key=int) == [str(i) for i in range(20, 30)]


WRITER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from arr_trl.judges.store import StoredAnswer, VerdictStore
path, name = sys.argv[1:]
blank = StoredAnswer("", "answered", "m", "t", "r", "p", (), ())
store = VerdictStore(path)
for i in range(100):
    store.put([replace(blank, key=f"{name}-{i}"), replace(blank, key=f"both-{i}", reply=name)])
"""


def test_two_processes_write_at_once_and_lose_nothing(tmp_path):
    path = tmp_path / "judge.sqlite"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, path, name], stderr=subprocess.PIPE) for name in ("one", "two")
    ]
    for writer in writers:
        _, errors = writer.communicate()
        assert writer.returncode == 0, errors.decode()
    store = VerdictStore(path)
    assert len(store) == 300
    assert {a.reply for a in store.get(f"both-{i}" for i in range(100)).values()} <= {"one", "two"}


def test_a_new_file_is_opened_by_many_at_once(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        for i in range(50):
            at_once = threading.Barrier(8)

            def count(path=tmp_path / f"{i}.sqlite", at_once=at_once):
                store = VerdictStore(path)
                at_once.wait()
                return len(store)

            assert list(pool.map(lambda _: count(), range(8))) == [0] * 8


def test_threads_share_a_store(tmp_path):
    store = VerdictStore(tmp_path / "judge.sqlite")
    threads = [
        threading.Thread(target=lambda n=n: [store.put([answer(f"{n}-{i}")]) for i in range(20)]) for n in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store) == 100


def test_a_store_of_another_version_is_refused_with_a_sentence(tmp_path):
    path = tmp_path / "judge.sqlite"
    VerdictStore(path).put([answer("a")])
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(ValueError, match="has version 99; this arr_trl reads version 1"):
        VerdictStore(path).get(["a"])


def test_a_database_of_something_else_is_left_alone(tmp_path):
    path = tmp_path / "judge.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE users (name TEXT)")
    with pytest.raises(ValueError, match="SQLite file of something else"):
        VerdictStore(path).put([answer("a")])


def test_a_corrupt_file_is_set_aside_not_overwritten(tmp_path):
    path = tmp_path / "judge.sqlite"
    path.write_bytes(b"this was a database once" * 100)
    store = VerdictStore(path)
    with pytest.warns(UserWarning, match="set aside as judge.sqlite.corrupt-"):
        store.put([answer("a")])
    (aside,) = tmp_path.glob("judge.sqlite.corrupt-*")
    assert aside.read_bytes().startswith(b"this was a database once")
    assert len(VerdictStore(path)) == 1


@pytest.mark.parametrize("page", [1, 40, -2])
def test_a_file_that_is_corrupt_within_is_set_aside_too(tmp_path, page):
    path = tmp_path / "judge.sqlite"
    store = VerdictStore(path)
    store.put(answer(str(i), reply="x" * 500) for i in range(500))
    store.close()
    content = bytearray(path.read_bytes())
    start = page % (len(content) // 4096) * 4096
    content[start : start + 4096] = b"\xa5" * 4096
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="set aside as judge.sqlite.corrupt-"):
        assert VerdictStore(path).get(map(str, range(500))) == {}
    (aside,) = tmp_path.glob("judge.sqlite.corrupt-*")
    assert aside.read_bytes() == content


def test_a_file_given_by_mistake_is_left_where_it_is(tmp_path):
    (tmp_path / "rubric.json").write_text("{}")
    with pytest.raises(ValueError, match="is not a SQLite file; give `store` a path of its own"):
        VerdictStore(tmp_path / "rubric.json").get(["a"])
    assert [path.name for path in tmp_path.iterdir()] == ["rubric.json"]


def test_a_store_that_cannot_be_opened_is_said_in_a_sentence(tmp_path):
    (tmp_path / "judge.sqlite").mkdir()
    with pytest.raises(OSError, match=r"judge\.sqlite cannot be opened .*check that the folder can be written"):
        VerdictStore(tmp_path / "judge.sqlite").get(["a"])


def test_a_full_disk_is_said_in_a_sentence_and_costs_no_answer(disk):
    store = VerdictStore(disk / "judge.sqlite")
    store.put([answer("a")])
    fill(disk)
    with pytest.raises(StoreError, match=r"judge\.sqlite cannot be written to \(.*full\); make room there, or give"):
        store.put([answer(str(i), reply="x" * 10_000) for i in range(100)])
    (disk / "ballast").unlink()
    store.put([answer("b")])
    assert {"a", "b"} <= store.get(["a", "b"]).keys()


def test_nothing_is_written_before_the_first_use(tmp_path):
    VerdictStore(tmp_path / "judge.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_a_closed_store_opens_again(tmp_path):
    store = VerdictStore(tmp_path / "judge.sqlite")
    store.put([answer("a")])
    store.close()
    assert replace(store.get(["a"])["a"], created_at=0.0) == answer("a")
