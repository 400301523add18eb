"""Encoded rows that are kept, so that a prompt is encoded once."""

from collections import OrderedDict
from collections.abc import Callable, Hashable

from .batching import Conditioning, concatenate


class EncodingCache:
    """
    Conditioning of single rows by key, the least recently used dropped first.

    Args:
        max_rows (`int`): how many are kept.
    """

    def __init__(self, max_rows: int):
        self.max_rows = max_rows
        self._rows: OrderedDict[Hashable, Conditioning] = OrderedDict()

    def get(self, keys: list[Hashable], encode: Callable[[list[int]], Conditioning]) -> Conditioning:
        """
        The rows of `keys` in one batch.

        Args:
            keys (`list[Hashable]`): one for each row; equal keys mean equal rows.
            encode (`Callable`): encodes the rows at the indices it is given, those that are missing, each key once.

        Returns:
            `dict[str, torch.Tensor]`: `len(keys)` rows, the shorter ones padded with zeros.
        """
        missing = {key: i for i, key in enumerate(keys) if key not in self._rows}
        if missing:
            encoded = encode(list(missing.values()))
            for i, key in enumerate(missing):
                self._rows[key] = {name: tensor[i : i + 1] for name, tensor in encoded.items()}
        for key in keys:
            self._rows.move_to_end(key)
        batch = concatenate([self._rows[key] for key in keys])
        while len(self._rows) > self.max_rows:
            self._rows.popitem(last=False)
        return batch

    def clear(self) -> None:
        self._rows.clear()
