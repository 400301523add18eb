"""What ships has names, which work without a clone: configurations, rubrics, models."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from trl import TrlParser
from wheel_contents import ROOT, faults_of

from arr_trl import RPOConfig, RPOTrainer, Rubric, shipped
from arr_trl.cli.arguments import parse
from arr_trl.cli.rpo import RPOScriptArguments
from arr_trl.judges.rubric_source import resolve_rubric
from arr_trl.policies import load_policy
from arr_trl.tiny_scenes import BASE_MODEL, prompts


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_configuration_and_rubric_is_found_by_its_name_from_anywhere(elsewhere):
    assert {"tiny_scenes_rpo", "rpo_flux", "grpo_z_image"} <= set(shipped.names("configs"))
    for kind in ("configs", "rubrics", "accelerate_configs"):
        for name in shipped.names(kind):
            assert shipped.file_or_shipped(kind, name, "--config").stem == name
    assert shipped.find("prompts", "tiny_scenes").read_text().startswith("a ")
    assert Rubric.load("tiny_scenes").name == "tiny-scenes"
    assert resolve_rubric("image_editing").task == "image-editing"


def test_configuration_by_name_and_a_file_of_that_name_wins(elsewhere):
    parser = (RPOScriptArguments, RPOConfig)
    script_args, args = parse(TrlParser(parser), ["--config", "tiny_scenes_rpo", "--seed", "7"])
    assert (script_args.rubric, args.width, args.seed) == (["tiny_scenes"], 32, 7)
    assert parse(TrlParser(parser), ["--config=tiny_scenes_edit", "--max_steps", "1"])[1].condition_size == 32
    (elsewhere / "tiny_scenes_rpo").write_text("width: 64\nuse_cpu: true\nbf16: false\noutput_dir: out\n")
    assert parse(TrlParser(parser), ["--config", "tiny_scenes_rpo"])[1].width == 64


def test_name_that_does_not_exist_is_answered_with_the_nearest(elsewhere):
    with pytest.raises(
        FileNotFoundError, match=r"--config tiny_scene_rpo is neither .* did you mean `tiny_scenes_rpo`"
    ):
        parse(TrlParser((RPOScriptArguments, RPOConfig)), ["--config", "tiny_scene_rpo"])
    with pytest.raises(FileNotFoundError, match=r"ships with the package: .*image_editing"):
        Rubric.load("nothing.json")


def test_models_have_names_and_one_size(tmp_path):
    assert load_policy("tiny_scenes", {"height": 32}, {}).pipeline.name_or_path == str(BASE_MODEL)
    args = RPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, per_device_train_batch_size=14)
    with pytest.raises(
        ValueError, match=r"height=512: the models of TinyScenes draw pictures of 32 × 32 pixels; set height"
    ):
        RPOTrainer("tiny_scenes", lambda completions, **columns: [0.0] * len(completions), args, prompts("train"))
    with pytest.raises(ValueError, match="width=64: the models of TinyScenes"):
        load_policy(str(BASE_MODEL), {"height": 32, "width": 64})


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of this checkout, of a copy, since a build writes beside its sources."""
    setuptools = pytest.importorskip("setuptools", reason="setuptools is not installed")
    if int(setuptools.__version__.split(".")[0]) < 77:
        pytest.skip("setuptools is older than pyproject.toml asks for")
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for name in ("src", "examples"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    build = f"from setuptools.build_meta import build_wheel; build_wheel({str(out)!r})"
    done = subprocess.run([sys.executable, "-c", build], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return next(out.glob("*.whl"))


def test_wheel_is_complete(wheel):
    assert faults_of(wheel) == []


def test_names_work_from_the_wheel(wheel, elsewhere):
    shutil.unpack_archive(wheel, elsewhere / "site", "zip")
    code = (
        "from arr_trl import shipped; print(shipped.find('configs', 'tiny_scenes_rpo'), "
        "shipped.find('rubrics', 'tiny_scenes'), shipped.find('accelerate_configs', 'ddp'))"
    )
    environment = os.environ | {"PYTHONPATH": str(elsewhere / "site")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    found = done.stdout.split()
    assert len(found) == 3, done.stderr
    assert all(Path(path).is_relative_to(elsewhere / "site" / "arr_trl" / "examples") for path in found)


@pytest.mark.slow
def test_wheel_in_an_empty_environment_trains_in_an_empty_folder(wheel, elsewhere):
    """As somebody without a clone does it; the libraries are those of this environment, so that nothing is downloaded."""
    python = elsewhere / "env" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(elsewhere / "env")], check=True)
    install = ["install", "--no-deps", "--no-index", "--disable-pip-version-check", "-q", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "--python", str(python), *install], check=True)
    (site,) = (elsewhere / "env" / "lib").glob("python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")  # `.pth` files in there are not read
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    (elsewhere / "empty").mkdir()
    short = [
        "--max_steps", "2", "--per_device_train_batch_size", "16", "--eval_dataset_split", "test[:6]",
        "--eval_num_inference_steps", "2", "--num_inference_steps", "4", "--logging_steps", "1",
    ]  # fmt: skip
    for options, output in ((["quickstart"], "quickstart"), (["quickstart", "--edit"], "quickstart-edit")):
        command = [elsewhere / "env" / "bin" / "arr-trl", *options, *short]
        done = subprocess.run(command, cwd=elsewhere / "empty", env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        assert "all criteria" in done.stdout
        (adapter,) = (elsewhere / "empty" / "outputs" / output).glob("ARR-tiny-*")
        assert (adapter / "pytorch_lora_weights.safetensors").is_file()
