import json

import pytest
from hub_client import ClientError

from arr_trl.rubrics import Criterion, Rubric


RUBRIC = Rubric(name="photos", criteria=[Criterion(text="Hands are whole.", theme="Anatomy")])
PUSH = """
from arr_trl.rubrics import Rubric
upload = Rubric.model_validate_json(rubric).push_to_hub(repo, **arguments)
result = [upload.repo_id, sorted(upload.files), upload.commit_url]
"""
PULL = """
from arr_trl.rubrics import Rubric
result = Rubric.from_hub(repo).to_json()
"""


def push(client, repo, **arguments):
    return client.run(PUSH, rubric=RUBRIC.to_json(), repo=repo, arguments=arguments)


def test_a_pushed_rubric_comes_back_and_its_card_shows_it(hub, client):
    repo_id, files, url = push(client, "user/photos")
    assert (repo_id, files) == ("user/photos", ["README.md", "rubric.json"])
    assert "commit" in url
    assert Rubric.model_validate_json(client.run(PULL, repo="user/photos")) == RUBRIC
    card = hub.model("user/photos").files["README.md"].decode()
    assert "1. Hands are whole." in card
    assert 'Rubric.from_hub("user/photos")' in card
    again = RUBRIC.model_copy(update={"name": "photos 2"})
    client.run(PUSH, rubric=again.to_json(), repo="user/photos", arguments={})
    assert "# photos 2" in hub.model("user/photos").files["README.md"].decode()


def test_the_card_of_something_else_is_left_alone(hub, client):
    hub.add("user/adapters", {"README.md": b"# Adapters\n"})
    assert push(client, "user/adapters")[1] == ["rubric.json"]
    assert hub.model("user/adapters").files["README.md"] == b"# Adapters\n"
    assert json.loads(hub.model("user/adapters").files["rubric.json"])["name"] == "photos"


@pytest.mark.parametrize(("newline", "repo"), [("\n", "user/unix"), ("\r\n", "user/windows")])
def test_what_people_wrote_into_the_card_of_a_rubric_stays(hub, client, newline, repo):
    push(client, repo)
    written = hub.model(repo).files["README.md"].decode()
    edited = written.replace("---\n\n#", "language: no # really\n---\n\n#").replace("Use it", "MY NOTES\n\nUse it")
    edited = edited.replace("\n", newline)
    assert "MY NOTES" in edited
    assert "really" in edited
    hub.add(repo, {"README.md": edited.encode(), "rubric.json": RUBRIC.to_json().encode()})
    again = RUBRIC.model_copy(update={"name": "photos 2"})
    client.run(PUSH, rubric=again.to_json(), repo=repo, arguments={})
    assert hub.model(repo).files["README.md"].decode() == edited.replace("# photos", "# photos 2")


def test_a_card_that_was_edited_inside_its_rubric_is_left_as_it_is(hub, client):
    push(client, "user/edited")
    card = hub.model("user/edited").files["README.md"].replace(b"Hands are whole.", b"Hands are whole, and feet.")
    assert b"and feet" in card
    hub.add("user/edited", {"README.md": card, "rubric.json": RUBRIC.to_json().encode()})
    again = RUBRIC.model_copy(update={"name": "photos 2"})
    files = client.run(PUSH, rubric=again.to_json(), repo="user/edited", arguments={})[1]
    assert files == ["rubric.json"]
    assert hub.model("user/edited").files["README.md"] == card


def test_a_dry_run_sends_nothing(hub, client):
    before = len(hub.requests)
    assert push(client, "user/new", dry_run=True)[2] is None
    assert len(hub.requests) == before


def test_what_the_hub_refuses_is_one_sentence(hub, client):
    with pytest.raises(ClientError, match="may not write there") as refused:
        push(client, "somebody/photos")
    assert refused.value.kind == "RubricHubError"
    with pytest.raises(ClientError, match="cannot name a repository") as refused:
        push(client, "not a name")
    assert refused.value.kind == "ValueError"
    with pytest.raises(ClientError, match=r"no `rubric\.json` in a repository user/none") as refused:
        client.run(PULL, repo="user/none")
    assert refused.value.kind == "FileNotFoundError"
