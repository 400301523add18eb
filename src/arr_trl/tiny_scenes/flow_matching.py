"""Pre-training by flow matching, as both pipelines of TinyScenes need it: fit the autoencoder, then the velocity."""

import copy
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import ModelMixin
from PIL import Image


@dataclass(frozen=True)
class Phase:
    """One stretch of flow matching; its seed draws its pictures, texts and noise."""

    steps: int
    learning_rate: float
    noise: float
    seed: int


def to_tensor(pictures: Iterable[Image.Image]) -> torch.Tensor:
    """Pictures as `[N, 3, H, W]` in [-1, 1]."""
    pictures_NHWC = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).float() / 127.5 - 1
    return pictures_NHWC.permute(0, 3, 1, 2).contiguous()


def train_vae(
    vae: ModelMixin,
    pictures: torch.Tensor,
    steps: int,
    generator: torch.Generator,
    decoder_only: bool = False,
) -> torch.Tensor:
    """
    Fit an autoencoder to `pictures`, batch first in the shape that it takes; with `decoder_only` its latents stay as
    they are.

    Returns:
        `torch.Tensor`: the latents of 2000 pictures, from which the caller sets the scaling.
    """
    vae.train()
    trained = vae.decoder if decoder_only else vae
    optimizer = torch.optim.AdamW(trained.parameters(), lr=2e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)
    for step in range(steps):
        batch = pictures[torch.randint(len(pictures), (64,), generator=generator)]
        with torch.set_grad_enabled(not decoder_only):
            posterior = vae.encode(batch).latent_dist
        loss = torch.nn.functional.mse_loss(vae.decode(posterior.sample(generator)).sample, batch)
        loss = loss + 1e-4 * posterior.kl().mean() / posterior.mean[0].numel()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 200 == 0 or step == steps - 1:
            print(f"vae {step:5d}  loss {loss.item():.4f}", flush=True)
    vae.eval()
    return encode(vae, pictures[:2000])


@torch.no_grad()
def encode(vae: ModelMixin, pictures: torch.Tensor) -> torch.Tensor:
    """The means of the latents, batch first."""
    return torch.cat([vae.encode(part).latent_dist.mean for part in pictures.split(500)])


def train_flow(
    models: tuple[torch.nn.Module, ...],
    latents_NLC: torch.Tensor,
    velocity: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
    steps: int,
    batch_size: int,
    learning_rate: float,
    generator: torch.Generator,
    mean_logit: float = 0.3,
) -> None:
    """
    Flow matching; leaves the exponential moving average of the parameters in place.

    Args:
        models (`tuple[torch.nn.Module, ...]`): what is trained.
        latents_NLC (`torch.Tensor`): packed latents of the pictures to draw, `[N, L, C]`.
        velocity (`Callable`):
            `velocity(pick, x_BLC, sigma_B)` is the prediction `[B, L, C]` for the pictures with the indices `pick`.
        steps (`int`): optimizer steps.
        batch_size (`int`): pictures of each.
        learning_rate (`float`): its maximum, after a tenth of the steps.
        generator (`torch.Generator`): draws pictures, noise and noise levels.
        mean_logit (`float`, *optional*, defaults to `0.3`):
            Mean of the logit-normal distribution of noise levels; higher ones are drawn more often when it is larger.
    """
    parameters = [p for model in models for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=learning_rate, total_steps=steps, pct_start=0.1)
    averages = [copy.deepcopy(model) for model in models]
    started = time.time()
    running = 0.0
    for step in range(steps):
        pick = torch.randint(len(latents_NLC), (batch_size,), generator=generator)
        x0 = latents_NLC[pick]
        noise = torch.randn(x0.shape, generator=generator)
        sigma = torch.sigmoid(torch.randn(batch_size, generator=generator) + mean_logit)
        x = (1 - sigma)[:, None, None] * x0 + sigma[:, None, None] * noise
        loss = torch.nn.functional.mse_loss(velocity(pick, x, sigma), noise - x0)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        decay = min(0.998, (1 + step) / (10 + step))
        with torch.no_grad():
            for average, model in zip(averages, models, strict=True):
                for a, p in zip(average.parameters(), model.parameters(), strict=True):
                    a.lerp_(p, 1 - decay)
        running += loss.item()
        if step % 100 == 99:
            print(f"flow {step + 1:5d}  loss {running / 100:.4f}  {time.time() - started:.0f} s", flush=True)
            running = 0.0
    for average, model in zip(averages, models, strict=True):
        model.load_state_dict(average.state_dict())
