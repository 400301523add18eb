"""Fixed pairs that judges are asked about again: what they say of them has to stay."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from test_diffusion_nft_trainer import build

from arr_trl.chat import ChatReply
from arr_trl.judges import (
    EnsembleJudge,
    JudgeFailureError,
    JudgeReward,
    JudgeRow,
    JudgeStats,
    PresetJudge,
    RubricJudge,
    Verdict,
)
from arr_trl.rubrics import Criterion, Rubric
from arr_trl.trainer.canary import Canary, CanaryError


RUBRIC = Rubric(name="one", criteria=[Criterion(text="It is there.")])


class Choosing:
    """Gives the first image shown this probability of being better, whatever it is."""

    model, settings = "m", {}

    def __init__(self, probability=0.6):
        self.probability = probability
        self.requests = []

    def check(self):
        pass

    def complete(self, requests, on_reply=None):
        self.requests += requests
        logprobs = {"1": math.log(self.probability), "2": math.log(1 - self.probability)}
        return [ChatReply(choice_logprobs=logprobs) for _ in requests]


def rows(*levels, source=None):
    return [
        JudgeRow(f"prompt {i}", tuple(Image.new("RGB", (8, 8), (level, j, 0)) for j in range(3)), source)
        for i, level in enumerate(levels)
    ]


@pytest.fixture
def model():
    return Choosing()


@pytest.fixture
def canary(tmp_path, model):
    judge = RubricJudge(RUBRIC, model, mode="choice", order="fixed", tie_margin=0.5, temperature=0.7)
    return Canary(tmp_path / "canary", {"judge": judge}, pairs=2, tolerance=0.02, every=10)


def test_scores_that_stay_are_no_finding_and_pairs_are_those_of_the_start(canary, model):
    assert canary.ask(rows(1, 2, 3), 0) is None
    assert len(model.requests) == 2  # of three rows the first two, of three candidates the first two
    model.probability = 0.605
    assert canary.ask(rows(7, 8, 9), 10) == pytest.approx(0.01)
    # asked, though the judge has answered before, of the same pictures and without chance
    assert len(model.requests) == 4
    first, again = (model.requests[i].messages[0]["content"] for i in (0, 2))
    shown = [[part["image"].getpixel((0, 0)) for part in c if part["type"] == "image"] for c in (first, again)]
    assert shown == [[(1, 0, 0), (1, 1, 0)]] * 2
    assert {request.temperature for request in model.requests} == {0.0}


def test_scores_that_move_stop_the_run_with_one_sentence(canary, model):
    canary.ask(rows(1, 2), 0)
    model.probability = 0.62  # within the judge's own band of ties
    with pytest.raises(CanaryError) as stopped:
        canary.ask(rows(1, 2), 30)
    assert str(stopped.value).startswith(
        "The judge judge gives 0.240 at step 30 to what it gave 0.200 at step 0, which is more apart than "
        "canary_tolerance=0.02: whatever answers is not what it was."
    )
    assert isinstance(stopped.value, JudgeFailureError)


def test_another_process_goes_on_with_what_the_first_has_seen(canary, model, tmp_path):
    source = [Image.new("RGB", (8, 8), "blue"), Image.new("RGB", (8, 8), "red")]
    canary.ask(rows(1, 2, source=source), 5)
    again = Canary(tmp_path / "canary", canary.judges, pairs=2, tolerance=0.02, every=10)
    model.probability = 0.9
    with pytest.raises(CanaryError, match=r"at step 40 to what it gave 0\.200 at step 5"):
        again.ask(rows(3, 4), 40)
    images = [p["image"].getpixel((0, 0)) for p in model.requests[-1].messages[0]["content"] if p["type"] == "image"]
    assert images == [(0, 0, 255), (255, 0, 0), (2, 0, 0), (2, 1, 0)]


def test_columns_that_a_preset_reads_are_kept_with_the_pairs(tmp_path):
    model = Choosing()
    model.complete = lambda requests, on_reply=None: (
        model.requests.extend(requests) or [ChatReply(choice_logprobs={"Yes": math.log(0.5)}) for _ in requests]
    )
    judges = {"judge": PresetJudge("reference-yes", model)}
    columns = {"reference_image": Image.new("RGB", (8, 8), "blue"), "requirement": "none", "other": object()}
    asked = [replace(row, columns=columns) for row in rows(1)]
    Canary(tmp_path / "canary", judges, pairs=1, tolerance=0.02, every=1).ask(asked, 0)
    first = len(model.requests)
    assert Canary(tmp_path / "canary", judges, pairs=1, tolerance=0.02, every=1).ask(rows(2), 1) == 0
    shown = [[part["image"].tobytes() for part in request.messages[0]["content"] if part["type"] == "image"]
             for request in model.requests]  # fmt: skip
    assert shown[first:] == shown[:first]
    texts = [part["text"] for part in model.requests[-1].messages[0]["content"] if part["type"] == "text"]
    assert "none" in "".join(texts)


def test_masks_are_kept_with_their_sources(tmp_path, model):
    judge = {"judge": RubricJudge(RUBRIC, model, mode="choice", order="fixed")}
    white = Image.new("L", (8, 8), 255)
    (asked,) = rows(1, source=Image.new("RGB", (8, 8), "gray"))
    Canary(tmp_path / "canary", judge, 1, 0.02, 1).ask([replace(asked, columns={"mask_image": white})], 0)
    assert Canary(tmp_path / "canary", judge, 1, 0.02, 1).ask(rows(2), 1) == 0
    first, again = (
        [part["image"].tobytes() for part in request.messages[0]["content"] if part["type"] == "image"]
        for request in model.requests
    )
    assert len(first) == 4
    assert first == again


def test_a_missing_answer_is_compared_with_nothing(canary, model, tmp_path):
    class Silent(JudgeReward):
        answers = False

        def check(self):
            pass

        def _compare(self, rows):
            verdict = Verdict(winner=0, ranks=(1, 2), scores=(30.0, 20.0)) if self.answers else Verdict(failure="gone")
            return [verdict for _ in rows], JudgeStats()

    silent = Silent(None, 1)
    of_silent = Canary(tmp_path / "silent", {"silent": silent}, pairs=2, tolerance=0.02, every=10)
    assert of_silent.ask(rows(1), 0) is None
    silent.answers = True
    assert of_silent.ask(rows(1), 10) is None


def test_scores_above_one_move_in_parts_of_themselves(tmp_path):
    class Scored(JudgeReward):
        score = 20.0

        def check(self):
            pass

        def _compare(self, rows):
            return [Verdict(winner=0, ranks=(1, 2), scores=(self.score, 10.0)) for _ in rows], JudgeStats()

    judge = Scored(None, 1)
    canary = Canary(tmp_path / "canary", {"scored": judge}, pairs=1, tolerance=0.02, every=1)
    canary.ask(rows(1), 0)
    judge.score = 20.3
    assert canary.ask(rows(1), 1) == pytest.approx(0.015)
    judge.score = 21
    with pytest.raises(CanaryError, match=r"gives 21.000 at step 2 to what it gave 20.000"):
        canary.ask(rows(1), 2)


def test_it_is_asked_at_every_start_and_then_every_so_many_steps(canary):
    assert [step for step in range(3, 30) if canary.is_due(step)] == [3, 13, 23]
    canary.every = None
    assert not canary.is_due(100)


def test_members_of_an_ensemble_are_asked_anew(model):
    one, other = (
        RubricJudge(rubric, model, mode="choice")
        for rubric in (RUBRIC, RUBRIC.model_copy(update={"criteria": 2 * RUBRIC.criteria}))
    )
    ensemble = EnsembleJudge([one, other])
    pair = [JudgeRow("a", rows(1)[0].images[:2])]
    for _ in range(2):
        ensemble.compare(pair)
    assert len(model.requests) == 4
    ensemble.probe().compare(pair)
    assert len(model.requests) == 8
    ensemble.compare(pair)
    assert len(model.requests) == 8  # its own answers are kept


def test_a_run_whose_judge_changes_stops_and_keeps_what_it_trained(flux_pipeline, tmp_path):
    class Fading(Choosing):
        def complete(self, requests, on_reply=None):
            self.probability = 0.6 if len(self.requests) < 10 else 0.8
            return super().complete(requests)

    model = Fading()
    judge = RubricJudge(RUBRIC, model, mode="choice", order="fixed")
    run = {"max_steps": 40, "canary_every": 1, "canary_pairs": 1, "logging_steps": 1, "num_generations": 2}
    trainer = build(flux_pipeline, tmp_path, judge, **run)
    with pytest.raises(CanaryError, match="The judge rubric_judge gives"):
        trainer.train()
    assert 1 <= trainer.state.global_step < 40
    assert trainer.last_checkpoint is not None
    moved = [entry["judge/canary"] for entry in trainer.state.log_history if "judge/canary" in entry]
    assert moved
    assert max(moved) == pytest.approx(0)
    assert not any("judge/questions_so_far" in entry for entry in trainer.state.log_history)  # not asked for
    assert (Path(trainer.args.output_dir) / "canary" / "canary.json").is_file()
