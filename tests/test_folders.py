"""Files that are replaced: the old one or the new one, never half of one and nothing beside it."""

import subprocess
import sys

import pytest
from full_disk import fill

from arr_trl.folders import replacing, replacing_files


WRITER = """
import sys
from arr_trl.folders import replacing

for _ in range(200):
    with replacing(sys.argv[1]) as written:
        written.write_text(sys.argv[2] * 10_000)
"""


def fail_after_writing(file):
    file.write_text("half of the n")
    raise RuntimeError("in the middle")


def test_file_appears_in_one_step_and_the_folder_is_made(tmp_path):
    path = tmp_path / "new" / "results.json"
    with replacing(path) as written:
        written.write_text("new")
        assert not path.exists()
        assert written.suffix == ".json"  # what writes it may go by the ending
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_crash_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "results.json"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="in the middle"), replacing(path) as written:
        fail_after_writing(written)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_of_several_files_none_is_replaced_unless_all_are_written(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).write_text("old")
    with pytest.raises(RuntimeError), replacing_files(tmp_path, ["one", "two"]) as written:
        fail_after_writing(written / "one")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"one": "old", "two": "old"}
    with replacing_files(tmp_path, ["one", "two"]) as written:
        for name in ("one", "two", "by the way"):
            (written / name).write_text("new")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"one": "new", "two": "new"}


def test_two_processes_at_once_leave_one_whole_file(tmp_path):
    path = tmp_path / "card.md"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), letter]) for letter in "ab"]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            seen.add(path.read_text())
    assert [writer.returncode for writer in writers] == [0, 0]
    assert seen <= {"a" * 10_000, "b" * 10_000}
    assert list(tmp_path.iterdir()) == [path]


def test_full_disk_is_an_os_error_and_the_old_file_stays(disk):
    path = disk / "results.json"
    path.write_text("old")
    fill(disk)
    with pytest.raises(OSError, match="No space left"), replacing(path) as written:
        written.write_text("new" * 100_000)
    assert path.read_text() == "old"
    assert {file.name for file in disk.iterdir()} <= {"results.json", "ballast", "lost+found"}
