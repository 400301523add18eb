"""A rubric with a gradient: what a model in process gives for a picture to be the better one, as a reward of its pixels."""

import math
from pathlib import Path
from typing import Any, Literal

import torch
from torch.utils.checkpoint import checkpoint

from ..chat.local import LocalChatModel
from ..chat.with_gradient import check_processor, choice_logprobs
from ..rewards.pixels import as_pictures
from ..rubrics import Rubric
from .choice import LEAST_MASS
from .row import JudgeRow
from .rubric_judge import RubricJudge


class RubricReward:
    """
    Experimental. How sure a vision-language model in process is, under a rubric, that a picture is better than the one that
    the base draws from the same noise: ln p of `RubricJudge(mode="choice")`, with a gradient, as a reward function for
    [`AlignPropTrainer`]. Nobody knows yet how long such a reward can be followed before it is gamed: compare with another
    judge in evaluations.

    A question is computed once more in the backward, so that the activations of one question are in memory at a time.

    Args:
        rubric ([`Rubric`] or `str` or `Path`):
            The rubric, a file that holds it, or a repository on the Hub; see [`RubricJudge`].
        model ([`LocalChatModel`] or `str`):
            A Qwen2.5-VL or Qwen3-VL, or its id, which is loaded.
        order (`str`, *optional*, defaults to `"both"`):
            `"both"` asks in both orders and takes the mean, `"fixed"` shows the picture first.
        language (`str`, *optional*, defaults to `"en"`):
            Language of the prompt template, `"en"` or `"zh"`.

    Raises:
        `ValueError`: when a gradient cannot be passed back through the image processor of the model.
    """

    def __init__(
        self,
        rubric: Rubric | str | Path,
        model: LocalChatModel | str,
        *,
        order: Literal["both", "fixed"] = "both",
        language: Literal["en", "zh"] = "en",
    ):
        self.model = LocalChatModel(model) if isinstance(model, str) else model
        check_processor(self.model)
        self.judge = RubricJudge(rubric, self.model, mode="choice", order=order, language=language)
        self.orders = [(0, 1), (1, 0)] if order == "both" else [(0, 1)]
        self.__name__ = "rubric_reward"  # what metrics are filed under

    def __call__(
        self,
        prompts: list[str],
        pixels: torch.Tensor,
        base_pixels: torch.Tensor,
        source_image: list[Any] | None = None,
        **columns: Any,
    ) -> torch.Tensor:
        """
        Rewards `[B]`, at most 0: ln p of each of `pixels` `[B, 3, H, W]` to be better than that of `base_pixels`, the mean
        over the orders; NaN where the model hardly ever answers with either number.
        """
        rewards = []
        for i, prompt in enumerate(prompts):
            pictures = tuple(as_pictures(torch.stack([pixels[i], base_pixels[i]]).detach()))
            others = {name: values[i] for name, values in columns.items() if name == "mask_image"}
            row = JudgeRow(prompt, pictures, None if source_image is None else source_image[i], columns=others)
            answers = [checkpoint(self._logprob, row, pixels[i], order, use_reentrant=False) for order in self.orders]
            rewards.append(torch.stack(answers).mean())
        return torch.stack(rewards)

    def _logprob(self, row: JudgeRow, pixels: torch.Tensor, positions: tuple[int, int]) -> torch.Tensor:
        """ln p that the first candidate of a row, shown in these positions, is the better one, `[]`."""
        shown = [pixels if candidate == 0 else None for candidate in positions]
        sources = [None] * len(row.sources)
        mask = [] if row.mask is None else [None]
        logprobs = choice_logprobs(self.model, self.judge.request(row, positions), [*sources, *shown, *mask])
        first, second = (logprobs[str(1 + positions.index(candidate))] for candidate in (0, 1))
        both = torch.logaddexp(first, second)
        return torch.where(both < math.log(LEAST_MASS), torch.nan, first - both)
