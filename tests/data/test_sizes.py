"""The size that a row asks for, and rows of one size together."""

import pytest
from datasets import Dataset

from arr_trl.data import batches_of_one_size, size_of_row, sizes_of_rows


def rows(**columns):
    count = len(next(iter(columns.values())))
    return Dataset.from_dict({"prompt": ["a circle"] * count, **columns})


@pytest.mark.parametrize("streaming", [False, True])
def test_sizes_are_named_by_the_first_row_that_asks_for_them(streaming):
    dataset = rows(height=[32, None, 32, 64], width=[64, None, 64, 32])
    if streaming:  # of which the first row alone is looked at
        dataset = dataset.to_iterable_dataset()
    found = sizes_of_rows(dataset, "train_dataset")
    first = {"Row 0 of train_dataset: height": 32, "Row 0 of train_dataset: width": 64}
    others = {"Row 3 of train_dataset: height": 64, "Row 3 of train_dataset: width": 32}
    assert found == (first if streaming else first | others)


def test_rows_without_sizes_ask_for_none():
    assert sizes_of_rows(rows(number=[1, 2]), "train_dataset") == sizes_of_rows(None, "eval_dataset") == {}
    assert size_of_row({"prompt": "a circle"}) is None


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"height": [32, 32], "width": [32, None]}, "height=32 and width=None"),
        ({"height": [None, 48]}, "height=48 and width=None"),
        ({"height": ["32", "32"], "width": ["32", "32"]}, "height='32' and width='32'"),
        ({"height": [32, 0], "width": [32, 32]}, "height=0 and width=32"),
    ],
)
def test_row_with_half_a_size_or_with_none_is_named(columns, said):
    with pytest.raises(ValueError, match=rf"Row [01] of train_dataset cannot be used: it has {said}\. .*rename"):
        sizes_of_rows(rows(**columns), "train_dataset")


def test_sizes_are_read_past_a_transform_of_the_dataset():
    dataset = rows(height=[32], width=[64]).with_transform(lambda batch: {"prompt": batch["prompt"]})
    assert list(sizes_of_rows(dataset, "train_dataset").values()) == [32, 64]


def test_batches_hold_one_size_each_and_every_row_once():
    sizes = [(32, 32), (32, 64), (32, 32), (64, 32), (32, 32), (32, 64)]
    assert batches_of_one_size(sizes, 2) == [[0, 2], [4], [1, 5], [3]]
    assert batches_of_one_size([(32, 32)] * 5, 2) == [[0, 1], [2, 3], [4]]
