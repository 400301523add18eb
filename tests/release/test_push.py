import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from hub_client import ClientError, HubClient
from hub_server import TOKEN, HubServer
from huggingface_hub import ModelCard
from peft import LoraConfig, get_peft_model
from PIL import Image

from arr_trl import Criterion, Rubric
from arr_trl.evaluation import EvaluationResults
from arr_trl.release import ADAPTER_FILES, AdapterCard, push_to_hub, save_adapter, write_model_card
from arr_trl.tiny_scenes.pipeline import build_pipeline


PROMPT = "a red circle left of a blue square"
INFERENCE = {"height": 32, "width": 32, "num_inference_steps": 2, "max_sequence_length": 12}
REPO = "user/ARR-RPO"
PUSH = """
from arr_trl.release import push_to_hub
push = push_to_hub(folder, repo_id, **arguments)
result = [push.repo_id, sorted(push.files), push.commit_url]
"""


def write_release(folder, subfolder, seed, base_model="user/tiny-flux"):
    """A release as training leaves it: adapter, card, samples, and files that must not be published."""
    pipeline = build_pipeline(0)
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=["attn.to_q", "ff.net.2"])
    pipeline.transformer = get_peft_model(pipeline.transformer, lora)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in pipeline.transformer.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(0, 0.3, generator=generator)
    save_adapter(pipeline.transformer, folder / subfolder, FluxPipeline)
    Image.new("RGB", (8, 8), (seed, 0, 0)).save(folder / "samples.png")
    card = AdapterCard(
        subfolder=subfolder,
        base_model=base_model,
        pipeline_class="FluxPipeline",
        prompt=PROMPT,
        lora_r=4,
        lora_alpha=8,
        target_modules=["attn.to_q", "ff.net.2"],
        dtype="float32",
        inference=INFERENCE,
        license="apache-2.0",
        rubric=Rubric(name=f"rubric {seed}", criteria=[Criterion(text=f"Criterion of {subfolder}.")]),
        judge="tiny_scenes",
        datasets=["user/prompts"],
        results=EvaluationResults(
            base_model, subfolder, 50, win_rate=0.5 + seed / 100, win_rate_ci=(0.4, 0.7), tie_rate=0.1
        ),
        samples="samples.png",
    )
    write_model_card(folder, card)
    (folder / "training_args.bin").write_bytes(b"a pickled " + TOKEN.encode())
    save_adapter(pipeline.transformer, folder / "checkpoint-10", FluxPipeline)
    (folder / "checkpoint-10" / "optimizer.pt").write_bytes(b"state")
    (folder / "results.json").write_text("{}")
    return pipeline


def picture(pipeline):
    generator = torch.Generator().manual_seed(0)
    return pipeline(prompt=PROMPT, **INFERENCE, generator=generator, output_type="np").images


