"""The voting server as a client meets it."""

import io
import json
import threading
from http.client import HTTPConnection

import pytest
from PIL import Image
from voting_pairs import voting_pairs

from arr_trl.data.preferences import Preference
from arr_trl.votes import VoteBook, VotingServer
from arr_trl.votes.server import sides_of
from arr_trl.votes.sources import pairs_of_preferences


class Client:
    def __init__(self, server):
        self.server = server

    def send(self, method, path, body=None, **headers):
        connection = HTTPConnection("127.0.0.1", self.server.port, timeout=20)
        if body is not None:
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
            headers = {"content-type": "application/json"} | headers
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer, content

    def json(self, *arguments, **headers):
        answer, content = self.send(*arguments, **headers)
        return answer.status, json.loads(content)

    def vote(self, pair, choice, rater="ann", **others):
        said = {"rater": rater, "pair": pair, "choice": choice, "reason": "", "faults": {"left": [], "right": []}}
        return self.json("POST", "/vote", said | others)


@pytest.fixture
def server(tmp_path):
    with VotingServer(voting_pairs(tmp_path, 3), VoteBook(tmp_path / "votes.jsonl"), "t") as server:
        server.wait_until_read()
        yield server


@pytest.fixture
def client(server):
    return Client(server)


def test_a_vote_for_a_side_is_one_for_the_picture_that_stood_there(server, client):
    wanted = {}
    for number in range(3):
        _, state = client.json("GET", "/state?rater=ann")
        key = state["pair"]["key"]
        assert state["pair"]["left"].endswith(f"{number}-{sides_of(key, 'ann').index('left')}.png")
        wanted[key] = [1, 2] if state["pair"]["left"].endswith("-0.png") else [2, 1]
        client.vote(key, "left", faults={"left": ["text"], "right": []}, reason="  so it   is ")
    rows = server.book.rows()
    assert {row["pair"]: row["label_rank"] for row in rows} == wanted
    assert all(row["faults"] == ([["text"], []] if row["label_rank"] == [1, 2] else [[], ["text"]]) for row in rows)
    assert rows[0]["rationale"] == "so it is"
    _, state = client.json("GET", "/state?rater=ann")
    assert (state["pair"], state["done"], state["total"], state["undo"]) == (None, 3, 3, True)


def test_sides_are_drawn_evenly_and_stay():
    drawn = [sides_of(f"{i:032x}", rater) for i in range(500) for rater in ("ann", "bob")]
    assert 400 < drawn.count(("left", "right")) < 600
    same = sum(a == b for a, b in zip(drawn[::2], drawn[1::2], strict=True))
    assert 200 < same < 300  # another rater's sides are another draw


def test_undo_shows_the_pair_again_with_what_was_said_of_it(client):
    client.vote("k0", "tie", reason="hm", faults={"left": ["count"], "right": ["extra"]})
    _, state = client.json("POST", "/undo", {"rater": "ann"})
    assert state["pair"]["key"] == "k0"
    assert state["pair"]["reason"] == "hm"
    assert state["pair"]["faults"] == {"left": ["count"], "right": ["extra"]}
    assert not state["undo"]


def test_raters_see_what_was_to_be_drawn_anew(tmp_path):
    source, mask = Image.new("RGB", (16, 16), "gray"), Image.new("L", (8, 8), 255)
    images = tuple(Image.new("RGB", (16, 16), color) for color in ("red", "blue"))
    preferences = [Preference("a", images, 0, source, mask_image=given) for given in (mask, None)]
    pairs = list(pairs_of_preferences(preferences, tmp_path, []))
    assert len({pair.key for pair in pairs}) == 2
    with VotingServer(pairs, VoteBook(tmp_path / "votes.jsonl"), "t") as server:
        server.wait_until_read()
        client = Client(server)
        shown = client.json("GET", "/state?rater=ann")[1]["pair"]
        if shown["key"] != pairs[0].key:
            client.vote(shown["key"], "left")
            shown = client.json("GET", "/state?rater=ann")[1]["pair"]
        answer, content = client.send("GET", shown["mask"])
        assert answer.status == 200
        assert Image.open(io.BytesIO(content)).getpixel((0, 0)) == (255, 255, 255)
        assert len(shown["source"]) == 1


