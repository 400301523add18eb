"""Between the pixels of a picture, the latents of its autoencoder, and the tokens of a transformer."""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderKLQwenImage, DiffusionPipeline


def as_tokens(latents: torch.Tensor) -> torch.Tensor:
    """`[B, C, h, w]` as `[B, h·w, C]`."""
    return latents.flatten(2).transpose(1, 2)


def as_grid(tokens: torch.Tensor, *size: int) -> torch.Tensor:
    """`[B, h·w, C]` as `[B, C, *size]`, where `size` is `h, w` or what the transformer has in its place."""
    return tokens.transpose(1, 2).unflatten(2, size)


def draw_noise(
    pipeline: DiffusionPipeline,
    batch: int,
    height: int,
    width: int,
    device: torch.device,
    generator: torch.Generator | list[torch.Generator],
) -> torch.Tensor:
    """Noise `[B, h·w, C]` in float32 of a pipeline whose own latents are `[B, C, h, w]`, drawn as it draws it."""
    channels = pipeline.transformer.config.in_channels
    latents = pipeline.prepare_latents(batch, channels, height, width, torch.float32, device, generator)
    return as_tokens(latents).contiguous()


def decode_scaled(vae: AutoencoderKL, latents: torch.Tensor) -> torch.Tensor:
    """Pixels `[B, 3, H, W]` of latents that the configuration of the autoencoder shifts and scales."""
    latents = latents.to(vae.dtype) / vae.config.scaling_factor + vae.config.shift_factor
    return vae.decode(latents, return_dict=False)[0]


def encode_scaled(vae: AutoencoderKL, pixels: torch.Tensor) -> torch.Tensor:
    """The way back of [`~arr_trl.policies.latents.decode_scaled`], to the mode of what the encoder predicts."""
    return (vae.encode(pixels).latent_dist.mode() - vae.config.shift_factor) * vae.config.scaling_factor


def factor_of_frames(vae_config: Mapping[str, Any]) -> int:
    """Pixels that a side has to be a multiple of: the factor of the autoencoder of Qwen-Image, a patch of 2."""
    return 2 * 2 ** len(vae_config["temperal_downsample"])


def decode_frame(vae: AutoencoderKLQwenImage, latents: torch.Tensor) -> torch.Tensor:
    """Pixels `[B, 3, H, W]` of latents `[B, C, 1, h, w]`: a picture is a film of one frame, its channels standardized."""
    latents = latents.to(vae.dtype)
    mean, std = _statistics(vae, latents)
    return vae.decode(latents * std + mean, return_dict=False)[0][:, :, 0]


def encode_frame(vae: AutoencoderKLQwenImage, pixels: torch.Tensor) -> torch.Tensor:
    """The way back of [`~arr_trl.policies.latents.decode_frame`], to the mode of what the encoder predicts."""
    latents = vae.encode(pixels[:, :, None]).latent_dist.mode()
    mean, std = _statistics(vae, latents)
    return (latents - mean) / std


def _statistics(vae: AutoencoderKLQwenImage, like: torch.Tensor) -> list[torch.Tensor]:
    values = (vae.config[name] for name in ("latents_mean", "latents_std"))
    return [torch.tensor(value).view(1, -1, 1, 1, 1).to(like) for value in values]