def files_below(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    folder = tmp_path_factory.mktemp("release")
    write_release(folder, "ARR-one", seed=1)
    return folder


@pytest.fixture(scope="module")
def _hub():
    with HubServer() as hub:
        yield hub


@pytest.fixture(scope="module")
def client(_hub, tmp_path_factory):
    client = HubClient(_hub, tmp_path_factory.mktemp("home"))
    client.run("import tenacity, arr_trl.release.push as push\npush._BACKOFF = tenacity.wait_fixed(0.05)")
    yield client
    client.close()


@pytest.fixture
def hub(_hub):
    """The Hub of the module, empty; its clients stay."""
    _hub.repos.clear()
    _hub.lfs.clear()
    _hub.requests.clear()
    _hub.clear_faults()
    return _hub


def push(client, folder, repo_id=REPO, **arguments):
    return client.run(PUSH, folder=folder, repo_id=repo_id, arguments=arguments)


def test_two_adapters_pushed_into_one_repository_load_with_the_code_of_its_card(tmp_path, hub, client):
    build_pipeline(0).save_pretrained(tmp_path / "base")
    code = "from huggingface_hub import HfApi\nHfApi().create_repo(repo)\nHfApi().upload_folder(repo_id=repo, folder_path=folder)"
    client.run(code, repo="user/tiny-flux", folder=tmp_path / "base")
    trained = {name: write_release(tmp_path / name, name, seed) for seed, name in enumerate(("ARR-one", "ARR-two"), 1)}

    push(client, tmp_path / "ARR-one")
    first = hub.model(REPO).files["README.md"].decode()
    push(client, tmp_path / "ARR-two")
    files = hub.model(REPO).files
    readme = files["README.md"].decode()

    samples = {"samples/ARR-one.png", "samples/ARR-two.png"}
    adapters = {f"{name}/{file}" for name in trained for file in ADAPTER_FILES}
    assert set(files) == {".gitattributes", "README.md"} | samples | adapters
    assert len(hub.model(REPO).commits) == 3  # the repository's own, and one for each push
    section = first[first.index("## ARR-one") : first.index("<!-- /arr_trl:adapter -->")]
    assert section in readme
    assert "](samples/ARR-one.png)" in section
    data = ModelCard(readme).data
    assert data.base_model == ["user/tiny-flux"]
    assert [r.metric_value for r in data.eval_results] == [0.51, 0.52]

    save_floats = """
import numpy
images = pipe(prompt={!r}, **{!r}, generator=torch.Generator().manual_seed(0), output_type="np").images
numpy.save({!r}, images)
"""
    script = ""
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", readme, re.DOTALL)):
        script += code + save_floats.format(PROMPT, INFERENCE, str(tmp_path / f"{number}.npy"))
    home = tmp_path / "fresh"
    home.mkdir()
    subprocess.run([sys.executable, "-c", script], check=True, cwd=home, env={**os.environ, **hub.environment(home)})
    for number, pipeline in enumerate(trained.values()):
        np.testing.assert_allclose(np.load(tmp_path / f"{number}.npy"), picture(pipeline), atol=1e-5)


def test_adapter_at_the_root_loads_without_an_argument(tmp_path, hub, client):
    trained = write_release(tmp_path, ".", seed=1)
    push(client, tmp_path)
    files = hub.model(REPO).files
    assert set(files) == {".gitattributes", "README.md", "samples/adapter.png", *ADAPTER_FILES}
    assert "pipe.load_lora_weights(adapters)\n" in files["README.md"].decode()
    code = """
import numpy, torch
from peft import PeftModel
from arr_trl.tiny_scenes.pipeline import build_pipeline
def picture(pipeline):
    generator = torch.Generator().manual_seed(0)
    return pipeline(prompt=prompt, **inference, generator=generator, output_type="np").images
stock, by_peft = build_pipeline(0), build_pipeline(0)
stock.load_lora_weights(repo)
by_peft.transformer = PeftModel.from_pretrained(by_peft.transformer, repo)
numpy.save(path, numpy.concatenate([picture(stock), picture(by_peft)]))
"""
    client.run(code, repo=REPO, prompt=PROMPT, inference=INFERENCE, path=tmp_path / "pictures.npy")
    np.testing.assert_allclose(np.load(tmp_path / "pictures.npy"), np.repeat(picture(trained), 2, axis=0), atol=1e-5)
    # whoever names no subfolder would get one or the other
    write_release(tmp_path / "other", "ARR-two", seed=2)
    with pytest.raises(ClientError, match=r"is alone there, and README.md also speaks of ARR-two"):
        push(client, tmp_path / "other")
    assert hub.model(REPO).files.keys() == files.keys()


def test_peft_and_the_transformer_load_the_adapter_from_its_subfolder(tmp_path, hub, client):
    trained = write_release(tmp_path, "ARR-one", seed=1)
    push(client, tmp_path)
    code = """
import numpy, torch
from peft import PeftModel
from arr_trl.tiny_scenes.pipeline import build_pipeline
def picture(pipeline):
    generator = torch.Generator().manual_seed(0)
    return pipeline(prompt=prompt, **inference, generator=generator, output_type="np").images
by_peft, by_transformer = build_pipeline(0), build_pipeline(0)
by_peft.transformer = PeftModel.from_pretrained(by_peft.transformer, repo, subfolder="ARR-one")
by_transformer.transformer.load_lora_adapter(repo, subfolder="ARR-one", weight_name="pytorch_lora_weights.safetensors")
numpy.save(path, numpy.concatenate([picture(by_peft), picture(by_transformer)]))
"""
    client.run(code, repo=REPO, prompt=PROMPT, inference=INFERENCE, path=tmp_path / "pictures.npy")
    expected = np.repeat(picture(trained), 2, axis=0)
    np.testing.assert_allclose(np.load(tmp_path / "pictures.npy"), expected, atol=1e-5)


def test_all_adapters_of_a_folder_go_in_one_commit_and_a_subfolder_alone_when_asked(tmp_path, hub, client):
    write_release(tmp_path, "ARR-one", seed=1)
    write_release(tmp_path, "ARR-two", seed=2)
    push(client, tmp_path, subfolder="ARR-two")
    assert not any(name.startswith("ARR-one") for name in hub.model(REPO).files)
    assert "ARR-one" not in hub.model(REPO).files["README.md"].decode()
    push(client, tmp_path, repo_id="user/both")
    assert {"ARR-one", "ARR-two"} <= {name.split("/")[0] for name in hub.model("user/both").files}
    assert len(hub.model("user/both").commits) == 2


def test_pushing_again_replaces_the_adapter_and_pushing_the_same_makes_no_commit(tmp_path, hub, client):
    write_release(tmp_path, "ARR-one", seed=1)
    push(client, tmp_path)
    commits = len(hub.model(REPO).commits)
    push(client, tmp_path)
    assert len(hub.model(REPO).commits) == commits
    write_release(tmp_path, "ARR-one", seed=3)
    push(client, tmp_path)
    weights = f"ARR-one/{ADAPTER_FILES[1]}"
    assert hub.model(REPO).files[weights] == (tmp_path / weights).read_bytes()
    assert "rubric 3" in hub.model(REPO).files["README.md"].decode()


def test_files_and_words_of_other_people_in_the_repository_are_kept(release, hub, client):
    theirs = b"---\nlanguage: en\n---\n# Our models\n\nRead this first.\n"
    hub.add(REPO, {"README.md": theirs, "other/model.bin": b"theirs"})
    push(client, release)
    files = hub.model(REPO).files
    assert files["other/model.bin"] == b"theirs"
    readme = files["README.md"].decode()
    assert "# Our models\n\nRead this first." in readme
    assert "## ARR-one" in readme
    assert ModelCard(readme).data.language == "en"


@pytest.mark.parametrize(
    ("theirs", "words"),
    [
        (b'# M\n\n<!-- arr_trl:adapter {"subfolder": } -->\nx\n<!-- /arr_trl:adapter -->\n', "section in line 3 .* are no JSON"),
        (b'# M\n\n<!-- arr_trl:adapter {"subfolder": "zz"} -->\nx\n<!-- /arr_trl:adapter -->\n', "section of zz .* `base_model`"),
        (b'# M\n\n<!-- arr_trl:adapter {"subfolder": "zz"} -->\nx\n', "section of zz .* has lost its end marker"),
        ("# Caf\u00e9\n".encode("latin-1"), r"its README\.md is no text in UTF-8: line 1 has the byte 0xe9"),
    ],
    ids=["no JSON", "a key is missing", "no end", "latin-1"],
)  # fmt: skip
def test_a_damaged_card_on_the_hub_is_told_as_what_it_is_and_stays(release, hub, client, theirs, words):
    hub.add(REPO, {"README.md": theirs})
    with pytest.raises(ClientError, match=rf"Could not push to {REPO}: .*{words}") as error:
        push(client, release)
    assert error.value.kind == "PushError"
    assert "reached" not in str(error.value)
    assert hub.model(REPO).files["README.md"] == theirs


def test_line_ends_of_a_card_on_the_hub_stay(release, hub, client):
    theirs = b"---\r\nlanguage: no\r\n---\r\n\r\n# Ours\r\n\r\nRead this.  \r\n"
    hub.add(REPO, {"README.md": theirs})
    push(client, release)
    readme = hub.model(REPO).files["README.md"]
    assert readme.startswith(b"---\r\nlanguage: no\r\n")
    assert b"---\r\n\r\n# Ours\r\n\r\nRead this.  \r\n\r\n" in readme


def test_token_is_sent_in_the_authorization_header_and_nowhere_else(release, hub, client):
    push(client, release)
    assert any(TOKEN in request.headers.get("authorization", "") for request in hub.requests)
    for request in hub.requests:
        elsewhere = {name: value for name, value in request.headers.items() if name != "authorization"}
        assert TOKEN not in str(elsewhere) + request.path
        assert TOKEN.encode() not in request.body
    for files in hub.model(REPO).commits.values():
        assert all(TOKEN.encode() not in data for data in files.values())


def test_dry_run_lists_what_would_be_sent_and_asks_the_hub_nothing(release, hub, client):
    _, files, commit_url = push(client, release, dry_run=True)
    assert files == sorted([*(f"ARR-one/{name}" for name in ADAPTER_FILES), "README.md", "samples/ARR-one.png"])
    assert commit_url is None
    assert hub.requests == []


def test_repository_is_private_when_asked_and_branches_are_made(release, hub, client):
    push(client, release, private=True, revision="experiment")
    repo = hub.model(REPO)
    assert repo.private
    assert "README.md" not in repo.files
    assert "README.md" in repo.commits[repo.branches["experiment"]]


FAULTS = {
    "401": ({"path": "/commit/", "status": 401}, "hf auth login"),
    "403": ({"path": "/commit/", "status": 403}, "write permission for user"),
    "404": ({"path": "/commit/", "status": 404}, "Check `repo_id`"),
    "409": ({"path": "/commit/", "status": 409}, "others kept committing"),
    "412": ({"path": "/commit/", "status": 412}, "others kept committing"),
    "429": ({"path": "/commit/", "status": 429, "headers": {"Retry-After": "900"}}, "Wait 900 seconds"),
    "500": ({"path": "/commit/", "status": 500}, "status 500"),
    "reset": ({"path": "/commit/", "action": "reset"}, "Check the network"),
}


@pytest.mark.parametrize(("fault", "remedy"), FAULTS.values(), ids=FAULTS)
def test_failed_push_names_repository_and_remedy_and_loses_nothing(release, hub, client, fault, remedy):
    hub.add(REPO, {"README.md": b"# Theirs\n"})
    before, local = dict(hub.model(REPO).files), files_below(release)
    hub.fail("POST", times=100, **fault)
    with pytest.raises(ClientError, match=re.escape(remedy)) as error:
        push(client, release)
    assert error.value.kind == "PushError"
    assert REPO in str(error.value)
    assert f"arr-trl push {release}" in str(error.value)
    assert TOKEN not in str(error.value)
    assert hub.model(REPO).files == before
    assert files_below(release) == local

    hub.clear_faults()
    push(client, release)
    assert "## ARR-one" in hub.model(REPO).files["README.md"].decode()


TRANSIENT = {
    "500 in the middle of a commit": {"path": "/commit/", "status": 500},
    "too many requests": {"path": "/commit/", "status": 429, "headers": {"Retry-After": "1"}},
    "connection reset": {"path": "/commit/", "action": "reset"},
    "answer lost after the commit": {"path": "/commit/", "action": "lost"},
    "slow": {"path": "/commit/", "delay": 1.5},
    "repository not made at first": {"path": "/api/repos/create", "status": 503},
}


@pytest.mark.parametrize("fault", TRANSIENT.values(), ids=TRANSIENT)
def test_passing_trouble_is_waited_out(release, hub, client, fault):
    hub.fail("POST", times=1, **fault)
    push(client, release)
    assert f"ARR-one/{ADAPTER_FILES[2]}" in hub.model(REPO).files
    assert len(hub.model(REPO).commits) == 2


def test_failed_upload_of_the_weights_leaves_the_repository_as_it_was(release, hub, client):
    hub.fail("PUT", "/lfs/", status=403, times=10)
    with pytest.raises(ClientError, match="write permission"):
        push(client, release)
    assert set(hub.model(REPO).files) == {".gitattributes"}


def test_adapter_pushed_by_somebody_else_at_the_same_time_keeps_its_section(tmp_path, release, hub, client):
    write_release(tmp_path, "ARR-two", seed=2)
    push(client, tmp_path)
    theirs = hub.model(REPO).files
    hub.repos.clear()
    hub.create(REPO)
    hub.fail("POST", "/commit/", before=lambda: hub.add(REPO, theirs))
    push(client, release)
    readme = hub.model(REPO).files["README.md"].decode()
    assert "## ARR-one" in readme
    assert "## ARR-two" in readme
    assert f"ARR-two/{ADAPTER_FILES[0]}" in hub.model(REPO).files


def test_unknown_token_is_refused_and_not_repeated_in_the_message(release, hub, client):
    with pytest.raises(ClientError, match="hf auth login") as error:
        push(client, release, token="hf_unknown")
    assert "hf_unknown" not in str(error.value)


def test_foreign_namespace_is_refused_with_the_remedy(release, hub, client):
    with pytest.raises(ClientError, match="write permission for somebody"):
        push(client, release, repo_id="somebody/models")


def test_card_that_the_hub_does_not_accept_is_named(tmp_path, hub, client):
    write_release(tmp_path, "ARR-one", seed=1)
    readme = (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").write_text(readme.replace('"license": "apache-2.0"', '"license": "my own words"'))
    with pytest.raises(ClientError, match="license"):
        push(client, tmp_path)
    assert set(hub.model(REPO).files) == {".gitattributes"}


def test_folders_that_are_no_release_are_refused_before_any_connection(tmp_path, release):
    with pytest.raises(ValueError, match="There is no folder"):
        push_to_hub(tmp_path / "nowhere", REPO)
    with pytest.raises(ValueError, match="holds no release"):
        push_to_hub(tmp_path, REPO)
    with pytest.raises(ValueError, match="speaks of: ARR-one"):
        push_to_hub(release, REPO, subfolder="ARR-two")
    with pytest.raises(ValueError, match="cannot name a repository"):
        push_to_hub(release, "not a repo", dry_run=True)
    write_release(tmp_path, "ARR-one", seed=1)
    (tmp_path / "ARR-one" / ADAPTER_FILES[2]).unlink()
    with pytest.raises(ValueError, match=f"lacks {ADAPTER_FILES[2]}"):
        push_to_hub(tmp_path, REPO)


def test_adapter_without_a_section_in_the_card_is_refused(tmp_path):
    write_release(tmp_path, "ARR-one", seed=1)
    (tmp_path / "README.md").unlink()
    with pytest.raises(ValueError, match="no section for ARR-one"):
        push_to_hub(tmp_path, REPO, subfolder="ARR-one")
    with pytest.raises(ValueError, match="write the card with write_model_card"):
        push_to_hub(tmp_path, REPO)


COMMAND = """
import contextlib, io
from arr_trl.cli.push import run
out, err = io.StringIO(), io.StringIO()
with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    status = run(argv)
result = [status, out.getvalue(), err.getvalue()]
"""


def test_command_pushes_and_shows_what_it_would_push(release, hub, client):
    argv = [str(release), "--repo_id", REPO]
    status, out, _ = client.run(COMMAND, argv=[*argv, "--dry-run"])
    assert status == 0
    assert "ARR-one/adapter_config.json" in out
    assert "Nothing was sent" in out
    assert hub.repos == {}
    status, out, _ = client.run(COMMAND, argv=[*argv, "--private"])
    assert status == 0
    assert hub.model(REPO).private
    assert f"{REPO}/commit/" in out


def test_command_says_what_to_change_without_a_traceback(tmp_path, release, hub, client):
    status, _, err = client.run(COMMAND, argv=[str(tmp_path), "--repo_id", REPO])
    assert (status, err.count("\n")) == (2, 1)
    hub.fail("POST", "/api/repos/create", status=403, times=9)
    status, _, err = client.run(COMMAND, argv=[str(release), "--repo_id", REPO])
    assert (status, err.count("\n")) == (1, 1)
    assert "write permission" in err
