"""A trace draws its tokens with its own random numbers, from the distribution that it is given."""

import pytest
import torch

from arr_trl.judge_training.gcpo_trainer import trace_generators
from arr_trl.judge_training.own_draws import OwnDraws


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_a_row_draws_the_same_whatever_stands_beside_it():
    probabilities = torch.rand(3, 50).softmax(-1)
    with OwnDraws(generators(1, 2, 3)):
        together = [torch.multinomial(probabilities, num_samples=1) for _ in range(20)]
    with OwnDraws(generators(3)):
        alone = [torch.multinomial(probabilities[2:], 1) for _ in range(20)]
    assert together[0].shape == (3, 1)
    assert [draw[2].item() for draw in together] == [draw.item() for draw in alone]
    assert len({draw[2].item() for draw in together}) > 5  # and not one number again and again


def test_tokens_come_as_often_as_they_are_likely_and_never_where_they_cannot():
    probabilities = torch.tensor([[0.0, 0.5, 0.0, 0.3, 0.2, 0.0]]).expand(4000, -1)
    with OwnDraws(generators(*range(4000))):
        drawn = torch.multinomial(probabilities, num_samples=1).flatten()
    shares = drawn.bincount(minlength=6) / 4000
    assert shares.tolist() == pytest.approx([0, 0.5, 0, 0.3, 0.2, 0], abs=0.03)
    assert shares[[0, 2, 5]].tolist() == [0, 0, 0]


def test_outside_of_it_torch_draws():
    with OwnDraws([]):
        pass
    assert torch.multinomial(torch.tensor([0.0, 1.0]), 1).item() == 1


def test_a_trace_has_a_generator_of_its_own_which_no_place_in_a_batch_decides():
    rows = [{"pair": pair, "side": side} for pair in (4, 7) for side in ("chosen", "rejected") for _ in range(2)]

    def first(step, rows):
        return [torch.rand(1, generator=g).item() for g in trace_generators(3, step, rows)]

    drawn = first(5, rows)
    assert len(set(drawn)) == len(rows)
    assert first(5, rows[4:]) == drawn[4:]
    assert not set(first(6, rows)) & set(drawn)
