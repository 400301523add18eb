"""What is measured of a judge that was asked about labelled pairs in both orders, each with its interval."""

import itertools
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..intervals import ratio_interval, resampled_sums
from ..judges.aggregate import mean_ranks
from .agreement import fit_tie_threshold, kappa_of_counts, ranking_measures, within_band


Answer = int | Literal["tie"] | None
Measured = dict[str, float | list[float] | int | None]

_RESAMPLES = 1000


@dataclass(frozen=True)
class JudgeOutcome:
    """
    What a judge said of one pair: `forward` in the order of the data, `reversed` in the other, each `True` when it
    named the labelled winner, `False` when the loser, `None` for a tie or no verdict, and where nobody is the winner;
    how many of the two answers named the image shown first, were decisive, were ties, were no verdict. The pair's
    category, its labelled winner (`None`: level), both `answers` (the image of the pair that was named, `"tie"`, `None` for
    no verdict), by how much it puts the first image ahead, over both orders, where it has a margin, and what the comparison
    belongs to.
    """

    forward: bool | None
    reversed: bool | None
    first: int
    decisive: int
    ties: int
    invalid: int
    category: str | None = None
    label: int | None = 0
    answers: tuple[Answer, ...] = ()
    lead: float | None = None
    group: str | None = None
    group_size: int | None = None
    items: tuple[int, int] | None = None

    @property
    def right_in_both(self) -> bool:
        if self.label is None:
            return self.answers == ("tie", "tie")
        return self.forward is True and self.reversed is True

    @property
    def right_in_order(self) -> bool:
        """Whether the answer in the order of the data is the label, level pairs included."""
        return bool(self.answers) and self.answers[0] == ("tie" if self.label is None else self.label)

    @property
    def same_in_both(self) -> bool:
        return self.answers[0] == self.answers[1] if self.answers else self.forward == self.reversed


# What is measured: for one pair, what it adds to the numerator and to the denominator. A pair that does not count adds to
# neither. Who is the better of two is asked of pairs with a labelled winner.
_SHARES: dict[str, Callable[[JudgeOutcome], tuple[float, float]]] = {
    "accuracy_forward": lambda o: (o.forward is True, o.label is not None),
    "accuracy_reversed": lambda o: (o.reversed is True, o.label is not None),
    "accuracy_consistent": lambda o: (o.label is not None and o.right_in_both, o.label is not None),
    "accuracy_mean": lambda o: ((o.forward is True) + (o.reversed is True), 2 * (o.label is not None)),
    "accuracy_answered": lambda o: (
        (o.forward is True) + (o.reversed is True),
        (2 - o.invalid) * (o.label is not None),
    ),
    "order_consistency": lambda o: (o.same_in_both and o.invalid == 0, o.invalid == 0),
    "position_bias": lambda o: (o.first, o.decisive),
    "tie_rate": lambda o: (o.ties, 2),
    "invalid_rate": lambda o: (o.invalid, 2),
}
_RANKINGS = (
    "kendall", "spearman", "kendall_official", "spearman_official", "position_accuracy", "footrule_distance", "top1",
    "bottom1",
)  # fmt: skip
# In the order in which they are printed. After those of every pair come those that only some data have.
MEASURES = (
    *_SHARES, "kappa", "accuracy_macro", "accuracy_answered_forward", "accuracy_3way", "accuracy_tie_band",
    "accuracy_group", *_RANKINGS,
)  # fmt: skip
_NOT_SHARES = {"kappa", *_RANKINGS} - {"position_accuracy", "top1", "bottom1"}


def is_share(name: str) -> bool:
    """Whether a measure is a share, which is printed in percent."""
    return name not in _NOT_SHARES


