"""What a set's own leaderboard would print, from a few rows in that set's columns, against judges_vectors.json."""

import json
from itertools import combinations
from pathlib import Path

import pytest
from datasets import Dataset
from PIL import Image
from scripted_judge import ScriptedJudge, picture, place_of

from arr_trl.data.preferences import benchmark_of, load_preferences
from arr_trl.evaluation.judge_eval import evaluate_judge


VECTORS = json.loads(Path(__file__).with_name("judges_vectors.json").read_text())


def parquet(path, rows):
    Dataset.from_list(rows).to_parquet(path)
    return path


def figures(name, answers, *, limit=None):
    """The official figures of a judge with these answers, and the judge."""
    judge, benchmark = ScriptedJudge(answers), benchmark_of(name)
    pairs = load_preferences(name, ties=benchmark.ties)
    summary = evaluate_judge(judge, pairs, limit).summary(official=benchmark.official)
    assert not summary["skipped"]
    return {figure: of["value"] for figure, of in summary["official"].items()}, judge, summary


@pytest.mark.parametrize("name", ["mmrb2-t2i", "mmrb2-edit"])
def test_mmrb2_counts_the_answers(tmp_path, name):
    case = VECTORS["both_orders"]
    rows, answers = [], {}
    for i, right in enumerate(zip(case["forward_right_null_is_no_answer"], case["reverse_right"], strict=True)):
        better = i % 2
        rows.append({"prompt_text": f"prompt {i}", "prompt_images": [picture(9)], "prompt_source": "x"})
        rows[-1] |= {"response_a_images": [picture(0)], "response_b_images": [picture(1)], "chosen": "AB"[better]}
        answers[f"prompt {i}"] = [None if r is None else better if r else 1 - better for r in right]
    found, _, summary = figures(f"{name}:{parquet(tmp_path / 'pairs.parquet', rows)}", answers)
    assert found == {"MMRB2 accuracy": pytest.approx(case["mmrb2_accuracy_over_the_answered"])}
    assert summary["accuracy_mean"] == case["accuracy_mean_no_answer_is_wrong"]


def test_mmrb2_edit_has_all_its_sources_and_no_marks(tmp_path):
    row = {"prompt_text": "<image_1>\n<image_2>\nPut the cat of <image_1> into the second.", "chosen": "A"}
    row |= {"response_a_images": [picture(0)], "response_b_images": [picture(1)], "prompt_source": "x"}
    row |= {"prompt_images": [picture(7), picture(8)]}
    path = parquet(tmp_path / "edit.parquet", [row])
    prompt = "Put the cat of image 1 into the second."
    _, judge, _ = figures(f"mmrb2-edit:{path}", {prompt: (0, 0)})
    assert [place_of(image) for image in judge.rows[0].sources] == [7, 8]


def test_editreward_bench_wants_every_comparison_of_a_group(tmp_path):
    case = VECTORS["editreward_bench_groups"]
    rows, answers = [], {}
    for kind, letters in (("2pair", "AB"), ("3pair", "ABC"), ("4pair", "ABCD")):
        for group, right in enumerate(case["comparisons_right"][kind]):
            for number, (one, other) in enumerate(combinations(letters, 2)):
                prompt = f"{kind} {group} {number}"
                row = {"id": f"{kind}{group}_{number}", "dataset": kind, "instruction": prompt}
                row |= {"source_image": picture(9), "candidate_1": picture(0), "candidate_2": picture(1)}
                level = kind == "2pair" and group == 2
                row |= {"ranking": f"{one}=B" if level else f"{other}>{one}"}
                row |= {"comparison_type": None if kind == "2pair" else f"{one}vs{other}"}
                rows.append(row)
                label = "tie" if level else 1
                # the other order is wrong throughout: the official code never asks in it
                answers[prompt] = (label if right[number] else 0, 0)
    found, _, summary = figures(f"editreward-bench:{parquet(tmp_path / 'bench.parquet', rows)}", answers)
    expected = {f"EditReward-Bench {kind}": pytest.approx(value) for kind, value in case["accuracy"].items()}
    assert found == expected
    pairs = {kind: summary["categories"][kind]["accuracy_forward"] for kind in ("3pair", "4pair")}
    assert pairs == {kind: pytest.approx(case["pair_accuracy_instead"][kind]) for kind in pairs}


