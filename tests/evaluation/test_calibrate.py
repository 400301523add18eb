"""A judge fitted to labels on one half of the prompts and measured on the other."""

import json
import math

import numpy as np
import pytest
from PIL import Image
from scripted_judge import place_of

from arr_trl.chat import ChatReply
from arr_trl.data.preferences import Preference
from arr_trl.evaluation.calibrate import Judged, calibrate, fit_temperature, halves, lead_at, measured
from arr_trl.judges import Calibration, EnsembleJudge, JudgeReward, JudgeRow, JudgeStats, RubricJudge, Verdict
from arr_trl.rubrics import Criterion, Rubric


IMAGES = tuple(Image.new("RGB", (8, 8), (number, 100, 200)) for number in (0, 1))
RUBRIC = Rubric(name="one", criteria=[Criterion(text="It is there.")])


class Margins(JudgeReward):
    """Says of each prompt's first image by how much it is ahead, in the order of the data and in the other."""

    model_names = ["margins"]

    def __init__(self, leads):
        super().__init__(None, 1)
        self.leads = leads

    def check(self):
        pass

    def _compare(self, rows):
        return [self._verdict(row) for row in rows], JudgeStats()

    def _verdict(self, row):
        swapped = place_of(row.images[0])
        lead = self.leads[row.prompt][swapped]
        if lead is None:
            return Verdict(failure="it said nothing.")
        shown = -lead if swapped else lead
        if shown == 0:
            return Verdict(ranks=(1.5, 1.5), margin=0.0)
        return Verdict(winner=int(shown < 0), ranks=(1, 2) if shown > 0 else (2, 1), margin=abs(shown))


def labelled(leads_and_labels):
    """A judge, and pairs of which each has a prompt of its own; labels are the winner, `None` for level."""
    leads = {f"prompt {i}": lead for i, (lead, _) in enumerate(leads_and_labels)}
    pairs = [Preference(f"prompt {i}", IMAGES, label) for i, (_, label) in enumerate(leads_and_labels)]
    return Margins(leads), pairs


def overconfident(count=1600, seed=0):
    """Labels that follow sigmoid(z), of a judge whose log-odds are 3 z, and who prefers the first image a little."""
    random = np.random.default_rng(seed)
    z = random.normal(0, 1.5, count)
    winners = (random.random(count) > 1 / (1 + np.exp(-z))).astype(int)
    leads = [(math.tanh((3 * x + 0.2) / 2), math.tanh((3 * x - 0.2) / 2)) for x in z]
    return [(lead, int(winner)) for lead, winner in zip(leads, winners, strict=True)]


def test_the_temperature_undoes_that_a_judge_is_surer_than_it_is_right():
    judge, pairs = labelled(overconfident())
    calibration = calibrate(judge, pairs)
    assert calibration.temperature == pytest.approx(3, rel=0.15)
    assert calibration.tie_margin == pytest.approx(0, abs=0.01)  # there are no labelled ties
    assert calibration.fitted_for == {"models": ["margins"], "rubrics": []}
    found = calibration.measured
    assert found["calibrated"]["log_loss"] < found["before"]["log_loss"] - 0.05
    assert found["pairs_fitted_on"] == found["pairs"] == 800


def test_the_band_of_ties_is_where_people_found_pairs_level():
    random = np.random.default_rng(1)
    leads = random.uniform(-1, 1, 1000)
    data = [((lead, lead), None if abs(lead) < 0.3 else int(lead < 0)) for lead in leads]
    calibration = calibrate(*labelled(data), tie_margin=0.05)
    # what is told at a temperature is told of leads at that temperature
    at = lead_at(Judged("", 0, (0.3, 0.3), True), calibration.temperature)
    assert calibration.tie_margin == pytest.approx(at, abs=0.02)
    found = calibration.measured
    assert found["calibrated"]["coverage"] == pytest.approx(0.7, abs=0.04)
    assert found["calibrated"]["kappa"] > 0.98
    assert found["before"]["kappa"] < 0.8


def test_a_pair_without_an_answer_is_not_covered_and_enters_no_other_measure():
    judged = [
        Judged("a", 1, (0.5, 0.7), True),
        Judged("b", -1, (0.5, 0.7), True),
        Judged("c", 1, None, True),
        Judged("d", 0, (0.01, 0.03), True),
        Judged("e", 0, (0.6, 0.6), True),
    ]
    found = measured(judged, 1.0, 0.05)
    assert found["coverage"] == 3 / 5
    assert found["accuracy"] == 1 / 2  # people found e level: it names a winner there, and none is right
    assert found["kappa"] == pytest.approx(3 / 11)  # 2 of 4 agree, 5/16 by chance
    assert found["log_loss"] == pytest.approx(-(math.log(0.8) + math.log(0.2)) / 2)


def test_no_prompt_is_on_both_sides_and_the_order_of_the_data_does_not_matter():
    judged = [Judged(f"prompt {i % 7}", 1, (0.1, 0.1), True) for i in range(30)]
    one, other = halves(judged)
    assert not {j.prompt for j in one} & {j.prompt for j in other}
    assert len({j.prompt for j in one}) == 4
    assert {j.prompt for j in halves(judged[::-1])[0]} == {j.prompt for j in one}
    with pytest.raises(ValueError, match="labelled pairs of 1 prompts"):
        halves(judged[:1])