def measures(outcomes: list[JudgeOutcome]) -> Measured:
    """
    The measures that every pair has and, as `<name>_ci`, their intervals; `None` where nothing could be measured.
    """
    parts = np.array([[share(o) for share in _SHARES.values()] for o in outcomes], dtype=float)  # [P, M, 2]
    found: Measured = {}
    for i, name in enumerate(_SHARES):
        found |= _share(name, parts[:, i], less=0.5 if name == "position_bias" else 0.0)
    return found


def all_measures(outcomes: list[JudgeOutcome], asked: Collection[str] = ()) -> Measured:
    """
    [`measures`], and those that the data allow.

    Args:
        outcomes (`list[JudgeOutcome]`): one per pair.
        asked (`Collection[str]`, *optional*): measures that are wanted in any case.

    Returns:
        `dict`: also `kappa`, Cohen's κ of what was answered in both orders; `accuracy_answered_forward`, of what was
        answered in the order of the data; with categories `accuracy_macro`, the mean of their `accuracy_mean`.

        With labelled ties `accuracy_3way`, the share of the pairs on which the answer in the order of the data, tie
        included, is the label, and, of a judge that has margins, `accuracy_tie_band` and `tie_band`: the same where a
        lead, averaged over both orders, counts as level up to a threshold that was fitted on the other half of the pairs.

        With groups `accuracy_group`, the share of groups, or pairs that belong to none, of which every comparison in the
        order of the data is right, and `groups_left_out`, of which comparisons are missing. With rankings those of
        [`~arr_trl.evaluation.agreement.ranking_measures`], from what was won in both orders, and `rankings_left_out`, of
        which verdicts are missing.
    """
    found = measures(outcomes) | _kappa(outcomes)
    answered = [(o.right_in_order, o.answers[0] is not None) for o in outcomes if o.answers and o.label is not None]
    found |= _estimate("accuracy_answered_forward", answered)
    if "accuracy_macro" in asked or len({o.category for o in outcomes} - {None}) > 1:
        found |= _macro(outcomes)
    if "accuracy_3way" in asked or any(o.label is None for o in outcomes):
        found |= _estimate("accuracy_3way", [(o.right_in_order, 1) for o in outcomes]) | _tie_band(outcomes)
    if "accuracy_group" in asked or any(o.group is not None for o in outcomes):
        found |= _groups(outcomes)
    if any(o.items is not None for o in outcomes):
        found |= _rankings(outcomes)
    return found


def _kappa(outcomes: list[JudgeOutcome]) -> Measured:
    # counted by the place shown, first or second: by the place in the data a set whose winners stand first has no chance
    places = {0: 0, 1: 1, "tie": 2, None: 2}
    parts = np.zeros((len(outcomes), 3, 3))
    for counts, o in zip(parts, outcomes, strict=True):
        for swapped, answer in enumerate(o.answers):
            if answer is not None:
                said, label = (places[x] if places[x] == 2 else places[x] ^ swapped for x in (answer, o.label))
                counts[said, label] += 1
    return _named("kappa", parts.sum(0), resampled_sums(parts, _RESAMPLES), kappa_of_counts)


def _macro(outcomes: list[JudgeOutcome]) -> Measured:
    categories = sorted({o.category for o in outcomes if o.category is not None})
    parts = np.zeros((len(outcomes), len(categories), 2))
    for part, o in zip(parts, outcomes, strict=True):
        if o.category is not None:
            part[categories.index(o.category)] = _SHARES["accuracy_mean"](o)
    # a category counts as much as another, however many pairs it has
    totals_K = parts[..., 1].sum(0)
    return _share("accuracy_macro", (parts[:, totals_K > 0] / totals_K[totals_K > 0, None]).sum(1))


