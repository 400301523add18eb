"""In which orders a judge is shown the candidates of a row."""

from .questions import content_key


ORDERS = ("both", "random", "fixed")


def orders_shown(order: str, seed: int, prompt: str, digests: list[str]) -> list[tuple[int, ...]]:
    """
    Args:
        order (`str`): `"both"` the given and the reversed one, `"random"` one drawn from `seed` and the content,
            `"fixed"` the given one.
        seed (`int`): of what is drawn.
        prompt (`str`): the row's.
        digests (`list[str]`): of the candidates.

    Returns:
        `list[tuple[int, ...]]`: places of the candidates, in each order.
    """
    given = tuple(range(len(digests)))
    if order == "both":
        return [given, given[::-1]]
    if order == "fixed":
        return [given]
    # drawn from the content: the same row is shown in the same order after a resume
    return [tuple(sorted(given, key=lambda candidate: content_key(seed, prompt, *digests, candidate)))]
