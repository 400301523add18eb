"""Which criteria count, and how much: ℓ1-regularised logistic regression on what the judge found with each."""

from dataclasses import dataclass

import numpy as np


_STRENGTHS = np.logspace(-2, 2, 13)  # inverse regularisation, from few criteria to all
_FOLDS = 5
_MIN_PAIRS = 10


@dataclass(frozen=True)
class Weights:
    """
    Args:
        weights (`tuple[float, ...]`): one per criterion, 0 for those to drop, with a mean of 1 over the others.
        cv_accuracy (`float`): share of the pairs that were predicted right by weights learned without them.
    """

    weights: tuple[float, ...]
    cv_accuracy: float


def learn_weights(differences_PC: np.ndarray, winners_P: np.ndarray, seed: int = 0) -> Weights | None:
    """
    Weights by which the criteria, added up, name the winner (as AutoRubric-T2I,
    [paper](https://huggingface.co/papers/2605.17602)). The strength of the regularisation is the strongest whose
    cross-validated accuracy lies within one standard error of the best. A criterion that speaks for the loser is
    dropped, not inverted.

    Args:
        differences_PC (`np.ndarray`):
            Per pair and criterion 1 where the first image is better, -1 where the second is, 0 where they are level.
        winners_P (`np.ndarray`): 0 or 1.
        seed (`int`, *optional*, defaults to `0`): seed of the folds.

    Returns:
        [`Weights`], or `None` when there are fewer than 10 pairs or no criterion tells winners from losers.
    """
    signs_P = np.where(winners_P == 0, 1.0, -1.0)
    if len(signs_P) < _MIN_PAIRS or not np.any(differences_PC):
        return None
    folds_P = np.random.default_rng(seed).permutation(len(signs_P)) % _FOLDS
    used = np.arange(differences_PC.shape[1])
    while len(used):
        scores = np.array([_held_out(differences_PC[:, used], signs_P, folds_P, c) for c in _STRENGTHS])  # [S, P]
        accuracies = scores.mean(1)
        best = int(accuracies.argmax())
        error = scores[best].std() / np.sqrt(len(signs_P))
        chosen = int(np.flatnonzero(accuracies >= accuracies[best] - error)[0])
        found = _fit(differences_PC[:, used], signs_P, _STRENGTHS[chosen])
        if np.all(found >= 0):
            break
        used = used[found >= 0]
    if not len(used) or not np.any(found > 0):
        return None
    found = found / found[found > 0].mean()
    weights = np.zeros(differences_PC.shape[1])
    weights[used] = np.round(found, 2)
    return Weights(tuple(map(float, weights)), float(accuracies[chosen]))


def _held_out(differences_PC: np.ndarray, signs_P: np.ndarray, folds_P: np.ndarray, strength: float) -> np.ndarray:
    """1 for each pair that is predicted right without having been learned from, one half for a tie: `[P]`."""
    right = np.zeros(len(signs_P))
    for fold in range(_FOLDS):
        inside = folds_P == fold
        weights = _fit(differences_PC[~inside], signs_P[~inside], strength)
        predicted = np.sign(np.round(differences_PC[inside] @ weights, 9))
        right[inside] = np.where(predicted == 0, 0.5, predicted == signs_P[inside])
    return right


def _fit(differences_PC: np.ndarray, signs_P: np.ndarray, strength: float) -> np.ndarray:
    import sklearn
    from sklearn.linear_model import LogisticRegression

    # every pair both ways: no order of the data can matter, and both classes are there
    both, labels = np.concatenate([differences_PC, -differences_PC]), np.concatenate([signs_P, -signs_P])
    # 1.8 renamed the penalty; this can go with Python 3.10, for which 1.7 is the last version
    penalty = {"penalty": "l1"} if sklearn.__version__ < "1.8" else {"l1_ratio": 1}
    model = LogisticRegression(
        **penalty, solver="liblinear", C=strength, fit_intercept=False, random_state=0, max_iter=1000
    )
    return model.fit(both, labels).coef_[0]
