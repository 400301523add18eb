"""`--accelerate_config`: what is handed to accelerate, and what is refused."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from openai_server import OpenAIServer, checks_pass

from arr_trl.cli.main import main
from arr_trl.shipped import examples
from arr_trl.tiny_scenes import TinyScenesJudge


CONFIGS = sorted((examples() / "accelerate_configs").glob("*.yaml"))
PROCESSES = [("single", 1), ("ddp", 2)]


def start(folder, config, processes, *flags):
    """A run of the quickstart's, with everything that it says in `folder/log`."""
    command = [sys.executable, "-m", "arr_trl.cli.main", "rpo", "--config", "examples/configs/tiny_scenes_rpo.yaml"]
    command += ["--accelerate_config", config, "--num_processes", str(processes), "--output_dir", str(folder / "out")]
    command += ["--per_device_train_batch_size", "8", "--save_strategy", "no", "--eval_strategy", "no", *flags]
    with (folder / "log").open("w") as log:
        return subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=log, stderr=log)


@pytest.fixture
def launched(monkeypatch):
    """What would be launched."""
    calls = []
    monkeypatch.setattr("accelerate.commands.launch.launch_command", calls.append)
    return calls


def test_options_of_accelerate_go_to_accelerate_and_the_others_to_the_command(launched, tmp_path):
    own = [
        "--model_name_or_path",
        "m",
        "--dataset_name",
        "d",
        "--max_steps",
        "2",
        "--use_cpu",
        "true",
        "--bf16",
        "false",
    ]
    output = ["--output_dir", str(tmp_path)]
    assert main(["rpo", *own, "--accelerate_config", "zero2", "--num_processes", "2", *output]) == 0
    (args,) = launched
    assert args.config_file.endswith("zero2.yaml")
    assert args.num_processes == 2
    assert args.module
    assert args.training_script == "arr_trl.cli.main"
    assert args.training_script_args == ["rpo", *own, *output]


@pytest.mark.parametrize(("argv", "message"), [
    (["--accelerate_config", "zero7"], r"zero7 is neither a file nor .*; did you mean `zero3`\?"),
    (["--accelerate_config", "ddp", "--num_proceses", "2"], "no option `num_proceses`.*did you mean `num_processes`"),
    (["--accelerate_config"], "is neither a file nor one of ddp, fsdp2, multi_node, single, zero2, zero3"),
    (["--num_generations", "1", "--accelerate_config", "ddp"], "num_generations=1 leaves nothing to compare"),
])  # fmt: skip
def test_what_cannot_be_launched_is_refused_in_a_sentence(launched, tmp_path, capsys, argv, message):
    with pytest.raises(SystemExit, match="2"):
        main(["rpo", "--output_dir", str(tmp_path), "--use_cpu", "true", "--bf16", "false", *argv])
    assert not launched
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(("text", "message"), [
    ("num_processes: [1\n", "is no configuration of accelerate: while parsing a flow sequence"),
    ("distributed_type: MULTI_GPU\nnum_proceses: 2\n", r"unknown keys \(\['num_proceses'\]\)"),
    ("num_processes: 2\n", "A `distributed_type` must be specified"),
])  # fmt: skip
def test_configuration_that_accelerate_cannot_read_is_refused_in_a_sentence(launched, tmp_path, capsys, text, message):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(SystemExit, match="2"):
        main(["rpo", "--output_dir", str(tmp_path), "--accelerate_config", str(tmp_path / "mine.yaml")])
    assert not launched
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configuration_is_one_that_accelerate_reads(path):
    config = load_config_from_file(str(path))
    assert config.num_processes >= config.num_machines
    # the precision is the run's own decision
    assert yaml.safe_load(path.read_text())["mixed_precision"] == "no"


@pytest.mark.slow
@pytest.mark.parametrize(("config", "processes"), PROCESSES)
def test_mistake_that_every_process_finds_is_not_buried_under_the_launchers(tmp_path, config, processes):
    run = start(tmp_path, config, processes, "--dataset_name", "no-such.jsonl")
    assert run.wait() == 2
    said = (tmp_path / "log").read_text()
    assert "arr-trl: There is no prompt file at no-such.jsonl" in said
    assert "Traceback" not in said
    assert ("arr-trl: Process 0 ended with status 2" in said or "arr-trl: Process 1 ended" in said) == (processes > 1)


@pytest.mark.slow
@pytest.mark.parametrize(("config", "processes"), PROCESSES)
def test_launcher_that_is_told_to_end_waits_for_the_step_and_its_checkpoint(tmp_path, config, processes):
    # a step of more than the 30 s after which torchrun would kill
    with OpenAIServer(TinyScenesJudge(), checks_pass, latency_s=35) as server:
        judge = ("--judge_model", "judge", "--base_url", server.url, "--rehearse_judge", "false")
        run = start(tmp_path, config, processes, *judge)
        while not any("response_format" in body and not checks_pass(0, body) for body in server.requests):
            assert run.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.1)
        run.send_signal(signal.SIGTERM)
        assert run.wait(600) == 128 + signal.SIGTERM
    assert [path.name for path in (tmp_path / "out").glob("checkpoint-*")] == ["checkpoint-1"]
    assert "Traceback" not in (tmp_path / "log").read_text()
