"""A served name is no identity: whose answer it is goes by the address, too."""

import json
import sqlite3

import pytest
from openai_server import Answer, OpenAIServer
from test_rubric_judge import gray

from arr_trl.autorubric.embeddings import ServerEmbedder
from arr_trl.chat import HTTPChatModel
from arr_trl.chat.addresses import address_of
from arr_trl.judges import EnsembleJudge, JudgeRow, RubricJudge, StoredAnswer, VerdictStore
from arr_trl.rubrics import Criterion, Rubric


RUBRIC = Rubric(name="r", criteria=[Criterion(text="The image is bright.")])
ROW = [JudgeRow("a lamp", (gray(1), gray(2)))]


def server_for(position):
    """A server that prefers the image shown at this position."""
    ranks = [1, 2] if position == 1 else [2, 1]
    reply = {"criteria": [{"criterion": 1, "ranks": ranks}], "reason": "", "ranks": ranks}
    return OpenAIServer(respond=lambda number, body: Answer(json.dumps(reply)))


def judge_at(url, store):
    return RubricJudge(RUBRIC, HTTPChatModel("judge", url), order="fixed", store=store)


def test_a_run_that_asks_another_server_of_the_same_name_gets_that_one_s_answers(tmp_path):
    store = tmp_path / "judge.sqlite"
    with server_for(1) as first, server_for(2) as second:
        assert judge_at(first.url, store).compare(ROW)[0].winner == 0
        assert judge_at(second.url, store).compare(ROW)[0].winner == 1
        assert judge_at(first.url + "/", store).compare(ROW)[0].winner == 0
        assert judge_at(f"{first.url}?token=secret", store).compare(ROW)[0].winner == 0
    assert (len(first.requests), len(second.requests)) == (1, 1)
    assert [answer.server for answer in VerdictStore(store)] == [first.url, second.url]
    assert b"secret" not in store.read_bytes()


def test_members_of_one_name_at_two_servers_vote_for_themselves(tmp_path):
    store = tmp_path / "judge.sqlite"
    with server_for(1) as first, server_for(2) as second:
        ensemble = EnsembleJudge([judge_at(server.url, store) for server in (first, second)])
        assert ensemble.compare(ROW)[0].tie
    assert (len(first.requests), len(second.requests)) == (1, 1)


def test_backends_told_apart_by_the_query_do_not_get_each_other_s_verdicts(tmp_path):
    store = tmp_path / "judge.sqlite"

    def respond(number, body):
        ranks = [2, 1] if "private-b" in server.paths[-1] else [1, 2]
        reply = {"criteria": [{"criterion": 1, "ranks": ranks}], "reason": "", "ranks": ranks}
        return Answer(json.dumps(reply))

    with OpenAIServer(respond=respond) as server:
        assert judge_at(f"{server.url}?backend=private-a", store).compare(ROW)[0].winner == 0
        assert judge_at(f"{server.url}?backend=private-b", store).compare(ROW)[0].winner == 1
        assert judge_at(f"{server.url}?backend=private-b&api_key=new", store).compare(ROW)[0].winner == 1
    assert len(server.requests) == 2
    assert b"private" not in store.read_bytes()
    assert address_of("http://h/v1?flag") != address_of("http://h/v1")


def test_a_provider_is_not_taken_for_another():
    assert HTTPChatModel("m").settings != HTTPChatModel("m", provider="together").settings


def test_embeddings_of_one_name_at_two_servers_are_kept_apart(monkeypatch):
    asked = []
    monkeypatch.setattr(ServerEmbedder, "_post", lambda self, texts: asked.append(self.base_url) or [[1.0]])
    store = VerdictStore()
    for url in ("http://one:1/v1", "http://two:2/v1", "http://one:1/v1/"):
        ServerEmbedder("e", url, store)(["a"])
    assert asked == ["http://one:1/v1", "http://two:2/v1"]


@pytest.fixture
def old_store(tmp_path):
    """A store as it was made before answers had a server."""
    path = tmp_path / "old.sqlite"
    store = VerdictStore(path)
    store.put([StoredAnswer("k", "answered", "m", "t", "r", "p", ("d",), (0, 1), reply="{}")])
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE questions DROP COLUMN server")
    return path


def test_a_store_from_before_is_still_read_and_written(old_store):
    store = VerdictStore(old_store)
    assert (store.get(["k"])["k"].reply, store.get(["k"])["k"].server) == ("{}", None)
    store.put([StoredAnswer("l", "answered", "m", "t", "r", "p", (), (), server="http://h:1/v1")])
    store.close()
    assert [answer.server for answer in VerdictStore(old_store)] == [None, "http://h:1/v1"]
