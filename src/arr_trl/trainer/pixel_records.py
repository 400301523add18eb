"""What is measured of pictures that rewards with a gradient are asked about."""

import torch

from ..rewards.pixels import as_pictures


class PixelRecords:
    """A part of [`AlignPropTrainer`], named before [`FlowTrainer`]."""

    def _log_pictures(self, drawn: list[torch.Tensor], rewards_BF: torch.Tensor) -> None:
        metrics, shown = self._metrics["train"], [pixels.detach() for pixels in drawn]
        for i, name in enumerate(self.reward_func_names):
            of_func, missing = rewards_BF[:, i], rewards_BF[:, i].isnan()
            metrics[f"rewards/{name}/mean"] += of_func[~missing].tolist()
            metrics[f"rewards/{name}/missing_rate"] += missing.float().tolist()
        metrics["reward"] += self._combined(rewards_BF).tolist()
        for pixels in shown:
            # what is cut off at black or white has no gradient any more
            metrics["pictures/clipped"] += ((pixels <= 0) | (pixels >= 1)).float().mean((1, 2, 3)).tolist()
        self._watch_pictures([picture for pixels in shown for picture in as_pictures(pixels)])

    def _log_gradient(self, loss: torch.Tensor, drawn: list[torch.Tensor]) -> None:
        """In the backward, log how long the gradient of each picture's reward is at its pixels."""
        scale, count = [], sum(map(len, drawn))  # of the whole loss: micro-steps, and what float16 is scaled by

        def measure(gradient_BCHW: torch.Tensor) -> None:
            norm_B = gradient_BCHW.flatten(1).norm(dim=1) * count / scale[0]
            self._metrics["train"]["policy/reward_grad_norm"] += norm_B.tolist()

        loss.register_hook(scale.append)
        for pixels in drawn:
            pixels.register_hook(measure)
