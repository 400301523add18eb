"""`arr-trl rpo` against a Hub on loopback: prompts stream in, adapters and checkpoints go out, no token goes astray."""

import io
import json
import os
import re
import shutil
from pathlib import Path

import pytest
from datasets import Dataset
from hub_client import HubClient
from hub_server import TOKEN, HubServer
from PIL import Image

from arr_trl.tiny_scenes import build_pipeline, captions


ROOT = Path(__file__).parents[1]
REPO = "user/ARR-RPO"
RUN = """
import contextlib, io, os, sys
import tenacity
import arr_trl.release.push as push
push._BACKOFF = tenacity.wait_fixed(0.05)
from arr_trl.cli.main import main
os.chdir(folder)
for name in ("rewards", "looks"):
    sys.modules.pop(name, None)
out = io.StringIO()
with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
    try:
        status = main(argv)
    except SystemExit as end:
        status = end.code
result = [status, out.getvalue()]
"""
REWARD = """
import numpy as np

def brightness(prompts, completions, **columns):
    return [float(np.asarray(image).mean()) for image in completions]
"""


LINES = [json.dumps({"prompt": caption, "style": "oil"}) for caption in captions("train")[:12]]
PROMPTS = {f"data/train-{k}.jsonl": "\n".join(LINES[k::2]).encode() for k in range(2)}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "tiny-flux"
    build_pipeline(seed=0).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def _hub():
    with HubServer() as server:
        yield server


@pytest.fixture(scope="module")
def client(_hub, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "0")  # `make test` sets it, and the client's Hub is on loopback
        client = HubClient(_hub, tmp_path_factory.mktemp("home"))
    yield client
    client.close()


@pytest.fixture
def hub(_hub):
    """The Hub of the module with nothing but prompts in it."""
    _hub.repos.clear()
    _hub.requests.clear()
    _hub.clear_faults()
    _hub.add("user/prompts", PROMPTS, "dataset")
    return _hub


def rpo(client, folder, base, *flags, name="ARR-one"):
    """Exit status and output of the command as a user runs it in `folder`."""
    (folder / "rewards.py").write_text(REWARD)
    argv = [
        "rpo", "--config", str(ROOT / "examples" / "configs" / "tiny_scenes_rpo.yaml"), "--model_name_or_path", str(base),
        "--dataset_name", "user/prompts", "--dataset_streaming", "true", "--output_dir", str(folder / "out"),
        "--judge_model", "tiny_scenes", "--rubric", str(ROOT / "examples" / "rubrics" / "tiny_scenes.json"),
        "--eval_dataset_split", "train[:2]", "--reward_funcs", "rewards.brightness", "--num_inference_steps", "3",
        "--eval_num_inference_steps", "2", "--sde_window_range", "0", "2", "--sde_window_size", "1",
        "--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "1", "--max_steps", "2",
        "--learning_rate", "1e-2", "--save_steps", "1", "--disable_tqdm", "true", "--adapter_subfolder", name,
        "--push_to_hub", "true", "--hub_model_id", REPO, *flags,
    ]  # fmt: skip
    return client.run(RUN, folder=folder, argv=argv)


def no_token_astray(hub, folder, output):
    assert TOKEN not in output
    for path in (folder / "out").rglob("*"):
        assert path.is_dir() or TOKEN.encode() not in path.read_bytes(), path
    for request in hub.requests:
        headers = {name: value for name, value in request.headers.items() if name != "authorization"}
        assert TOKEN not in request.path + str(headers)
        assert TOKEN.encode() not in request.body


