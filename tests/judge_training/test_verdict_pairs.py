"""A small judge learns what a large one said: verdicts of a store as labels, and its words as reasons."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from datasets import Dataset

from arr_trl import Rubric, RubricJudge
from arr_trl.chat import ChatReply
from arr_trl.cli.main import main
from arr_trl.data import load_image
from arr_trl.data.preference_rows import preference_rows
from arr_trl.data.preferences import Preference
from arr_trl.evaluation.judge_eval import evaluate_judge
from arr_trl.judge_training.verdict_pairs import StoredVerdicts, taught_preferences, taught_rows
from arr_trl.judges import JudgeRow, VerdictStore
from arr_trl.rubrics import Criterion
from arr_trl.tiny_scenes import Caption, TinyScenesJudge, pairs, preferences, render


ASKED = "a red circle left of a blue square"
DRAWN = (ASKED, "a green circle left of a blue square", "a red circle right of a blue square")


def rubric(name="tiny_scenes"):
    return Rubric.load(name)


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    return [render(Caption.parse(drawn), rng) for drawn in DRAWN]


def judged(path, rows, **options):
    """A store with what the embedded judge says of some rows."""
    judge = RubricJudge(rubric(), TinyScenesJudge(**options.pop("faults", {})), store=path, **options)
    judge.compare(rows)
    return VerdictStore(path)


def rows_of(*sides, prompt=ASKED, **columns):
    return Dataset.from_list([{"prompt": prompt, "chosen": a, "rejected": b, **columns} for a, b in sides])


def test_labels_are_turned_to_what_the_judge_said_and_have_its_words(tmp_path, pictures):
    good, bad, worse = pictures
    store = judged(tmp_path / "s.sqlite", [JudgeRow(ASKED, (good, bad)), JudgeRow(ASKED, (good, worse))])
    labelled = rows_of((bad, good), (good, worse), rationale="nobody knows", chosen_noise=[1, 2])
    taught, teacher = taught_rows(labelled, StoredVerdicts(store))
    assert [row["rationale"] for row in taught] == [
        "The images differ in colors, shapes, relation.", "The images differ in relation.",
    ]  # fmt: skip
    assert "chosen_noise" not in taught.column_names  # the sides may have changed places
    shown = [load_image(row["chosen"]) for row in taught]
    assert [np.array_equal(image, good) for image in shown] == [True, True]
    assert (teacher.model, teacher.pairs, teacher.agreement) == ("tiny_scenes", 2, 0.5)
    assert teacher.questions == 2  # either order
    assert teacher.prompt_tokens > 100


class PrefersTheFirst:
    """A chat model to which the first of two pictures is the better one, whatever is shown beside them."""

    model, settings = "first", {}

    def check(self):
        pass

    def complete(self, requests, on_reply=None):
        said = {"criteria": [{"criterion": 1, "ranks": [1, 2]}], "reason": "first", "ranks": [1, 2]}
        return [ChatReply(text=json.dumps(said)) for _ in requests]


def test_verdicts_about_masked_edits_are_found(tmp_path, pictures):
    source, good, bad = pictures
    edits = Rubric(name="r", criteria=[Criterion(text="It is as asked.")], task="image-editing")
    judge = RubricJudge(edits, PrefersTheFirst(), store=tmp_path / "s.sqlite", order="fixed")
    judge.compare([JudgeRow(ASKED, (good, bad), source, columns={"mask_image": source})])
    winner, words, found = StoredVerdicts(judge.store).decided(ASKED, (bad, good), [source])
    assert (winner, words, len(found)) == (1, "first", 1)


@pytest.mark.parametrize("mode", ["ranks", "choice"])
def test_what_was_judged_among_others_or_in_one_token_decides_too(tmp_path, pictures, mode):
    rows = [JudgeRow(ASKED, tuple(pictures))] if mode == "ranks" else [JudgeRow(ASKED, tuple(pictures[1:]))]
    store = judged(tmp_path / "s.sqlite", rows, mode=mode, order="fixed")
    taught, teacher = taught_rows(rows_of((pictures[1], pictures[2])), StoredVerdicts(store))
    assert teacher.agreement == 0.0  # the wrong color costs three criteria, the wrong relation one
    assert bool(taught[0]["rationale"]) == (mode == "ranks")


def test_what_has_no_verdict_is_left_out_by_its_reason(tmp_path, pictures):
    good, bad, worse = pictures
    biased = judged(tmp_path / "s.sqlite", [JudgeRow(ASKED, (good, bad))], faults={"position_bias": 1.0})
    judged(tmp_path / "s.sqlite", [JudgeRow(ASKED, (good, worse))], faults={"seed": 1})
    taught, teacher = taught_rows(rows_of((good, bad), (good, worse), (bad, worse)), StoredVerdicts(biased))
    assert len(taught) == 1
    left_out = {"level, or another way in another order": 1, "never judged": 1}
    assert json.loads(json.dumps(asdict(teacher)))["left_out"] == left_out  # as judge_eval.json has it
    with pytest.raises(ValueError, match="decided none of the pairs \\(1 never judged\\)"):
        taught_rows(rows_of((good, bad), prompt="a red square left of a blue square"), StoredVerdicts(biased))


def test_verdicts_of_two_judges_are_not_mixed(tmp_path, pictures):
    store = judged(tmp_path / "s.sqlite", [JudgeRow(ASKED, tuple(pictures[:2]))])
    other = RubricJudge(rubric().model_copy(update={"criteria": rubric().criteria[:1], "name": "one"}), TinyScenesJudge(),
                        store=tmp_path / "s.sqlite")  # fmt: skip
    other.compare([JudgeRow(ASKED, tuple(pictures[:2]))])
    with pytest.raises(ValueError, match=r"those of 2 judges .*tiny_scenes under tiny-scenes, tiny_scenes under one"):
        StoredVerdicts(store)
    with pytest.raises(ValueError, match="no answers in ranks or choices"):
        StoredVerdicts(judged(tmp_path / "p.sqlite", [JudgeRow(ASKED, tuple(pictures[:2]))], mode="pointwise"))


def test_pairs_of_an_evaluation_are_those_that_its_store_is_about(tmp_path):
    """What was drawn for `judge eval` and what is stored as a dataset have the same pixels."""
    held_out = preferences(6, split="test", in_turn=True)
    judge = RubricJudge(rubric(), TinyScenesJudge(noise=0.5), store=tmp_path / "s.sqlite", order="fixed")
    outcomes = evaluate_judge(judge, held_out).outcomes
    verdicts = StoredVerdicts(judge.store)
    taught, teacher = taught_preferences([*held_out, "Row 7 has no prompt."], verdicts)
    assert taught[-1] == "Row 7 has no prompt."
    assert 0 < teacher.pairs < len(outcomes)
    assert len(taught) == teacher.pairs + 1
    assert all(isinstance(pair, Preference) for pair in taught[:-1])
    rows, same = taught_rows(pairs("test[:6]"), verdicts)
    assert (len(rows), same.agreement) == (teacher.pairs, teacher.agreement)


def test_what_a_run_judged_and_kept_teaches_with_its_own_store(tmp_path):
    run, kept = tmp_path / "run", tmp_path / "pairs"
    briefly = [
        "--max_steps", "1", "--per_device_train_batch_size", "16", "--steps_per_generation", "1", "--num_inference_steps", "4",
        "--log_completions", "true", "--logging_steps", "1", "--save_strategy", "no", "--eval_dataset_split", "test[:2]",
    ]  # fmt: skip
    assert main(["nft", "--config", "tiny_scenes_nft", "--output_dir", str(run), *briefly]) == 0
    assert main(["pairs", "from-run", str(run), "--output", str(kept), "--test_share", "0"]) == 0
    taught, teacher = taught_rows(preference_rows(str(kept)), StoredVerdicts(VerdictStore(run / "judge.sqlite")))
    assert len(taught) > 0
    assert teacher.agreement == 1.0
    assert not teacher.left_out
    assert all(taught["rationale"])
