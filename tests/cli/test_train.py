"""What a command that trains brings of its own: its options, its trainer, what measures pictures, and its rows."""

from dataclasses import dataclass, field

import pytest
import torch

from arr_trl import RPOConfig
from arr_trl.cli.command import TrainCommand
from arr_trl.cli.main import main
from arr_trl.cli.train import train
from arr_trl.cli.train_arguments import TrainArguments
from arr_trl.version import __version__


@dataclass
class PairArguments(TrainArguments):
    pair_column: str = field(default="pair", metadata={"help": "Column that holds the pairs."})


class PairTrainer:
    """A trainer that says what it was given, and goes no further."""

    def __init__(self, **given):
        self.given.update(given)
        raise ValueError("There is nothing to train.")


@pytest.fixture
def given(monkeypatch):
    monkeypatch.setattr(PairTrainer, "given", {}, raising=False)
    return PairTrainer.given


COMMAND = TrainCommand(
    "pairs",
    "Train on pairs.",
    PairArguments,
    "arr_trl.trainer.RPOConfig",
    f"{__name__}.{PairTrainer.__name__}",
    load_rewards=lambda script_args, training_args: {"eval_funcs": [script_args.judge_order]},
    load_datasets=lambda script_args, training_args: {"train_dataset": (script_args.pair_column, training_args.seed)},
)


def run(tmp_path, *flags):
    return train(["--output_dir", str(tmp_path), "--use_cpu", "true", "--bf16", "false", *flags], COMMAND)


def test_its_trainer_gets_what_it_loads_itself_and_needs_no_reward(tmp_path, given, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path, "--model_name_or_path", "m", "--dataset_name", "d", "--pair_column", "a", "--seed", "3")
    assert capsys.readouterr().err == "arr-trl: There is nothing to train.\n"
    assert isinstance(given.pop("args"), RPOConfig)
    assert given.pop("peft_config").r == 16
    assert given == {"model": "m", "eval_funcs": ["both"], "train_dataset": ("a", 3)}


def test_what_every_trainer_needs_is_asked_for_before_it_loads_anything(tmp_path, given, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path, "--model_name_or_path", "m")
    assert "`model_name_or_path` and `dataset_name` are needed" in capsys.readouterr().err
    assert given == {}


def test_its_own_name_stands_in_what_is_said_of_its_options(tmp_path, given, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path, "--xyzzy", "1")
    assert "There is no option `xyzzy`; see `arr-trl pairs --help`." in capsys.readouterr().err


@pytest.mark.parametrize(("flags", "targets"), [
    (["all-linear"], "all-linear"),
    ([r".*attn\.to_[qk]"], r".*attn\.to_[qk]"),
    (["attn.to_q"], {"attn.to_q"}),
    (["attn.to_q", "attn.to_k"], {"attn.to_q", "attn.to_k"}),
])  # fmt: skip
def test_layers_are_taken_by_name_by_pattern_or_all(tmp_path, given, flags, targets):
    with pytest.raises(SystemExit):
        run(tmp_path, "--model_name_or_path", "m", "--dataset_name", "d", "--lora_target_modules", *flags)
    assert given["peft_config"].target_modules == targets


def test_adapter_begins_as_it_is_asked_to(tmp_path, given):
    with pytest.raises(SystemExit):
        run(tmp_path, "--model_name_or_path", "m", "--dataset_name", "d", "--init_lora_weights", "gaussian")
    assert given["peft_config"].init_lora_weights == "gaussian"


def test_without_an_accelerator_the_mistake_is_told_and_not_the_machine(tmp_path, given, monkeypatch, capsys):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda *args: False)
    argv = ["--output_dir", str(tmp_path), "--model_name_or_path", "m"]
    with pytest.raises(SystemExit, match="2"):
        train(argv, COMMAND)
    assert capsys.readouterr().err.startswith("arr-trl: `model_name_or_path` and `dataset_name` are needed")
    with pytest.raises(SystemExit, match="2"):
        train([*argv, "--dataset_name", "d"], COMMAND)
    assert (given["args"].use_cpu, given["args"].bf16) == (True, False)
    (tmp_path / "half.yaml").write_text("bf16: true\n")
    with pytest.raises(SystemExit, match="2"):
        train([*argv, "--dataset_name", "d", "--config", str(tmp_path / "half.yaml")], COMMAND)
    assert (given["args"].use_cpu, given["args"].bf16) == (True, True)  # what is asked for stays


def test_later_files_win_and_options_over_all(tmp_path, given):
    (tmp_path / "a.yaml").write_text("seed: 1\nlearning_rate: 0.5\nmodel_name_or_path: m\n")
    (tmp_path / "b.yaml").write_text("seed: 2\npair_column: b\ndataset_name: d\n")
    files = ["--config", str(tmp_path / "a.yaml"), f"--config={tmp_path / 'b.yaml'}"]
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path, *files, "--max_steps", "7")
    args = given["args"]
    assert (args.seed, args.learning_rate, args.max_steps) == (2, 0.5, 7)
    assert given["train_dataset"] == ("b", 2)
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path, *files, "--seed", "3")
    assert given["args"].seed == 3


def test_no_command_shows_what_there_is(capsys):
    assert main([]) == 2
    assert "rpo" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert __version__ in capsys.readouterr().out
