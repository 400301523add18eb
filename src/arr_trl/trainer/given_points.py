"""Given pictures as what is trained on: latents at noise levels, each with its noise."""

from typing import Any

import torch

from ..data.given_pictures import decode_pairs
from ..policies import FlowPolicy
from ..sampling import levels_to_train, logit_normal, stratified
from .buffer import Buffer, with_conditioning
from .diffusion_dpo_config import DiffusionDPOConfig


def levels_of(policy: FlowPolicy, args: DiffusionDPOConfig) -> torch.Tensor | None:
    """The noise levels that are drawn from, where they are those of a schedule."""
    if args.timestep_sampling != "schedule":
        return None
    sigmas = policy.sigmas(args.eval_num_inference_steps, args.height, args.width)
    return levels_to_train(sigmas, args.timestep_range, args.num_train_points, "eval_num_inference_steps")


def given_points(
    rows: list[dict[str, Any]],
    numbers: list[Any],
    generators: list[torch.Generator],
    policy: FlowPolicy,
    args: DiffusionDPOConfig,
    levels: torch.Tensor | None,
) -> Buffer:
    """
    The pictures of `B` rows, each row at `K` noise levels, and so `B·K` rows of a buffer.

    Args:
        rows (`list[dict]`): rows with their pictures as they are stored.
        numbers (`list`): what each is called where it cannot be used.
        generators (`list[torch.Generator]`): all that is random about a row comes from its own.
        policy ([`FlowPolicy`]): the pipeline.
        args ([`DiffusionDPOConfig`]): the configuration.
        levels (`torch.Tensor`, *optional*): what [`levels_of`] said.

    Raises:
        `ValueError`: when a row cannot be used.
    """
    K = args.num_train_points
    rows = decode_pairs(rows, numbers, args.height, args.width)
    sizes = {len(row["pictures"]) for row in rows}
    if len(sizes) > 1:
        raise ValueError(
            f"Rows of {' and '.join(map(str, sorted(sizes)))} pictures are in one batch; set "
            "per_device_train_batch_size=1, or keep those of one number."
        )
    pictures = [picture for row in rows for picture in row["pictures"]]
    x0 = policy.latents_of(pictures, args.height, args.width).unflatten(0, (len(rows), sizes.pop()))
    draws = torch.stack([torch.rand(K, generator=generator) for generator in generators])
    sigma = logit_normal(K, draws) if levels is None else stratified(levels, K, draws)
    if args.pair_noise == "own":
        noise = torch.stack([_own_noise(row, policy, args) for row in rows]).repeat_interleave(K, 0)
    else:
        shape = (K, *x0.shape[2:])
        noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators]).flatten(0, 1)
    points = {
        "x0": x0.repeat_interleave(K, 0),
        "noise": noise.to(x0.device),
        "sigma": sigma.flatten().to(x0.device),
        "prompt": torch.arange(len(rows)).repeat_interleave(K),
        "scores": torch.tensor([row["scores"] for row in rows], device=x0.device),
    }
    return with_conditioning(points, policy.encode(rows, args.height, args.width))


def _own_noise(row: dict[str, Any], policy: FlowPolicy, args: DiffusionDPOConfig) -> torch.Tensor:
    """The noise `[2, L, C]` that the pictures of a pair were drawn from."""
    noise = []
    for name, size in zip(("chosen_noise", "rejected_noise"), row["sizes"], strict=True):
        if not row.get(name):
            raise ValueError(f"The row with the prompt {row['prompt'][:80]!r} has no `{name}`; leave it out.")
        if size != (args.width, args.height):
            raise ValueError(
                f"The row with the prompt {row['prompt'][:80]!r} has a picture of {size[0]} × {size[1]} pixels, and its "
                f"noise is of that size: pair_noise='own' needs width={size[0]} and height={size[1]}."
            )
        seed, before = row[name]
        generator = torch.Generator().manual_seed(seed)
        for _ in range(before + 1):
            drawn = policy.initial_noise(1, args.height, args.width, [generator])
        noise.append(drawn[0])
    return torch.stack(noise)