def test_raters_do_not_see_labels_or_models(tmp_path):
    pairs = voting_pairs(tmp_path, 1, given_rank=(1, 2), models=("base", "secret"))
    with VotingServer(pairs, VoteBook(tmp_path / "votes.jsonl"), "t") as server:
        server.wait_until_read()
        client = Client(server)
        for path in ("/", "/state?rater=ann"):
            content = client.send("GET", path)[1].decode()
            assert "secret" not in content
            assert "given" not in content
        client.vote("k0", "tie")
        assert server.book.rows()[0]["given_rank"] == [1, 2]


@pytest.mark.parametrize(("said", "words"), [
    ({"pair": "none"}, "There is no such pair"),
    ({"choice": "0"}, "A vote is left, right, tie or skip"),
    ({"faults": {"left": ["ugly"], "right": []}}, "Faults are lists of missing"),
    ({"faults": None}, "Faults are lists"),
    ({"reason": "x" * 1001}, "`reason` has to be text of at most 1000"),
    ({"rater": 5}, "`rater` has to be text"),
])  # fmt: skip
def test_what_is_no_vote_is_told_and_not_kept(server, client, said, words):
    status, answer = client.vote(**({"pair": "k0", "choice": "left"} | said))
    assert status == 400
    assert words in answer["error"]
    assert server.book.rows() == []


def test_what_is_no_json_object_and_what_is_too_long_is_refused(client):
    assert client.send("POST", "/vote", b"{")[0].status == 400
    assert client.send("POST", "/vote", b"[]")[0].status == 400
    assert client.send("POST", "/vote", b"x" * 30_000)[0].status == 400
    assert client.send("POST", "/vote", b"{}", **{"content-length": "many"})[0].status == 400
    assert client.send("POST", "/vote", b"rater=ann", **{"content-type": "text/plain"})[0].status == 400


@pytest.mark.parametrize("headers", [{"host": "evil.example"}, {"origin": "http://evil.example"}, {"origin": "null"}])
def test_pages_from_elsewhere_can_neither_read_nor_vote(server, client, headers):
    said = {"rater": "eve", "pair": "k0", "choice": "left", "reason": "", "faults": {"left": [], "right": []}}
    assert client.send("POST", "/vote", said, **headers)[0].status == 403
    assert client.send("GET", "/state?rater=ann", **headers)[0].status == 403
    assert server.book.rows() == []


def test_no_file_but_the_pictures_is_served(client, tmp_path):
    assert client.send("GET", "/images/0-0.png")[0].status == 200
    for path in (
        "/votes.jsonl",
        "/images/../votes.jsonl",
        "/images/%2e%2e/votes.jsonl",
        "/images/",
        "/images/none.png",
    ):
        assert client.send("GET", path)[0].status == 404
    answer, content = client.send("GET", "/")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert b"https://" not in content


def test_voting_begins_before_all_pairs_are_read_and_a_broken_source_is_told(tmp_path):
    go_on = threading.Event()

    def pairs():
        yield voting_pairs(tmp_path, 1)[0]
        go_on.wait(20)
        raise OSError("the disk is gone")

    with VotingServer(pairs(), VoteBook(tmp_path / "votes.jsonl"), "t") as server:
        client = Client(server)
        while not server.pairs:
            pass
        _, state = client.vote("k0", "skip")
        assert state["reading"]
        assert state["pair"] is None
        go_on.set()
        server.wait_until_read()
        _, state = client.json("GET", "/state?rater=ann")
        assert not state["reading"]
        assert "the disk is gone" in state["problem"]


def test_a_port_that_is_taken_is_told(server, tmp_path):
    with pytest.raises(OSError, match=rf"port={server.port} cannot be used"):
        VotingServer([], VoteBook(tmp_path / "other.jsonl"), "t", server.port)


def test_many_votes_at_once_are_all_kept(tmp_path):
    with VotingServer(voting_pairs(tmp_path, 8), VoteBook(tmp_path / "votes.jsonl"), "t") as server:
        server.wait_until_read()
        client = Client(server)
        threads = [
            threading.Thread(target=lambda r=r: [client.vote(f"k{i}", "left", f"r{r}") for i in range(8)])
            for r in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(server.book.rows()) == 24
