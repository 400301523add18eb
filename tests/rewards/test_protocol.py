import numpy as np
import pytest
import torch

from arr_trl.rewards import met_criteria, read_rewards, reward_list
from arr_trl.trainer import RewardError


@pytest.mark.parametrize(
    "output",
    [
        [1, None, 0.5],
        (np.float32(1), None, torch.tensor(0.5)),
        torch.tensor([1.0, torch.nan, 0.5]),
        np.array([1.0, np.nan, 0.5]),
    ],
)
def test_numbers_of_any_kind_are_rewards_and_none_is_missing(output):
    assert torch.equal(read_rewards(output, "f", 3).nan_to_num(-1), torch.tensor([1.0, -1.0, 0.5]))
    assert reward_list(output, "f", 3) == [1.0, None, 0.5]


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        (None, "The reward function 'f' returned None for 2 images; it has to return one number per image"),
        ("good", "returned 'good' for 2 images"),
        ({"a": 1.0, "b": 2.0}, r"returned {'a': 1.0, 'b': 2.0} for 2 images"),
        (3.0, "returned 3.0 for 2 images"),
        ([1.0], "returned 1 rewards for 2 images"),
        (["good", "bad"], "returned 'good' for image 0"),
        ([1.0, "2"], "returned '2' for image 1"),
        ([[1.0], [2.0]], r"returned \[1.0\] for image 0"),
        (torch.zeros(2, 1), r"returned \[0.0\] for image 0"),
        ([1.0, list(range(99))], "returned a list for image 1"),
    ],
)
def test_anything_else_is_told_with_the_name_of_the_function(output, sentence):
    with pytest.raises(RewardError, match=sentence):
        read_rewards(output, "f", 2)


def test_criteria_of_all_functions_are_found_in_each_picture():
    def sharp(prompts, completions, **columns):
        return [{"sharp": image == 1} for image in completions]

    async def right(prompts, completions, style, **columns):
        triples = zip(prompts, completions, style, strict=True)
        return [{"right": prompt == image, "oil": s == "oil"} for prompt, image, s in triples]

    rows = [{"prompt": 1, "style": "oil"}, {"prompt": 1, "style": "ink"}]
    assert met_criteria([sharp, right], rows, [1, 2]) == [
        {"sharp": True, "right": True, "oil": True},
        {"sharp": False, "right": False, "oil": False},
    ]


@pytest.mark.parametrize("truth", [np.bool_(True), torch.tensor(True), 1], ids=["numpy", "torch", "int"])
def test_truths_of_other_libraries_are_true_or_false_and_can_be_written_as_json(truth):
    (found,) = met_criteria([lambda prompts, completions: [{"sharp": truth}]], [{"prompt": 1}], [1])
    assert found["sharp"] is True
