"""`arr-trl judge train`: from labelled pairs to a folder that judges, measured before and after."""

import json

import pytest
from tiny_judge import write_files

from arr_trl import Rubric, RubricJudge
from arr_trl.chat import ChatReply, ChatUsage
from arr_trl.cli.judge_train import _told_of
from arr_trl.cli.main import main
from arr_trl.data.preferences import load_preferences
from arr_trl.judge_training import JudgeFacts
from arr_trl.judges import JudgeRow
from arr_trl.rubrics import Criterion


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

    assert main(["push", str(output), "--repo_id", "user/red-judge", "--dry_run"]) == 0
    sent = capsys.readouterr().out
    assert "Nothing was sent to user/red-judge." in sent
    assert {"adapter_model.safetensors", "preset.json", "README.md"} <= set(sent.split())
    assert main(["push", str(output), "--repo_id", "user/red-judge", "--subfolder", "x"]) == 2

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
    assert _told_of(against)[0].startswith("It decides most held-out pairs against their labels:")
    assert _told_of(with_them) == ["Calibration error of its scores: after 0.250."]


class LikesBlue:
    """A chat model that ranks blue pictures first, whatever was asked for."""

    model, settings = "likes-blue", {}

    def check(self):
        pass

    def complete(self, requests, on_reply=None):
        return [self.answer([p for m in r.messages for p in m["content"] if p["type"] == "image"]) for r in requests]

    def answer(self, parts):
        blue = [part["image"].getpixel((0, 0))[2] for part in parts]
        ranks = [1 + sum(other > one for other in blue) for one in blue]
        said = {"criteria": [{"criterion": 1, "ranks": ranks}], "reason": "it is blue", "ranks": ranks}
        return ChatReply(text=json.dumps(said), usage=ChatUsage(300, 20), latency_s=0.5)


def test_a_small_judge_learns_what_a_large_one_said_against_the_labels(files, tmp_path, capsys):
    rubric = Rubric(name="blue", criteria=[Criterion(text="It is blue.")])
    large = RubricJudge(rubric, LikesBlue(), store=tmp_path / "large.sqlite")
    read = [*load_preferences(str(files / "train.jsonl")), *load_preferences(str(files / "test.jsonl"))]
    large.compare([JudgeRow(pair.prompt, pair.images) for pair in read])
    held_out = ["--eval_dataset_name", str(files / "test.jsonl"), "--verdicts", str(tmp_path / "large.sqlite")]
    output = tmp_path / "blue-judge"
    assert main(arguments(files, output, *held_out, "--first_token_weight", "0.5")) == 0
    printed = capsys.readouterr().out
    assert "likes-blue under blue decided 6 pairs to train on, 0.0% of them as they were labelled." in printed
    assert (
        "For a pair likes-blue was asked 2.0 questions, of 640 tokens and 1.000 s together; this judge 2.0" in printed
    )
    found = json.loads((output / "judge_eval.json").read_text())
    assert found["after"]["accuracy_mean"] == 1.0  # as the large judge has it, and not the labels
    assert found["taught_by"]["agreement"] == 0.0
    card = (output / "README.md").read_text()
    assert "which of two pictures likes-blue preferred under the rubric blue" in card
    assert "held-out pairs of" in card
    assert "labelled by likes-blue" in card


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--verdicts", "nowhere.sqlite"], "There is no verdict store at nowhere.sqlite"),
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
