"""Full fine-tunes beside their base: whole transformers, of which the one that draws is on the device."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ..adapter_names import TRANSFORMER_FOLDER


def is_fine_tune(folder: Path) -> bool:
    """Whether a folder holds the transformer of a run with `use_peft=False`."""
    return (folder / TRANSFORMER_FOLDER / "config.json").is_file()


def load_fine_tune(folder: Path, transformer: torch.nn.Module) -> torch.nn.Module:
    """
    The transformer of a full fine-tune, in the precision of the base.

    Args:
        folder (`Path`): the folder of a release that [`is_fine_tune`].
        transformer (`torch.nn.Module`): the transformer of the base, without adapters yet.

    Raises:
        `ValueError`: when it cannot be read, or is another network than the base's.
    """
    try:
        loaded = type(transformer).from_pretrained(folder / TRANSFORMER_FOLDER, torch_dtype=transformer.dtype)
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"The transformer in {folder} cannot be read: {' '.join(str(error).split())}") from error
    shapes = [{place: weight.shape for place, weight in m.named_parameters()} for m in (loaded, transformer)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"The transformer in {folder} is no fine-tune of this base: its weights have other shapes.")
    return loaded.eval().requires_grad_(False)


class WithFineTunes(torch.nn.Module):
    """
    A base, with adapters or without, and full fine-tunes of it, which wait in the memory of the host for their turn.

    Args:
        base (`torch.nn.Module`): what computes unless a fine-tune does.
        fine_tunes (`dict[str, torch.nn.Module]`): their transformers by name.
    """

    def __init__(self, base: torch.nn.Module, fine_tunes: dict[str, torch.nn.Module]):
        super().__init__()
        self.base = base
        self.fine_tunes = fine_tunes  # no part of the module, whose device is not theirs
        self._drawing: str | None = None

    def forward(self, *args, **kwargs):
        network = self.base if self._drawing is None else self.fine_tunes[self._drawing]
        return network(*args, **kwargs)

    @contextmanager
    def use(self, name: str) -> Iterator[None]:
        """Inside, the fine-tune `name` computes, on the device of the base."""
        self.fine_tunes[name].to(next(self.base.parameters()).device)
        self._drawing = name
        try:
            yield
        finally:
            self._drawing = None
            self.fine_tunes[name].to("cpu")