def test_streamed_prompts_train_an_adapter_that_is_pushed_with_its_card(tmp_path, hub, client, base):
    status, output = rpo(client, tmp_path, base, "--hub_strategy", "checkpoint", "--hub_token", TOKEN)
    assert status == 0, output
    files = hub.model(REPO).files
    assert {f"ARR-one/{name}" for name in (
        "adapter_config.json", "adapter_model.safetensors", "pytorch_lora_weights.safetensors",
    )} <= files.keys()  # fmt: skip
    assert "last-checkpoint/checkpoint.json" in files
    assert not any(name.endswith("training_args.bin") for name in files)
    readme = files["README.md"].decode()
    assert "- user/prompts" in readme
    assert "## ARR-one" in readme
    trained = (tmp_path / "out" / "ARR-one" / "pytorch_lora_weights.safetensors").read_bytes()
    assert files["ARR-one/pytorch_lora_weights.safetensors"] == trained
    no_token_astray(hub, tmp_path, output)

    # on from the Hub, on a machine that has nothing
    other = tmp_path / "other"
    other.mkdir()
    status, output = rpo(client, other, base, "--max_steps", "3", "--resume_from_checkpoint", REPO, name="ARR-two")
    assert status == 0, output
    assert json.loads((other / "out" / "trainer_state.json").read_text())["global_step"] == 3
    assert not (other / "out" / "checkpoint-2").exists()
    files = hub.model(REPO).files
    assert re.findall("^## ARR-.*", files["README.md"].decode(), re.MULTILINE) == ["## ARR-one", "## ARR-two"]
    assert files["ARR-one/pytorch_lora_weights.safetensors"] == trained


FAULTS = {
    "401": ({"status": 401}, "hf auth login"),
    "403": ({"status": 403}, "write permission for user"),
    "404": ({"status": 404}, "Check `repo_id`"),
    "409": ({"status": 409}, "others kept committing"),
    "412": ({"status": 412}, "others kept committing"),
    "429": ({"status": 429, "headers": {"Retry-After": "900"}}, "Wait 900 seconds"),
    "500": ({"status": 500}, "status 500"),
    "reset": ({"action": "reset"}, "Check the network"),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, client, base, _hub):
    """A run that ended before it could push; those that follow go on from its last checkpoint, which takes no step."""
    folder = tmp_path_factory.mktemp("trained")
    _hub.add("user/prompts", PROMPTS, "dataset")
    status, output = rpo(client, folder, base, "--push_to_hub", "false")
    assert status == 0, output
    return folder


@pytest.mark.parametrize(("name", "strategy"), [*((name, "every_save") for name in FAULTS), ("500", "end")])
def test_push_that_fails_costs_nothing_but_the_exit_status(tmp_path, hub, client, base, trained, name, strategy):
    fault, remedy = FAULTS[name]
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    for name in ("ARR-one", "README.md", "results.json", "checkpoint-2"):  # what is looked at is made anew
        remove = shutil.rmtree if (tmp_path / "out" / name).is_dir() else os.unlink
        remove(tmp_path / "out" / name)
    hub.fail("POST", "/commit/", times=1000, **fault)
    flags = ("--hub_strategy", strategy, "--resume_from_checkpoint", "true")
    status, output = rpo(client, tmp_path, base, *flags)
    assert status == 1
    assert "Traceback" not in output
    assert f"Could not push to {REPO}" in output
    assert remedy in output
    assert f"arr-trl push {tmp_path / 'out'} --repo_id {REPO}" in output
    adapter = tmp_path / "out" / "ARR-one" / "pytorch_lora_weights.safetensors"
    assert adapter.read_bytes() == (trained / "out" / "ARR-one" / adapter.name).read_bytes()
    for name in ("README.md", "results.json", "samples.png", "checkpoint-2/checkpoint.json"):
        assert (tmp_path / "out" / name).is_file()
    assert set(hub.model(REPO).files) == {".gitattributes"}
    no_token_astray(hub, tmp_path, output)

    hub.clear_faults()
    status, output = client.run(RUN, folder=tmp_path, argv=["push", str(tmp_path / "out"), "--repo_id", REPO])
    assert status == 0, output
    assert hub.model(REPO).files["ARR-one/pytorch_lora_weights.safetensors"] == adapter.read_bytes()


def test_slow_hub_and_one_that_breaks_once_are_waited_for(tmp_path, hub, client, base, trained):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    hub.fail("POST", "/commit/", delay=1.5)
    hub.fail("POST", "/commit/", action="reset")
    status, output = rpo(client, tmp_path, base, "--hub_strategy", "end", "--resume_from_checkpoint", "true")
    assert status == 0, output
    assert "ARR-one/adapter_config.json" in hub.model(REPO).files


