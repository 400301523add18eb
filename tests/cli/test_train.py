"""What a command that trains brings of its own: its options, its trainer, what measures pictures, and its rows."""

from dataclasses import dataclass, field

import pytest

from arr_trl import RPOConfig
from arr_trl.cli.train import train
from arr_trl.cli.train_arguments import TrainArguments


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


def run(tmp_path, *flags):
    argv = ["--output_dir", str(tmp_path), "--use_cpu", "true", "--bf16", "false", *flags]
    return train(
        argv,
        "pairs",
        "Train on pairs.",
        PairArguments,
        RPOConfig,
        PairTrainer,
        load_rewards=lambda script_args, training_args: {"eval_funcs": [script_args.judge_order]},
        load_datasets=lambda script_args, training_args: {
            "train_dataset": (script_args.pair_column, training_args.seed)
        },
    )


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
