"""`arr-trl judge train`: from labelled pairs to a folder that judges, measured before and after."""

import json

import pytest
from tiny_judge import write_files

from arr_trl.cli.judge_train import _told_of
from arr_trl.cli.main import main
from arr_trl.judge_training import JudgeFacts


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("files"))


def arguments(files, output, *more):
    return [
        "judge", "train", "--model_name_or_path", str(files / "model"), "--judge_preset", str(files / "preset"),
        "--dataset_name", str(files / "train.jsonl"), "--output_dir", str(output), "--max_steps", "20",
        "--learning_rate", "0.01", "--lr_scheduler_type", "constant", "--warmup_steps", "0", "--save_strategy", "no",
        "--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "1",
        "--gradient_checkpointing", "false", "--report_to", "none", "--lora_r", "4", "--lora_alpha", "8", *more,
    ]  # fmt: skip


def test_pairs_become_a_folder_that_judges_and_says_how_well(files, tmp_path, capsys):
    output = tmp_path / "red-judge"
    assert (
        main(arguments(files, output, "--eval_dataset_name", str(files / "test.jsonl"), "--first_token_weight", "0.5"))
        == 0
    )
    assert "--judge_preset" in capsys.readouterr().out
    found = json.loads((output / "judge_eval.json").read_text())
    assert found["after"]["pairs"] == found["before"]["pairs"] == 4
    assert found["after"]["accuracy_mean"] == 1.0
    assert found["calibration_error"]["after"] < 0.2 < found["calibration_error"]["before"]
    card = (output / "README.md").read_text()
    assert "4 held-out pairs of" in card
    assert "| `accuracy_mean` |" in card
    assert "6 labelled pairs" in card
    assert str(tmp_path) not in card

    evaluated = tmp_path / "eval.json"
    asked = ["--judge_preset", str(output), "--judge_local", "--dataset", str(files / "test.jsonl")]
    assert (
        main(["judge", "eval", *asked, "--output", str(evaluated), "--judge_store", str(tmp_path / "s.sqlite")]) == 0
    )
    assert json.loads(evaluated.read_text())["accuracy_mean"] == 1.0


def test_a_judge_that_contradicts_its_labels_is_told():
    against, with_them = (
        JudgeFacts(measured={"after": {"accuracy_mean": a, "accuracy_mean_ci": ci}}, calibration={"after": 0.25})
        for a, ci in ((0.1, (0.0, 0.3)), (0.4, (0.2, 0.6)))
    )
    assert _told_of(against)[0].startswith("It decides most held-out pairs against their labels.")
    assert _told_of(with_them) == ["Calibration error of its scores: after 0.250."]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--method", "guessing"], "method='guessing' is not one of"),
        (["--eval_dataset_split", "train"], "measured on the pairs that it is trained on"),
        (["--judge_preset", "mj-pair"], "is read from a text"),
        (["--method", "gcpo", "--gradient_accumulation_steps", "4"], "leaves no traces to compare"),
        (["--loss_type", "dft"], "loss_type='dft' is another loss than this trainer's"),
        (["--eval_strategy", "steps"], "measured before and after its training"),
        (["--judge_preset", "edit-rrm"], "Train it with method='traces'"),
        (
            ["--method", "traces", "--judge_preset", "edit-rrm"],
            "train.jsonl is a file; `--method traces` trains on the",
        ),
        (["--model_name_or_path", "nobody/nothing"], "model_name_or_path=nobody/nothing cannot be loaded"),
        (["--first_token_weight", "2"], "first_token_weight=2.0 is the first token's share"),
    ],
)
def test_what_cannot_be_trained_is_told_before_a_model_is_loaded(files, tmp_path, capsys, more, said):
    with pytest.raises(SystemExit, match="2"):
        main(arguments(files, tmp_path / "out", *more))
    assert said in capsys.readouterr().err
