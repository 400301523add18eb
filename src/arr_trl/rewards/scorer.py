"""A scorer: a model that gives one picture a number, as a reward function in TRL's protocol."""

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from accelerate import PartialState
from PIL import Image

from ..chat.current_device import on_device
from ..rgb import as_rgb


class Scorer(ABC):
    """
    What every scorer shares. It is a reward function, and [`~arr_trl.judges.ScorerJudge`] makes a judge of it.

    A picture that cannot be scored has no score (`None`), which is never a number.
    """

    weights: ClassVar[str | None] = None  # what is scored with, and under which licence
    licence: ClassVar[str | None] = None
    __name__: str  # what metrics are filed under

    @abstractmethod
    def check(self) -> None:
        """
        Find out, before training, whether pictures can be scored.

        Raises:
            `ConnectionError`, `ImportError`, `OSError` or `ValueError`: when they cannot.
        """

    @abstractmethod
    def __call__(
        self, prompts: Sequence[str], completions: Sequence[Image.Image], **columns: Any
    ) -> list[float | None]:
        """
        Scores in TRL's protocol.

        Args:
            prompts (`Sequence[str]`): one per picture.
            completions (`Sequence[PIL.Image.Image]`): the pictures.
            **columns: the dataset's other columns, as the scorer needs them.

        Returns:
            `list[float | None]`: one score per picture, `None` where there is none.
        """


class ModelScorer(Scorer):
    """
    A scorer with a model in this process. It is frozen, read at the first use, whole even under DeepSpeed ZeRO-3, and its
    scores have a gradient with respect to the pictures where these are a tensor.

    Args:
        device (`str` or `torch.device`, *optional*):
            Where it computes; by default where the training process does.
        dtype (`torch.dtype`, *optional*, defaults to `torch.float32`):
            Precision of the weights.
        batch_size (`int`, *optional*, defaults to `8`):
            Pictures that are scored at once.
        offload (`bool`, *optional*, defaults to `False`):
            Whether the model waits in the memory of the CPU between calls. Where a gradient is wanted it stays, since the
            backward pass comes later.
    """

    def __init__(
        self,
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        batch_size: int = 8,
        offload: bool = False,
    ):
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} has to be at least one picture.")
        self.device = None if device is None else torch.device(device)
        self.dtype = dtype
        self.batch_size = batch_size
        self.offload = offload
        self._module: torch.nn.Module | None = None
        self._lock = threading.Lock()  # members of an ensemble are asked from several threads

    @abstractmethod
    def _load(self) -> torch.nn.Module:
        """The model, on the CPU."""

    @abstractmethod
    def _size_of(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that a picture is scaled to before the model looks at it."""

    @abstractmethod
    def _score(self, module: torch.nn.Module, prompts: Sequence[str], pixels: list[torch.Tensor]) -> torch.Tensor:
        """
        Args:
            module (`torch.nn.Module`): what `_load` returned, on the device.
            prompts (`Sequence[str]`): one per picture.
            pixels (`list[torch.Tensor]`): each `[3, h, w]` in 0 to 1, float32, of the size that `_size_of` said.

        Returns:
            `torch.Tensor`: scores `[B]`, float32.
        """

    def check(self) -> None:
        """
        Read the model.

        Raises:
            `OSError`: when the weights cannot be had.
            `ValueError`: when they are of something else.
        """
        with self._lock:
            self._ready("cpu" if self.offload else self._place())

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[Image.Image] | torch.Tensor, **columns: Any
    ) -> list[float | None] | torch.Tensor:
        """
        Scores in TRL's protocol; of a tensor of pictures `[B, 3, H, W]` in 0 to 1 the scores `[B]` with their gradient.
        """
        if isinstance(completions, torch.Tensor):
            return self.score_pixels(prompts, completions, **columns)
        scores: list[float] = []
        with self._lock, on_device(self._place()), torch.no_grad():
            module = self._ready(self._place())
            for start in range(0, len(completions), self.batch_size):
                part = slice(start, start + self.batch_size)
                pixels = [self._pixels_of(image) for image in completions[part]]
                scores += self._score(module, prompts[part], pixels).tolist()
            if self.offload:
                self._ready("cpu")
        return [score if math.isfinite(score) else None for score in scores]

    def score_pixels(self, prompts: Sequence[str], pixels: torch.Tensor, **columns: Any) -> torch.Tensor:
        """
        Scores through which pictures get a gradient, as AlignProp wants them
        ([paper](https://huggingface.co/papers/2310.03739)).

        Args:
            prompts (`Sequence[str]`): one per picture.
            pixels (`torch.Tensor`): pictures `[B, 3, H, W]` in 0 to 1.

        Returns:
            `torch.Tensor`: scores `[B]`, float32, on the device of `pixels`.
        """
        with self._lock:
            module = self._ready(self._place())
        size = self._size_of(*pixels.shape[-2:])
        scores = []
        for start in range(0, len(pixels), self.batch_size):
            part = slice(start, start + self.batch_size)
            scaled = scaled_pixels(pixels[part].to(self._place(), torch.float32), size)
            scores.append(self._score(module, prompts[part], list(scaled)))
        return torch.cat(scores).to(pixels.device)

    def _pixels_of(self, image: Image.Image) -> torch.Tensor:
        """`[3, h, w]`, scaled as the published code scales: by Pillow, to whole grey levels."""
        image = as_rgb(image)
        height, width = self._size_of(image.height, image.width)
        scaled = image.resize((width, height), Image.Resampling.BICUBIC)
        levels = torch.frombuffer(bytearray(scaled.tobytes()), dtype=torch.uint8).view(height, width, 3)
        return levels.permute(2, 0, 1).to(self._place(), torch.float32) / 255

    def _place(self) -> torch.device:
        return PartialState().device if self.device is None else self.device

    def _ready(self, device: str | torch.device) -> torch.nn.Module:
        if self._module is None:
            self._module = self._load().eval().requires_grad_(False)
        return self._module.to(device)


def scaled_pixels(pixels: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Pictures `[B, 3, H, W]` scaled as Pillow's bicubic filter does, with a gradient and between grey levels."""
    if tuple(pixels.shape[-2:]) == size:
        return pixels
    scaled = torch.nn.functional.interpolate(pixels, size=size, mode="bicubic", align_corners=False, antialias=True)
    return scaled.clamp(0, 1)