def _tie_band(outcomes: list[JudgeOutcome]) -> Measured:
    """Every other pair is fitted on; of the rest a pair without a lead is not right."""
    labels = {0: 1, 1: -1, None: 0}
    fitted = [(o.lead, labels[o.label]) for o in outcomes[::2] if o.lead is not None]
    if not fitted or all(o.lead is None for o in outcomes[1::2]):
        return {}
    threshold, _ = fit_tie_threshold(*zip(*fitted, strict=True))
    held_out = [(o.lead is not None and within_band(o.lead, threshold) == labels[o.label], 1) for o in outcomes[1::2]]
    return {"tie_band": threshold, **_estimate("accuracy_tie_band", held_out)}


def _groups(outcomes: list[JudgeOutcome]) -> Measured:
    together: dict[str | int, list[JudgeOutcome]] = {}
    for number, o in enumerate(outcomes):
        together.setdefault(number if o.group is None else o.group, []).append(o)
    whole = [some for some in together.values() if some[0].group_size in (None, len(some))]
    right = [(all(o.right_in_order for o in some), 1) for some in whole]
    return {"groups_left_out": len(together) - len(whole), **_estimate("accuracy_group", right)}


def _rankings(outcomes: list[JudgeOutcome]) -> Measured:
    together: dict[str | None, list[JudgeOutcome]] = {}
    for o in outcomes:
        if o.items is not None:
            together.setdefault(o.group, []).append(o)
    found = [ranking for some in together.values() if (ranking := _ranking(some)) is not None]
    measured: Measured = {"rankings_left_out": len(together) - len(found)}
    for name in _RANKINGS:
        measured |= _estimate(name, [(ranking[name], 1) for ranking in found if ranking[name] is not None])
    return measured


def _ranking(outcomes: list[JudgeOutcome]) -> dict[str, float | None] | None:
    """A ranking by what was won in both orders, a tie one half; `None` where one of its comparisons has no verdict."""
    items = sorted(set(itertools.chain.from_iterable(o.items for o in outcomes)))
    wanted = len(items) * (len(items) - 1) // 2
    if len(outcomes) != wanted or any(None in o.answers or not o.answers for o in outcomes):
        return None
    true, found = dict.fromkeys(items, 0.0), dict.fromkeys(items, 0.0)
    for o in outcomes:
        for won, said in ((true, o.label), *((found, answer) for answer in o.answers)):
            share = {0: 1.0, 1: 0.0}.get(said, 0.5)
            won[o.items[0]] += share
            won[o.items[1]] += 1 - share
    return ranking_measures(mean_ranks(list(true.values())), mean_ranks(list(found.values())))


def _estimate(name: str, parts: list[tuple[float, float]]) -> Measured:
    parts_U2 = np.array(parts, dtype=float).reshape(-1, 2)
    if is_share(name):
        return _share(name, parts_U2)
    if not parts:
        return {name: None, f"{name}_ci": None}
    return _named(name, parts_U2.sum(0), resampled_sums(parts_U2, _RESAMPLES), _ratio)


def _share(name: str, parts_U2: np.ndarray, less: float = 0.0) -> Measured:
    """A share, such as an accuracy, and its interval; `less` is taken off both."""
    interval = ratio_interval(parts_U2)
    if interval is None:
        return {name: None, f"{name}_ci": None}
    above, below = parts_U2.sum(0)
    return {name: float(above / below) - less, f"{name}_ci": [end - less for end in interval]}


def _named(name: str, total: np.ndarray, sums: np.ndarray, value: Callable[[np.ndarray], np.ndarray]) -> Measured:
    """
    A function of sums over all pairs that is no share, and its interval from those over the resamples; there is none where
    no resample differs from another.
    """
    found, drawn = value(total), value(sums)
    drawn = drawn[~np.isnan(drawn)]
    if np.isnan(found):
        return {name: None, f"{name}_ci": None}
    varies = len(drawn) > 0 and np.ptp(drawn) > 1e-12
    return {name: float(found), f"{name}_ci": np.percentile(drawn, [2.5, 97.5]).tolist() if varies else None}


def _ratio(sums: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(sums[..., 1] > 0, sums[..., 0] / sums[..., 1], np.nan)