def test_editreward_bench_leaves_out_a_group_that_the_limit_cuts(tmp_path):
    rows = [
        {"id": f"g_{i}", "dataset": "3pair", "instruction": f"p{i}", "source_image": picture(9)}
        | {"candidate_1": picture(0), "candidate_2": picture(1), "ranking": ranking, "comparison_type": compared}
        for i, (ranking, compared) in enumerate((("A>B", "AvsB"), ("A>C", "AvsC"), ("B>C", "BvsC")))
    ]
    path = parquet(tmp_path / "bench.parquet", rows)
    found, _, summary = figures(f"editreward-bench:{path}", {f"p{i}": (0, 0) for i in range(3)}, limit=2)
    assert found["EditReward-Bench 3pair"] is None
    assert summary["groups_left_out"] == 1


@pytest.mark.parametrize("task", ["t2i", "edit"])
def test_genai_bench_takes_both_kinds_of_tie(tmp_path, task):
    votes = ["leftvote", "rightvote", "tievote", "bothbad_vote", "tievote"]
    if task == "t2i":
        rows = [{"prompt": f"p{i}", "left_image": picture(0), "right_image": picture(1)} for i in range(5)]
    else:
        rows = [
            {"instruct_prompt": f"p{i}", "source_prompt": "s", "target_prompt": "t", "source_image": picture(9)}
            | {"left_output_image": picture(0), "right_output_image": picture(1)}
            for i in range(5)
        ]
    rows = [row | {"vote_type": vote} for row, vote in zip(rows, votes, strict=True)]
    answers = {"p0": (0, 0), "p1": (0, 1), "p2": ("tie", 0), "p3": ("tie", "tie"), "p4": (1, "tie")}
    found, judge, summary = figures(f"genai-bench-{task}:{parquet(tmp_path / 'rows.parquet', rows)}", answers)
    assert found == {"GenAI-Bench accuracy": 0.6}
    assert summary["pairs"] == 5
    assert len(judge.rows[0].sources) == (task == "edit")


def test_editscore_bench_is_the_mean_over_its_tasks_in_each_dimension(tmp_path):
    rows, answers = [], {}
    for dimension, wrong in (("prompt_following", 1), ("consistency", 2), ("overall", 0)):
        for i, kind in enumerate(["color_alter"] * 3 + ["style_change"]):
            prompt = f"{dimension} {i}"
            rows.append({"key": ["a", "b"], "instruction": prompt, "input_image": picture(9), "task_type": kind})
            rows[-1] |= {"output_images": [picture(0), picture(1)], "dimension": dimension}
            answers[prompt] = (1, 1) if i < wrong else (0, 0)
    path = parquet(tmp_path / "bench.parquet", rows)
    expected = {
        "editscore-bench": ("EditReward-Bench overall", 1.0),
        "editscore-bench-prompt-following": ("EditReward-Bench prompt_following", (2 / 3 + 1) / 2),
        "editscore-bench-consistency": ("EditReward-Bench consistency", (1 / 3 + 1) / 2),
    }
    for name, (figure, value) in expected.items():
        assert figures(f"{name}:{path}", answers)[0] == {figure: pytest.approx(value)}


