"""`--accelerate_config`: what is handed to accelerate, and what is refused."""

import re

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file

from arr_trl.cli import launch as launching
from arr_trl.cli.main import main


CONFIGS = sorted(launching.CONFIGS.glob("*.yaml"))


@pytest.fixture
def launched(monkeypatch):
    """What would be launched."""
    calls = []
    monkeypatch.setattr("accelerate.commands.launch.launch_command", calls.append)
    return calls


def test_options_of_accelerate_go_to_accelerate_and_the_others_to_the_command(launched, tmp_path):
    argv = [
        "--max_steps",
        "2",
        "--use_cpu",
        "true",
        "--bf16",
        "false",
        "--accelerate_config",
        "zero2",
        "--num_processes",
        "2",
        "--output_dir",
        str(tmp_path),
    ]
    assert main(["rpo", *argv]) == 0
    (args,) = launched
    assert args.config_file.endswith("zero2.yaml")
    assert args.num_processes == 2
    assert args.module
    assert args.training_script == "arr_trl.cli.main"
    assert args.training_script_args == ["rpo", *argv[:6], "--output_dir", str(tmp_path)]


@pytest.mark.parametrize(("argv", "message"), [
    (["--accelerate_config", "zero7"], "zero7 is neither a file nor one of ddp, fsdp2, multi_node, single, zero2, zero3"),
    (["--accelerate_config", "ddp", "--num_proceses", "2"], "no option `num_proceses`.*did you mean `num_processes`"),
    (["--accelerate_config"], "is neither a file nor one of"),
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