def test_what_is_told_is_of_pairs_that_nothing_was_fitted_on():
    prompts = [f"prompt {i}" for i in range(12)]
    fitted_on, _ = halves([Judged(prompt, 1, (0.5, 0.5), True) for prompt in prompts])
    known = {j.prompt for j in fitted_on}
    lead = {
        prompt: 0.5 if prompt in known else -0.5 for prompt in prompts
    }  # right about these, wrong about the others
    judge = Margins({prompt: (lead[prompt], lead[prompt]) for prompt in prompts})
    calibration = calibrate(judge, [Preference(prompt, IMAGES, 0) for prompt in prompts])
    assert calibration.measured["calibrated"]["accuracy"] == 0
    assert calibration.temperature < 0.1  # as sure as can be


def test_the_judge_that_reads_the_file_decides_as_was_measured():
    """What is fitted to leads is what a choice between log-probabilities does with it."""
    data = overconfident(60)
    judge, pairs = labelled(data)
    temperature = fit_temperature([Judged("", 1 - 2 * label, lead, True) for lead, label in data])

    class Choosing:
        """Of each pair the log-probabilities that give it its lead."""

        model, settings = "margins", {}

        def check(self):
            pass

        def complete(self, requests, on_reply=None):
            return [self.reply(request) for request in requests]

        def reply(self, request):
            text = " ".join(part.get("text", "") for part in request.messages[0]["content"])
            shown = [part["image"] for part in request.messages[0]["content"] if part["type"] == "image"]
            swapped = place_of(shown[0])
            prompt = next(prompt for prompt in sorted(judge.leads, key=len, reverse=True) if prompt in text)
            lead = judge.leads[prompt][swapped] * (-1 if swapped else 1)
            return ChatReply(choice_logprobs={"1": math.log((1 + lead) / 2), "2": math.log((1 - lead) / 2)})

    calibration = Calibration(tie_margin=0.3, temperature=temperature)
    calibrated = RubricJudge(RUBRIC, Choosing(), mode="choice", calibration=calibration)
    for verdict, pair in zip(calibrated.compare([JudgeRow(p.prompt, p.images) for p in pairs]), pairs, strict=True):
        lead = lead_at(Judged("", 1, judge.leads[pair.prompt], True), temperature)
        assert verdict.margin == pytest.approx(abs(lead), abs=1e-9)
        assert verdict.winner == (None if abs(lead) <= 0.3 else int(lead < 0))


def test_a_judge_without_margins_cannot_be_fitted():
    judge, pairs = labelled([((None, 0.5), 0)] * 4)
    with pytest.raises(ValueError, match="gave no margin on any pair"):
        calibrate(judge, pairs)


def test_the_band_a_judge_has_is_not_fitted_on():
    judge = RubricJudge(RUBRIC, "m", base_url="http://localhost:1/v1", mode="choice", tie_margin=0.4)
    assert judge.untied().mode.tie_margin == 0
    assert judge.mode.tie_margin == 0.4
    ensemble = EnsembleJudge([judge, judge], rule="mean_margin", tie_margin=0.2).untied()
    assert (ensemble.tie_margin, ensemble.judges[1].mode.tie_margin) == (0, 0)


def test_a_calibration_is_read_as_it_was_written_and_anything_else_is_refused(tmp_path):
    calibration = Calibration(0.12, 2.5, {"models": ["m"], "rubrics": [RUBRIC.content_hash]}, {"pairs": 3})
    calibration.save(tmp_path / "calibration.json")
    assert Calibration.load(tmp_path / "calibration.json") == calibration
    for content, sentence in (
        ("{}", "is not a calibration"),
        ('{"tie_margin": 0.1, "tie": 1}', "is not a calibration"),
        ("[1", "is not valid JSON"),
        ('{"tie_margin": -1}', "tie_margin=-1 of a calibration"),
        ('{"tie_margin": 0.1, "temperature": 0}', "temperature=0 of a calibration"),
    ):
        (tmp_path / "wrong.json").write_text(content)
        with pytest.raises(ValueError, match=sentence):
            Calibration.load(tmp_path / "wrong.json")
    with pytest.raises(FileNotFoundError, match="There is no calibration at"):
        Calibration.load(tmp_path / "missing.json")


def test_a_calibration_of_another_judge_is_warned_of(tmp_path):
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps({"tie_margin": 0.2, "fitted_for": {"models": ["other"], "rubrics": ["abc"]}}))
    with pytest.warns(UserWarning, match="fitted for other with rubric abc, and the judge is m with rubric"):
        judge = RubricJudge(RUBRIC, "m", base_url="http://localhost:1/v1", mode="choice", calibration=path)
    assert judge.mode.tie_margin == 0.2
    with pytest.raises(ValueError, match="mode='ranks' has no margins"):
        RubricJudge(RUBRIC, "m", base_url="http://localhost:1/v1", calibration=path)
