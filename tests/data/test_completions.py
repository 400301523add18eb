"""What a run drew and judged as preference pairs."""

import json
from collections import Counter

import pytest
from datasets import load_dataset
from PIL import Image

from arr_trl.cli.main import main
from arr_trl.data import load_image
from arr_trl.data.completions import find_completions, pairs_of_completions
from arr_trl.data.preference_rows import preference_rows
from arr_trl.release.pairs import PairsFacts, write_pairs
from arr_trl.trainer.completions import log_completions


def candidate(number):
    return Image.new("RGB", (8, 8), (number, 0, 0))


def write_run(folder, *rollouts):
    """Tables of a run; a rollout has prompts with the advantages of their candidates."""
    number = 0
    for step, prompts in enumerate(rollouts):
        worth = [value for of_prompt in prompts.values() for value in of_prompt]
        columns = {
            "advantage": worth,
            "noise_seed": [7] * len(worth),
            "noise_draw": [k for of_prompt in prompts.values() for k in range(len(of_prompt))],
            "judge": ["a judge"] * len(worth),
            "rubric": ["a hash"] * len(worth),
            "judge_reason": ["it is nearer"] * len(worth),
            "judge_margin": [0.4 + 0.1 * step] * len(worth),
        }
        images = [candidate(number + k) for k in range(len(worth))]
        number += len(worth)
        log_completions(folder / "completions", step, [{"prompt": p} for p in prompts], images, columns, 1, [], [])
    return str(folder)


NAN = float("nan")


def places(rows):
    return [tuple(load_image(row[name]).getpixel((0, 0))[0] for name in ("chosen", "rejected")) for row in rows]


def test_what_was_worth_more_is_preferred_and_ties_and_failures_are_counted(tmp_path, capsys):
    run = write_run(tmp_path / "run", {"a": [-0.1, 1.0], "b": [NAN, NAN]}, {"a": [1.0, -0.1], "c": [0.5, 0.5]})
    output = tmp_path / "pairs"
    assert main(["pairs", "from-run", run, "--output", str(output), "--test_share", "0"]) == 0
    rows = load_dataset(str(output), split="train")
    assert [tuple(row[name].getpixel((0, 0))[0] for name in ("chosen", "rejected")) for row in rows] == [
        (1, 0),
        (4, 5),
    ]
    first = rows[0]
    assert first["chosen_noise"] == [7, 1]
    assert first["rejected_noise"] == [7, 0]
    assert (first["chosen_candidate"], first["rejected_candidate"], first["step"]) == (2, 1, 0)
    assert (first["judge"], first["rubric"], first["rationale"]) == ("a judge", "a hash", "it is nearer")
    card = (output / "README.md").read_text()
    assert "Preferred by: a judge." in card
    assert "a hash" in card
    assert "2 prompts without a decision" in card
    assert "2 prompts without a decision" in capsys.readouterr().out


def test_pairs_are_trained_on_as_they_are(tmp_path):
    output = tmp_path / "pairs"
    run = write_run(tmp_path / "run", {"a": [-0.1, 1.0]})
    main(["pairs", "from-run", run, "--output", str(output), "--test_share", "0"])
    for streaming in (False, True):
        rows = preference_rows(str(output), streaming=streaming)
        (row,) = rows if streaming else rows.with_format("arrow")[:].to_pylist()
        assert places([row]) == [(1, 0)]
        assert (row["chosen_noise"], row["judge"], row["rubric"]) == ([7, 1], "a judge", "a hash")


def test_of_several_candidates_ends_all_pairs_or_the_ranking(tmp_path):
    files = find_completions(write_run(tmp_path, {"a": [0.0, 1.0, -1.0, 0.0]}))
    left_out = Counter()
    assert places(pairs_of_completions(files, left_out)) == [(1, 2)]
    assert places(pairs_of_completions(files, left_out, "all")) == [(1, 0), (1, 3), (1, 2), (0, 2), (3, 2)]
    assert left_out == {"level pairs": 1}
    (row,) = pairs_of_completions(files, left_out, "ranking")
    assert row["label_rank"] == [2.0, 1.0, 4.0, 2.0]
    write_pairs([row], tmp_path / "pairs", PairsFacts("by hand"))
    (ranked,) = preference_rows(str(tmp_path / "pairs"), rankings=True).with_format("arrow")[:].to_pylist()
    assert ranked["scores"] == pytest.approx([0.5, 1.0, 0.0, 0.5])


def test_unclear_verdicts_are_left_out(tmp_path):
    files = find_completions(write_run(tmp_path, {"a": [0.0, 1.0]}, {"b": [0.0, 1.0]}))
    left_out = Counter()
    assert [row["prompt"] for row in pairs_of_completions(files, left_out, min_margin=0.45)] == ["b"]
    assert left_out == {"prompts with a margin under 0.45": 1}


def test_settings_may_stand_in_a_file_and_what_is_typed_wins(tmp_path, capsys):
    run = write_run(tmp_path / "run", {"a": [0.0, 1.0, -1.0]}, {"b": [0.0, 1.0, -1.0]})
    config = tmp_path / "pairs.yaml"
    config.write_text(f"output: {tmp_path / 'pairs'}\npairs: all\nmin_margin: 0.45\ntest_share: 0\n")
    assert main(["pairs", "from-run", run, "--config", str(config), "--min_margin", "0.2"]) == 0
    assert len(load_dataset(str(tmp_path / "pairs"), split="train")) == 6
    config.write_text("pairs: some\n")
    with pytest.raises(SystemExit, match="2"):
        main(["pairs", "from-run", run, "--config", str(config)])
    assert "pairs: 'some' has to be one of extremes, all, ranking" in capsys.readouterr().err


def test_prompts_that_are_held_out_are_in_no_pair_of_training(tmp_path):
    run = write_run(tmp_path / "run", *[{f"p{k}": [0.0, 1.0], f"q{k}": [1.0, 0.0]} for k in range(20)] * 2)
    output = tmp_path / "pairs"
    assert main(["pairs", "from-run", run, "--output", str(output), "--test_share", "0.3"]) == 0
    splits = load_dataset(str(output))
    train, test = set(splits["train"]["prompt"]), set(splits["test"]["prompt"])
    assert not train & test
    assert 3 <= len(test) <= 22


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: str(folder / "none"), "There is no folder"),
        (lambda folder: str(folder), "holds no tables"),
        (lambda folder: write_run(folder, {"a": [NAN, NAN]}), "There is not one pair to write: 1 prompts without"),
        (lambda folder: broken(folder), "cannot be read as parquet"),
    ],
)
def test_what_gives_no_pairs_is_told_in_a_sentence(tmp_path, capsys, make, message):
    with pytest.raises(SystemExit, match="2"):
        main(["pairs", "from-run", make(tmp_path), "--output", str(tmp_path / "pairs")])
    assert message in capsys.readouterr().err


def broken(folder):
    run = write_run(folder, {"a": [0.0, 1.0]})
    (folder / "completions" / "step_000000.parquet").write_bytes(b"PAR1" + json.dumps({}).encode())
    return run
