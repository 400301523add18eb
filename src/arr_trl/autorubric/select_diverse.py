"""A diverse subset of texts: greedy by the gain in coding rate over their embeddings."""

import numpy as np


def coding_rate(embeddings_ND: np.ndarray, epsilon: float = 0.1) -> float:
    """
    Σ log(1 + s² / (ε² n)) over the singular values s of n unit embeddings: how many bits it takes to tell them apart up
    to ε ([paper](https://huggingface.co/papers/2510.17314)). Repetition adds nothing to it.
    """
    n = len(embeddings_ND)
    if n == 0:
        return 0.0
    gram_NN = embeddings_ND @ embeddings_ND.T
    return float(np.linalg.slogdet(np.eye(n) + gram_NN / (epsilon**2 * n))[1])


def select_diverse(
    embeddings_ND: np.ndarray,
    max_items: int,
    epsilon: float = 0.1,
    batch_size: int = 10,
    min_gain: float = 0.002,
    patience: int = 2,
    seed: int = 0,
) -> list[int]:
    """
    Items in the order in which they were taken, each the one that raises the coding rate most.

    Args:
        embeddings_ND (`np.ndarray`): one row per item; brought to unit length here.
        max_items (`int`): most items to take.
        epsilon (`float`, *optional*, defaults to `0.1`): distance up to which embeddings count as the same.
        batch_size (`int`, *optional*, defaults to `10`): items between two looks at the gain.
        min_gain (`float`, *optional*, defaults to `0.002`): gain of a batch below which it adds next to nothing.
        patience (`int`, *optional*, defaults to `2`): batches that may add next to nothing before it stops.
        seed (`int`, *optional*, defaults to `0`): decides between items that are equally good.

    Returns:
        `list[int]`: indices.
    """
    count = len(embeddings_ND)
    norms = np.linalg.norm(embeddings_ND, axis=1, keepdims=True)
    unit_ND = embeddings_ND / np.maximum(norms, 1e-12)
    gram_NN = unit_ND @ unit_ND.T
    order = np.random.default_rng(seed).permutation(count)
    taken: list[int] = []
    waiting = list(order)
    rate_before, idle = 0.0, 0
    while waiting and len(taken) < max_items:
        # log det of the larger set is that of the smaller plus the log of this Schur complement
        ridge = epsilon**2 * (len(taken) + 1)
        own = np.diag(gram_NN)[waiting] + ridge
        if taken:
            cross = gram_NN[np.ix_(taken, waiting)]
            inner = gram_NN[np.ix_(taken, taken)] + ridge * np.eye(len(taken))
            own = own - np.einsum("ij,ij->j", cross, np.linalg.solve(inner, cross))
        # rounding makes equals differ in the last digits; the first in the seeded order is taken
        best = int(np.flatnonzero(own >= own.max() - 1e-9)[0])
        taken.append(int(waiting.pop(best)))
        if len(taken) % batch_size == 0:
            rate = coding_rate(unit_ND[taken], epsilon)
            idle = idle + 1 if rate - rate_before < min_gain else 0
            rate_before = rate
            if idle == patience:
                return taken[: -patience * batch_size]
    return taken