def test_token_that_may_not_write_is_found_before_training(tmp_path, hub, client, base):
    status, output = rpo(client, tmp_path, base, "--hub_model_id", "somebody/models")
    assert status == 2
    assert "does not let this token write to somebody/models" in output
    assert not (tmp_path / "out" / "checkpoint-1").exists()


def test_pictures_stream_from_parquet_to_the_reward_as_a_column(tmp_path, hub, client, base):
    pictures = [Image.new("RGB", (8, 8), (40 * i, 0, 0)) for i in range(4)]
    content = io.BytesIO()
    rows = {"instruction": captions("train")[:4], "before": pictures}
    Dataset.from_dict(rows).to_parquet(content)
    hub.add("user/edits", {"data/train-00000.parquet": content.getvalue()}, "dataset")
    (tmp_path / "looks.py").write_text(
        "def source(prompts, completions, source_image, **columns):\n"
        "    assert all(image.size == (8, 8) for image in source_image)\n"
        "    return [float(i % 2) for i in range(len(completions))]\n"
    )
    status, output = rpo(
        client, tmp_path, base, "--dataset_name", "user/edits", "--prompt_column", "instruction",
        "--source_column", "before", "--reward_funcs", "looks.source", "--hub_strategy", "end",
        "--rehearse_judge", "false",
    )  # fmt: skip
    # the judge of TinyScenes takes the source for a third candidate, and the reward trains without it
    assert status == 1
    assert "The evaluation got no verdict on any of its 2 prompts" in output
    assert "ARR-one/adapter_config.json" in hub.model(REPO).files


READ = """
from datasets import load_dataset
rows = load_dataset(repo, split="train")
result = [rows.column_names, [[row["prompt"], row["judge_winner"], list(row["image"].size)] for row in rows]]
"""


PAIRS = """
from arr_trl.cli.main import main
from arr_trl.data.preference_rows import preference_rows
options = ["--output", folder, "--test_share", "0", "--repo_id", "user/pairs", "--private"]
result = [main(["pairs", "from-run", "user/completions", *options])]
result += [[row["prompt"], row["chosen_noise"]] for row in preference_rows("user/pairs", streaming=True)]
"""


def test_candidates_become_a_dataset_on_the_hub(tmp_path, hub, client, base):
    hub.fail("POST", "/api/datasets/.*/commit/", status=500, times=1)
    status, output = rpo(
        client, tmp_path, base, "--push_to_hub", "false", "--log_completions", "true", "--logging_steps", "1",
        "--log_completions_hub_repo", "completions", "--hub_private_repo", "true",
    )  # fmt: skip
    assert status == 0, output
    assert "Could not push completions to the dataset user/completions" in output  # the first time
    repo = hub.repos["dataset", "user/completions"]
    assert repo.private
    assert set(repo.files) == {
        ".gitattributes", "README.md", "ARR-one/step_000001.parquet", "ARR-one/step_000002.parquet",
    }  # fmt: skip
    columns, rows = client.run(READ, repo="user/completions")
    assert {"rubric_judge", "brightness", "advantage", "judge_reason"} <= set(columns)
    assert len(rows) == 4
    for prompt, winner, size in rows:
        assert prompt in captions("train")[:12]
        assert winner in ("image 1", "image 2", "tie", "failed")
        assert size == [32, 32]
    # and from there preference pairs on the Hub, which are read from there
    status, *pairs = client.run(PAIRS, folder=tmp_path / "pairs")
    assert status == 0
    assert {prompt for prompt, _ in pairs} <= {prompt for prompt, _, _ in rows}
    assert all(len(noise) == 2 for _, noise in pairs)
    assert len(pairs) >= 1
    repo = hub.repos["dataset", "user/pairs"]
    assert repo.private
    assert {"README.md", "data/train-00000.parquet"} <= set(repo.files)
    no_token_astray(hub, tmp_path, output)


def test_dataset_of_candidates_that_cannot_be_written_is_found_before_training(tmp_path, hub, client, base):
    status, output = rpo(
        client, tmp_path, base, "--push_to_hub", "false", "--log_completions", "true",
        "--log_completions_hub_repo", "somebody/completions",
    )  # fmt: skip
    assert status == 2
    assert "does not let this token write to somebody/completions" in output
    assert "`log_completions_hub_repo`" in output
