import json

import pytest
from PIL import Image

from arr_trl.evaluation.tifa import evaluate_tifa, read_pictures
from arr_trl.judges.stats import JudgeStats


class ToldScorer:
    """Probabilities by the red of a picture, whatever is asked."""

    def __init__(self, told):
        self.told = told

    def atoms(self, images, vqa_lists):
        return [self.told[image.getpixel((0, 0))[0]] for image in images], JudgeStats(calls=len(images))


def row(prompt, atom_count, skills):
    return {"prompt": prompt, "atom_count": atom_count, "skills": skills, "vqa_list": [["q", "Yes"]] * len(skills)}


ROWS = [row("a", 1, ["count", "object"]), row("b", 2, ["count"]), row("c", 2, ["object"]), row("d", 3, ["count"])]


def test_means_are_over_pictures_and_those_of_skills_over_questions():
    told = {1: [0.9, 0.4], 2: [0.5], 3: [None]}
    pictures = {name: Image.new("RGB", (8, 8), (i, 0, 0)) for i, name in enumerate("abc", start=1)}
    found = evaluate_tifa(ToldScorer(told), ROWS, pictures)
    assert found["soft_tifa_am"] == pytest.approx((0.65 + 0.5) / 2)
    assert found["soft_tifa_gm"] == pytest.approx((0.6 + 0.5) / 2)
    low, high = found["soft_tifa_gm_ci"]
    assert low <= 0.55 <= high
    assert (found["prompts"], found["missing"]) == (4, 2)  # no picture, no answer
    assert found["skills"] == {"count": pytest.approx(0.7), "object": 0.4}
    assert found["atom_counts"] == {"1": pytest.approx(0.6), "2": 0.5}


def test_pictures_of_other_prompts_are_told():
    with pytest.raises(ValueError, match="None of the prompts has a picture"):
        evaluate_tifa(ToldScorer({}), ROWS, {"x": None})


@pytest.mark.parametrize("text", ["[1]", '{"a": 1}', "{"])
def test_a_file_of_pictures_is_an_object_of_paths(tmp_path, text):
    path = tmp_path / "images.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="object of prompts"):
        read_pictures(path)
    path.write_text(json.dumps({"a": "a.png"}))
    assert read_pictures(path) == {"a": tmp_path / "a.png"}
