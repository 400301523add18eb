"""What is measured of pictures that rewards with a gradient are asked about."""

import torch

from ..rewards.pixels import as_pictures
from ..runtime.finite import not_finite


class PixelRecords:
    """A part of [`AlignPropTrainer`], named before [`FlowTrainer`]."""

    _drawn: list[torch.Tensor]

    def _log_rewards(self, rewards_BF: torch.Tensor) -> None:
        metrics = self._metrics["train"]
        for i, name in enumerate(self.reward_func_names):
            metrics[f"rewards/{name}/mean"].append(rewards_BF[:, i])
            metrics[f"rewards/{name}/missing_rate"].append(rewards_BF[:, i].isnan().float())
        metrics["reward"].append(self._combined(rewards_BF))

    def _not_finite(self, drawn: list[torch.Tensor]) -> FloatingPointError | None:
        finite = all(pixels.isfinite().all() for pixels in drawn)
        return None if finite else not_finite("pictures", self.state.global_step + 1)

    def _look_at_pictures(self) -> None:
        """Look at what was drawn, for which the host waits: after the backward, so that none waits for the host."""
        drawn, self._drawn = self._drawn, []
        self._stop_together(self._not_finite(drawn), "The pictures of another process failed.")
        for pixels in drawn:
            # what is cut off at black or white has no gradient any more
            self._metrics["train"]["pictures/clipped"].append(((pixels <= 0) | (pixels >= 1)).float().mean((1, 2, 3)))
        self._watch_pictures([picture for pixels in drawn for picture in as_pictures(pixels)])

    def _log_gradient(self, loss: torch.Tensor, drawn: list[torch.Tensor]) -> None:
        """In the backward, log how long the gradient of each picture's reward is at its pixels."""
        scale, count = [], sum(map(len, drawn))  # of the whole loss: micro-steps, and what float16 is scaled by

        def measure(gradient_BCHW: torch.Tensor) -> None:
            norm_B = gradient_BCHW.flatten(1).norm(dim=1) * count / scale[0]
            self._metrics["train"]["policy/reward_grad_norm"].append(norm_B)

        loss.register_hook(scale.append)
        for pixels in drawn:
            pixels.register_hook(measure)