@pytest.mark.parametrize("name", ["hpdv3", "editscore-bench"])
def test_a_set_whose_winner_stands_first_does_not_reward_who_always_says_first(tmp_path, name):
    if name == "hpdv3":
        for i in range(2):
            Image.new("RGB", (8, 8), (i, 100, 200)).save(tmp_path / f"{i}.png")
        path = tmp_path / "test.json"
        path.write_text(
            json.dumps([{"prompt": "p", "path1": "0.png", "path2": "1.png", "model1": "b", "model2": "a"}])
        )
    else:
        row = {"instruction": "p", "input_image": picture(9), "task_type": "x", "dimension": "overall"}
        path = parquet(tmp_path / "bench.parquet", [row | {"output_images": [picture(0), picture(1)]}])
    found, _, _ = figures(f"{name}:{path}", {"p": (0, 1)})
    assert list(found.values()) == [0.5]


def test_vcreward_bench_leaves_out_who_says_nothing(tmp_path):
    rows = []
    for i, winner in enumerate(["Image A", "Image B", "Image B"]):
        for folder, place in (("source", 9), ("edited/image_A", 0), ("edited/image_B", 1)):
            (tmp_path / "images" / folder).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (place, 100, 200)).save(tmp_path / "images" / folder / f"{i}.png")
        edited = [f"./images/edited/image_{letter}/{i}.png" for letter in "AB"]
        rows.append({"key": f"k{i}", "instruction": f"p{i}", "source_image": f"./images/source/{i}.png"})
        rows[-1] |= {"edited_images": edited, "winner": winner, "task": "color_alteration"}
    path = tmp_path / "metadata.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found, _, _ = figures(f"vcreward-bench:{path}", {"p0": (0, 0), "p1": ("tie", 1), "p2": (None, 1)})
    assert found == {"VCReward-Bench overall": 0.5}


def consistency_rank(folder, orders):
    """The files of ConsistencyRank for some true orders of three pictures."""
    with (folder / "consistency_full_rank.jsonl").open("w") as ranks, (folder / "prompt_data.jsonl").open("w") as data:
        for name, order in orders.items():
            pictures = folder / "images" / name
            pictures.mkdir(parents=True)
            for place, file in ((9, "ref.png"), *((i, f"{i}.png") for i in range(3))):
                Image.new("RGB", (8, 8), (place, 100, 200)).save(pictures / file)
            row = {"folder": name, "ref_image": "ref.png", "comp_images": [f"{i}.png" for i in range(3)]}
            ranks.write(json.dumps(row | {"rank_images": [f"{i}.png" for i in order]}) + "\n")
            data.write(json.dumps({"idx": name, "prompt": f"p {name}", "criteria": "style"}) + "\n")
    return folder / "consistency_full_rank.jsonl"


def says(order, prompt):
    """Answers of a judge that has this order."""
    better = {(i, j): i if order.index(i) < order.index(j) else j for i, j in combinations(range(3), 2)}
    return {(prompt, *pair): (winner, winner) for pair, winner in better.items()}


def test_consistencyrank_ranks_and_tells_both_correlations(tmp_path):
    case = VECTORS["rank_metrics_of_orders"]
    path = consistency_rank(tmp_path, {"a": case["order_true"]})
    found, judge, summary = figures(f"consistencyrank:{path}", says(case["order_found"], "p a"))
    assert summary["pairs"] == 3
    assert place_of(judge.rows[0].sources[0]) == 9
    assert found["accuracy"] == pytest.approx(case["position_accuracy"])
    assert found["kendalltau"] == pytest.approx(case["published_code_kendall_of_the_two_order_lists"])
    assert summary["kendall"] == pytest.approx(case["kendall"])
    assert summary["spearman"] == pytest.approx(case["spearman"])
    assert found["footrule_distance"] == case["footrule_distance"]
    assert (found["top1_accuracy"], found["bottom1_accuracy"]) == (case["top1"], case["bottom1"])


def test_a_ranking_without_one_verdict_is_left_out(tmp_path):
    path = consistency_rank(tmp_path, {"a": [0, 1, 2], "b": [0, 1, 2]})
    answers = says([0, 1, 2], "p a") | says([0, 1, 2], "p b") | {("p b", 0, 2): (0, None)}
    _, _, summary = figures(f"consistencyrank:{path}", answers)
    assert summary["kendall"] == 1
    assert summary["rankings_left_out"] == 1
