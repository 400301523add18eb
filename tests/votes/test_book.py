"""What is kept of votes, and that whoever reads preferences reads them."""

import json
import sqlite3

import pytest
from PIL import Image
from voting_pairs import voting_pairs

from arr_trl.data.preferences import load_preferences
from arr_trl.judges import JudgeRow
from arr_trl.votes import Vote, VoteBook
from arr_trl.votes.published import published_rows


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def book(tmp_path):
    book = VoteBook(tmp_path / "votes.jsonl")
    yield book
    book.close()


def test_every_reader_of_preferences_reads_votes_as_they_are(tmp_path, book):
    pairs = voting_pairs(tmp_path, 4, source=True)
    for pair, choice in zip(pairs, ("0", "1", "tie", "skip"), strict=True):
        book.cast(pair, Vote("ann", pair.key, choice, "it is sharper" if choice == "1" else ""))
    read = list(load_preferences(str(tmp_path / "votes.jsonl")))
    assert [(pair.prompt, pair.winner, pair.rationale) for pair in read] == [
        ("a picture 0", 0, None), ("a picture 1", 1, "it is sharper"),
    ]  # fmt: skip
    assert read[1].images[1].getpixel((0, 0)) == (1, 1, 100)
    assert read[1].source_image[0].getpixel((0, 0)) == (1, 2, 100)
    assert [pair.winner for pair in load_preferences(str(tmp_path / "votes.jsonl"), ties=True)] == [0, 1, None]


def test_votes_on_a_part_that_was_drawn_anew_say_which(tmp_path, book):
    (pair,) = voting_pairs(tmp_path, 1, source=True, mask="images/mask.png")
    Image.new("L", (8, 8), 255).save(tmp_path / "images" / "mask.png")
    book.cast(pair, Vote("ann", pair.key, "0"))
    (read,) = load_preferences(str(tmp_path / "votes.jsonl"))
    assert JudgeRow.of(read).mask.getpixel((0, 0)) == (255, 255, 255)
    (published,) = published_rows(lines(tmp_path / "votes.jsonl"), tmp_path)
    assert published["mask_image"]["bytes"] == (tmp_path / "images" / "mask.png").read_bytes()


def test_a_vote_is_on_disk_when_it_is_cast_and_another_book_goes_on(tmp_path, book):
    first, second = voting_pairs(tmp_path, 2)
    book.cast(first, Vote("ann", first.key, "0", faults=(("anatomy",), ())))
    book.cast(first, Vote("bob", first.key, "1"))
    book.cast(second, Vote("ann", second.key, "skip"))
    again = VoteBook(tmp_path / "votes.jsonl")
    assert again.done("ann") == {"k0", "k1"}
    assert again.done("bob") == {"k0"}
    rows = lines(tmp_path / "votes.jsonl")
    assert [(row["rater"], row["label_rank"], row["faults"]) for row in rows] == [
        ("ann", [1, 2], [["anatomy"], []]), ("bob", [2, 1], [[], []]),
    ]  # fmt: skip
    assert rows[0]["time"].endswith("+00:00")
    again.cast(second, Vote("bob", second.key, "tie"))  # two programs on one file
    assert len(book.rows()) == 3
    again.close()


def test_undo_takes_back_the_latest_of_the_rater_alone_skips_too(tmp_path, book):
    first, second = voting_pairs(tmp_path, 2)
    book.cast(first, Vote("ann", first.key, "0", "why"))
    book.cast(second, Vote("ann", second.key, "skip"))
    book.cast(first, Vote("bob", first.key, "1"))
    assert book.undo("ann").pair == "k1"
    assert book.undo("ann").reason == "why"
    assert book.undo("ann") is None
    assert [row["rater"] for row in lines(tmp_path / "votes.jsonl")] == ["bob"]


def test_a_second_vote_on_a_pair_counts_in_place_of_the_first(tmp_path, book):
    (pair,) = voting_pairs(tmp_path, 1)
    book.cast(pair, Vote("ann", pair.key, "0"))
    book.cast(pair, Vote("ann", pair.key, "1"))
    assert [row["label_rank"] for row in book.rows()] == [[2, 1]]
    with pytest.raises(ValueError, match="choice='left' is not one of"):
        book.cast(pair, Vote("ann", pair.key, "left"))


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "notes.sqlite").write_text("not a database, but longer than its header would be " * 40)
    with pytest.raises(ValueError, match="is not a SQLite file"):
        VoteBook(tmp_path / "notes.jsonl")
    with sqlite3.connect(tmp_path / "other.sqlite") as other:
        other.execute("CREATE TABLE t (x)")
    with pytest.raises(ValueError, match="SQLite file of something else"):
        VoteBook(tmp_path / "other.jsonl")
