"""Candidates and verdicts in TensorBoard, wandb and trackio, read back from what these wrote; nothing is online."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, load_dataset
from forked_run import ForkedRun, build, write_prompts
from PIL import Image

from arr_trl.data.completions import pairs_of_completions
from arr_trl.data.preference_rows import preference_rows
from arr_trl.data.preferences import load_preferences
from arr_trl.judges import JudgeRow
from arr_trl.release.pairs import PairsFacts, write_pairs
from arr_trl.trainer import completions
from arr_trl.trainer.completions import log_completions


TOKEN = "hf_secretOfTheTracker"


def with_verdict(prompts, completions, log_extra, **columns):
    log_extra("judge_winner", ["image 1", "image 1", "tie", "tie"])
    log_extra("judge_reason", [None] * len(completions))
    log_extra("one for all", ["dropped"])
    return [float(i % 2) for i in range(len(completions))]


def train(folder, files, tracker):
    trainer = build(
        folder / "out", files, with_verdict, max_steps=3, logging_steps=1, log_completions=True, save_strategy="no",
        report_to=[tracker], project="tracked", run_name="a-run", hub_token=TOKEN,
    )  # fmt: skip
    trainer.train()


def run_apart(folder, tracker, environment):
    """`train` in an interpreter of its own: trackers read the environment when they are imported."""
    code = "import sys, pathlib, test_tracking as t; t.train(pathlib.Path(sys.argv[1]), sys.argv[3:], sys.argv[2])"
    tests = Path(__file__).parent
    path = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [sys.executable, "-c", code, str(folder), tracker, *write_prompts(folder)],
        env={**os.environ, "PYTHONPATH": path, **environment},
        check=True,
    )


def no_token(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    assert all(TOKEN.encode() not in path.read_bytes() for path in files)


def test_completions_are_written_with_pictures_rewards_and_verdicts(tmp_path):
    build(tmp_path / "out", write_prompts(tmp_path), with_verdict, max_steps=1, log_completions=True).train()
    folder = tmp_path / "out" / "completions"
    assert (folder / "step_000001.png").is_file()
    table = load_dataset("parquet", data_files=str(folder / "step_000001.parquet"), split="train")
    assert table.column_names == [
        "step", "prompt", "candidate", "with_verdict", "advantage", "noise_seed", "noise_draw", "judge_winner",
        "judge_reason", "image",
    ]  # fmt: skip
    assert table[1]["image"].size == (32, 32)
    assert table["candidate"][:2] == [1, 2]
    assert table["with_verdict"][:2] == [0.0, 1.0]
    assert table.features["judge_reason"].dtype == "string"  # also where no verdict has one


def test_sources_of_an_edit_stand_beside_its_candidates(tmp_path):
    picture = Image.new("RGB", (8, 8), "red")
    rows = [{"prompt": "make it blue", "source_image": picture}]
    log_completions(tmp_path, 3, rows, [picture, picture], {"reward": [0.0, 1.0]}, 8, [], [])
    table = load_dataset("parquet", data_files=str(tmp_path / "step_000003.parquet"), split="train")
    assert table[0]["source_image"][0].getpixel((0, 0)) == (255, 0, 0)
    alone = tmp_path / "alone"
    log_completions(alone, 3, [{"prompt": "make it blue"}], [picture, picture], {}, 8, [], [])
    assert Image.open(tmp_path / "step_000003.png").width > Image.open(alone / "step_000003.png").width


def test_masks_of_an_edit_stand_beside_its_source_and_go_into_pairs(tmp_path):
    chosen, rejected, source = (Image.new("RGB", (16, 16), color) for color in ("red", "blue", "gray"))
    white = Image.new("L", (8, 8), 255)
    row = {"prompt": "make it blue", "source_image": source}
    columns = {"advantage": [1.0, -1.0]}
    for folder, given in (("with", row | {"mask_image": white}), ("without", row)):
        log_completions(tmp_path / folder, 3, [given], [chosen, rejected], columns, 8, [], [])
    sheets = [Image.open(tmp_path / folder / "step_000003.png").width for folder in ("with", "without")]
    assert sheets[0] > sheets[1]
    pairs = pairs_of_completions([tmp_path / "with" / "step_000003.parquet"], Counter())
    write_pairs(pairs, tmp_path / "pairs", PairsFacts("made by a test"))
    (stored,) = preference_rows(str(tmp_path / "pairs"))
    assert stored["mask_image"].getpixel((0, 0)) == (255, 255, 255)
    (pair,) = load_preferences(str(tmp_path / "pairs"))
    assert JudgeRow.of(pair).mask.size == (16, 16)


def test_a_sheet_says_who_won_what_it_was_worth_and_why(tmp_path, monkeypatch):
    sheets = []
    monkeypatch.setattr(completions, "save_samples", lambda *args, **said: sheets.append(said))
    columns = {
        "judge": [1.0, 0.0, 0.5, 0.5, None, None],
        "advantage": [0.55, -0.55, float("nan"), float("nan"), float("nan"), float("nan")],
        "judge_winner": ["image 1"] * 2 + ["tie"] * 2 + ["failed"] * 2,
        "judge_reason": ["it is nearer"] * 2 + [None] * 2 + ["The server is gone."] * 2,
    }
    rows = [{"prompt": prompt} for prompt in "abc"]
    log_completions(tmp_path, 3, rows, [Image.new("RGB", (8, 8))] * 6, columns, 8, [], [], ["judge"])
    log_completions(tmp_path, 3, rows[:1], [Image.new("RGB", (8, 8))] * 2, {"a": [1, 2], "b": [3, 4]}, 8, [], [], "ab")
    assert sheets == [
        {
            "captions": {
                "candidate 1": [
                    "reward 1\nadvantage 0.55",
                    "reward 0.5\nadvantage none",
                    "reward none\nadvantage none",
                ],
                "candidate 2": [
                    "reward 0\nadvantage -0.55",
                    "reward 0.5\nadvantage none",
                    "reward none\nadvantage none",
                ],
            },
            "best": ["candidate 1", None, None],
            "remarks": ["candidate 1 won: it is nearer", "a tie", "no verdict: The server is gone."],
        },
        {"captions": {"candidate 1": ["a 1\nb 3"], "candidate 2": ["a 2\nb 4"]}, "best": [None], "remarks": [""]},
    ]


def test_each_process_writes_a_table_of_its_own_candidates(tmp_path):
    files = write_prompts(tmp_path)
    settings = {"max_steps": 1, "log_completions": True, "save_strategy": "no"}
    run = ForkedRun(
        lambda: build(tmp_path / "out", files, **settings).train(), ranks=2, log=tmp_path / "log"
    )  # fmt: skip
    assert run.wait() == [0, 0], (tmp_path / "log").read_text()
    folder = tmp_path / "out" / "completions"
    tables = [f"step_000001-{process:05d}-of-00002.parquet" for process in range(2)]
    assert sorted(path.name for path in folder.iterdir()) == [*tables, "step_000001.png"]
    table = load_dataset("parquet", data_files=str(folder / "*.parquet"), split="train")
    assert len(table) == 2 * 4  # two prompts of two candidates on each process
    assert len(set(table["prompt"])) == 4


def test_other_processes_send_no_more_than_a_sheet_shows(tmp_path, monkeypatch):
    sent = []
    monkeypatch.setattr(completions, "gather_to_main", lambda part: sent.append(part))
    rows, pictures = [{"prompt": prompt} for prompt in "abc"], [Image.new("RGB", (1000, 500))] * 6
    for process, num_shown in ((1, 4), (2, 4)):
        log_completions(tmp_path, 3, rows, pictures, {}, num_shown, [], [], (), process, 3)
    (name, first), (_, none) = sent
    assert (name, first["prompt"], none["prompt"]) == ("step_000003-00001-of-00003.parquet", ["a", "a"], [])
    assert [picture.size for picture in first["image"]] == [(320, 160)] * 2
    table = load_dataset("parquet", data_files=str(tmp_path / name), split="train")
    assert [picture.size for picture in table["image"]] == [(1000, 500)] * 6


def test_step_that_other_processes_wrote_before_a_resume_is_there_once(tmp_path):
    rows, pictures = [{"prompt": "a"}], [Image.new("RGB", (8, 8))] * 2
    (tmp_path / "step_000003-00001-of-00002.parquet").write_bytes(b"of two processes")
    log_completions(tmp_path, 3, rows, pictures, {}, 8, [], [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_000003.parquet", "step_000003.png"]


def test_tables_are_written_without_bars_in_the_middle_of_the_screen(tmp_path, capfd):
    log_completions(
        tmp_path, 1, [{"prompt": "a"}], [Image.new("RGB", (8, 8))] * 2, {"judge_reason": [None] * 2}, 8, [], []
    )
    assert capfd.readouterr() == ("", "")


def test_full_disk_costs_the_pictures_and_not_the_run(tmp_path, caplog):
    (tmp_path / "completions").write_text("a file where the folder should go")
    log_completions(tmp_path / "completions", 0, [{"prompt": "a"}], [Image.new("RGB", (8, 8))] * 2, {}, 8, [], [])
    assert "The candidates of step 0 could not be written" in caplog.text


def test_tensorboard_shows_pairs_and_verdicts(tmp_path):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train(tmp_path, write_prompts(tmp_path), "tensorboard")
    (folder,) = {path.parent for path in (tmp_path / "out").rglob("events.out.tfevents*")}
    events = event_accumulator.EventAccumulator(str(folder))
    events.Reload()
    assert "train/rollout/decided_rate" in events.Tags()["scalars"]
    sheets = events.Images("completions/sheet")
    assert [event.step for event in sheets] == [1, 3]  # a rollout lasts for two steps
    first = np.asarray(Image.open(tmp_path / "out" / "completions" / "step_000001.png"))
    assert (sheets[0].height, sheets[0].width) == first.shape[:2]
    text = events.Tensors("completions/text_summary")[0].tensor_proto.string_val[0].decode()
    header, _, *rows = text.splitlines()
    names = "step", "prompt", "candidate", "with_verdict", "advantage", "noise_seed", "noise_draw", "judge_winner"
    assert header == f"| {' | '.join(names)} | judge_reason |"
    assert len(rows) == 4
    assert "| image 1 |" in rows[0]
    no_token(folder)


def test_wandb_gets_a_table_with_pictures(tmp_path):
    pytest.importorskip("wandb")
    names = ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR")
    run_apart(tmp_path, "wandb", {"WANDB_MODE": "offline", **{name: str(tmp_path / name.lower()) for name in names}})
    (media,) = (tmp_path / "wandb_dir").glob("wandb/offline-run-*/files/media")
    tables = [json.loads(path.read_text()) for path in media.glob("table/completions_*.json")]
    assert len(tables) == 2
    for table in tables:
        assert table["columns"][-3:] == ["judge_winner", "judge_reason", "image"]
        assert [row[-3] for row in table["data"]] == ["image 1", "image 1", "tie", "tie"]
    assert len(list(media.glob("images/completions/sheet_*.png"))) == 2
    # wandb keeps the pictures of a table as an artifact of the run
    staged = [path for path in (tmp_path / "wandb_data_dir" / "artifacts" / "staging").iterdir() if path.is_file()]
    pictures = [path for path in staged if path.read_bytes().startswith(b"\x89PNG")]
    assert len(pictures) == 2 * 4
    assert Image.open(pictures[0]).size == (32, 32)
    no_token(tmp_path / "wandb_dir")


def test_trackio_gets_a_table_with_pictures(tmp_path):
    pytest.importorskip("trackio")
    run_apart(tmp_path, "trackio", {"TRACKIO_DIR": str(tmp_path / "trackio")})
    with contextlib.closing(sqlite3.connect(tmp_path / "trackio" / "tracked.db")) as database:
        logs = [json.loads(metrics) for (metrics,) in database.execute("SELECT metrics FROM metrics ORDER BY step")]
    tables = [entry["completions"]["_value"] for entry in logs if "completions" in entry]
    assert [table[0]["step"] for table in tables] == [1, 3]
    for table in tables:
        assert [row["judge_winner"] for row in table] == ["image 1", "image 1", "tie", "tie"]
        for row in table:
            assert Image.open(tmp_path / "trackio" / "media" / row["image"]["file_path"]).size == (32, 32)
    no_token(tmp_path / "trackio")


def test_tables_of_a_run_without_verdicts_and_with_them_load_together(tmp_path):
    picture = Image.new("RGB", (8, 8))
    for step, reasons in enumerate([[None, None], ["sharper", "sharper"]]):
        log_completions(tmp_path, step, [{"prompt": "a"}], [picture] * 2, {"judge_reason": reasons}, 8, [], [])
    assert isinstance(load_dataset("parquet", data_files=str(tmp_path / "*.parquet"), split="train"), Dataset)
