"""What reward functions are asked about finished pictures, and what becomes of their answers."""

from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image

from ..judges import JudgeFuture, JudgeReward, MeanOf
from ..objectives import combine_rewards
from ..rewards import call, columns_of, read_rewards


class RewardedPictures:
    """A part of [`FlowTrainer`], named before `Trainer`."""

    def _calculate_rewards(
        self,
        rows: list[dict[str, Any]],
        images: list[Image.Image],
        num_generations: int,
        judging: Mapping[JudgeReward, list[JudgeFuture]] | None = None,
    ) -> torch.Tensor:
        """
        Rewards `[P·n, F]` of all reward functions, NaN where one gave none. `judging` holds what is asked already.
        """
        judging = judging or {}
        columns = self._columns(rows, num_generations) | {"log_extra": self._log_extra, "log_metric": self._log_metric}
        rewards_NF = torch.full((len(images), len(self.reward_funcs)), torch.nan)
        self._extra_logs.clear()
        for i, (func, name) in enumerate(zip(self.reward_funcs, self.reward_func_names, strict=True)):
            if func in judging:
                output = func.collect(judging[func], self._log_metric, self._log_extra)
            else:
                output = call(func, completions=images, **columns)
            rewards_NF[:, i] = read_rewards(output, name, len(images))
        return rewards_NF

    def _columns(self, rows: list[dict[str, Any]], num_generations: int) -> dict[str, Any]:
        """What reward functions get beside the pictures, for each of them."""
        of_rows = columns_of([row for row in rows for _ in range(num_generations)])
        return of_rows | {"num_generations": num_generations, "trainer_state": self.state}

    def _watched(self, rows: list[dict[str, Any]], images: list[Image.Image], num_generations: int) -> torch.Tensor:
        """What `watch_funcs` say of the pictures, `[P·n, W]`, which nothing is trained on."""
        columns = self._columns(rows, num_generations) | {"log_extra": _drop, "log_metric": _drop}
        outputs = [call(func, completions=images, **columns) for func in self.watch_funcs]
        read = [read_rewards(o, name, len(images)) for o, name in zip(outputs, self.watch_func_names, strict=True)]
        return torch.stack(read, 1)

    def _log_extra(self, column: str, values: list) -> None:
        self._extra_logs[column].extend(values)

    def _log_metric(self, name: str, value: float) -> None:
        self._metrics[self._mode][name] += value.values if isinstance(value, MeanOf) else [value]
        self.metric_totals[name] += value

    def _combine_rewards(self, rewards_NF: torch.Tensor, num_generations: int) -> torch.Tensor:
        """Weighted sum over reward functions, `[P, n]`; see [`~arr_trl.objectives.combine_rewards`]."""
        weights_F = torch.tensor(self.args.reward_weights or [1.0] * len(self.reward_funcs))
        return combine_rewards(rewards_NF, num_generations, weights_F)


def _drop(name: str, value: Any) -> None:
    """Takes what a function logs that is only watched."""
