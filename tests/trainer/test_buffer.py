"""What becomes of the rows of a rollout on their way to the micro-steps."""

from random import Random

import pytest
import torch

from arr_trl.trainer.buffer import split_buffers


nan = float("nan")


def buffer_of(advantages):
    """A row of two places for each pair of advantages, numbered in `row`; its conditioning has one row per prompt."""
    return {
        "row": torch.arange(len(advantages)),
        "advantages": torch.tensor(advantages),
        "conditioning.embeds": torch.zeros(3, 4),
    }


def split(buffer, num_batches, seed=0):
    """The micro-steps of a rollout whose pictures have one size."""
    steps = split_buffers([buffer], num_batches, num_batches, Random(seed))
    assert all(len(parts) == 1 for parts in steps)
    return [batch for (batch,) in steps]


def rows_of(batches):
    return [batch["row"].tolist() for batch in batches]


def test_rows_come_once_each_and_in_an_order_of_chance():
    buffer = buffer_of([[1.0, -0.1]] * 32)
    first, same, other = (rows_of(split(buffer, 4, seed)) for seed in (0, 0, 1))
    assert first == same != other
    assert [len(rows) for rows in first] == [8] * 4
    assert sorted(row for rows in first for row in rows) == list(range(32))
    assert all(rows != sorted(rows) for rows in first)  # `kl_fraction` takes the first rows of each for a random share


def test_masked_rows_are_left_out_and_those_with_one_empty_place_are_not():
    buffer = buffer_of([[nan, nan], [1.0, nan], [nan, nan], [1.0, -0.1]])
    (batch,) = split(buffer, 1)
    assert sorted(batch["row"].tolist()) == [1, 3]
    assert batch["conditioning.embeds"].shape == (3, 4)


@pytest.mark.parametrize("decided", [0, 1, 2])
def test_micro_step_that_no_row_is_left_for_trains_on_nothing(decided):
    advantages = [[1.0, -0.1]] * decided + [[nan, nan]] * (4 - decided)
    batches = split(buffer_of(advantages), 3)
    trained = [(~batch["advantages"].isnan()).any(1).sum().item() for batch in batches]
    assert sorted(trained) == [0] * (3 - decided) + [1] * decided
    assert all(len(batch["row"]) == 1 for batch in batches)  # every process runs as many forwards


def test_rows_of_one_size_come_together_within_an_optimizer_step_and_not_beyond():
    square, wide = (buffer_of([[1.0, -0.1]] * 8) for _ in range(2))
    wide["row"] += 100

    def sizes(of_update):
        steps = split_buffers([square, wide], 4, of_update, Random(0))
        rows = [row for parts in steps for part in parts for row in part["row"].tolist()]
        assert sorted(rows) == [*range(8), *range(100, 108)]
        assert [sum(len(part["row"]) for part in parts) for parts in steps] == [4] * 4
        return [[part["row"][0].item() >= 100 for part in parts] for parts in steps]

    assert sizes(4) == [[False], [False], [True], [True]]
    assert all(len(of_step) == 2 for of_step in sizes(1))  # an optimizer step of one size alone would be another one


def test_every_part_of_a_micro_step_has_the_conditioning_of_its_own_size():
    buffers = [buffer_of([[1.0, -0.1]] * 3) | {"conditioning.embeds": torch.full((3, 4), float(i))} for i in range(2)]
    ((first, second),) = split_buffers(buffers, 1, 1, Random(0))
    assert [part["conditioning.embeds"].unique().item() for part in (first, second)] == [0.0, 1.0]
