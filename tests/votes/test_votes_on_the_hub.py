"""Votes and pairs as datasets on the Hub, by the real clients."""

import pytest
from voting_pairs import voting_pairs

from arr_trl.votes import Vote, VoteBook


@pytest.mark.slow
def test_votes_are_pushed_with_their_pictures_and_read_as_preferences(client, tmp_path):
    book = VoteBook(tmp_path / "votes.jsonl")
    for pair, choice in zip(voting_pairs(tmp_path, 3, source=True), ("0", "1", "tie"), strict=True):
        book.cast(pair, Vote("ann", pair.key, choice, "why", (("text",), ())))
    pushed = """
from arr_trl.cli.main import main
result = main(["vote", "push", "--votes", votes, "--repo_id", "user/votes"])
"""
    assert client.run(pushed, votes=str(tmp_path / "votes.jsonl")) == 0
    read = """
from arr_trl.data.preferences import load_preferences
result = [(p.winner, p.rationale, p.images[1].getpixel((0, 0))) for p in load_preferences("user/votes", ties=True)]
"""
    assert client.run(read) == [[0, "why", [0, 1, 100]], [1, "why", [1, 1, 100]], [None, "why", [2, 1, 100]]]
    rows = """
from datasets import load_dataset
result = load_dataset("user/votes", split="train").remove_columns(["images", "source_image"]).to_list()
"""
    found = client.run(rows)
    assert [row["rater"] for row in found] == ["ann"] * 3
    assert found[0]["faults"] == ["first: text"]
