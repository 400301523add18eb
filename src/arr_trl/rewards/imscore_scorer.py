"""The scorers of the package imscore, where it is installed."""

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

import torch

from ..chat.local import whole_weights
from .scorer import ModelScorer


class ImScore(ModelScorer):
    """
    A scorer of [imscore](https://github.com/RE-N-Y/imscore), all of which give a gradient: ImageReward, HPSv2.1, MPS,
    VQAScore, CycleReward, EvalMuse and others. `pip install imscore` brings torchvision and open_clip; where that does not
    go together with what is installed, [`HTTPScorer`] asks it in an environment of its own.

    Args:
        scorer (`str`):
            Module and class in the package, such as `"imreward.model.ImageReward"`.
        model (`str`):
            Repository of its weights on the Hub, such as `"RE-N-Y/ImageReward"`.
        **settings:
            `device`, `dtype`, `batch_size` and `offload` of [`~arr_trl.rewards.scorer.ModelScorer`].

    Example:
    ```python
    >>> score = ImScore("imreward.model.ImageReward", "RE-N-Y/ImageReward")
    ```
    """

    def __init__(self, scorer: str, model: str, **settings):
        super().__init__(**settings)
        self.scorer = scorer
        self.model = model
        self.__name__ = scorer.rpartition(".")[2].lower()

    def _load(self) -> torch.nn.Module:
        if find_spec("imscore") is None:
            raise ImportError("imscore is not installed; `pip install imscore`, or ask it through `HTTPScorer`.")
        module, _, name = self.scorer.rpartition(".")
        with whole_weights():
            return getattr(import_module(f"imscore.{module}"), name).from_pretrained(self.model).to(self.dtype)

    def _size_of(self, height: int, width: int) -> tuple[int, int]:
        return height, width  # it scales them itself

    def _score(self, module: torch.nn.Module, prompts: Sequence[str], pixels: list[torch.Tensor]) -> torch.Tensor:
        if len({picture.shape for picture in pixels}) > 1:
            return torch.cat([self._score(module, [p], [x]) for p, x in zip(prompts, pixels, strict=True)])
        return module.score(torch.stack(pixels).to(self.dtype), list(prompts)).float().flatten()
