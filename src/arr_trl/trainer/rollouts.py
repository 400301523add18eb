"""From rows to candidates, and from their trained steps to the buffer that the loss is computed on."""

import random
from typing import Any

import torch
from PIL import Image

from ..policies import Conditioning, FlowPolicy
from ..sampling import rollout
from .rpo_config import RPOConfig


# One row per (candidate, step), each with all that its loss needs.
Buffer = dict[str, torch.Tensor]

_CONDITIONING = "conditioning."


def draw_window(args: RPOConfig, generator: random.Random) -> range:
    """The steps of a rollout that carry noise and are trained on."""
    start, end = args.sde_window_range
    first = generator.randint(start, end - args.window_size)
    return range(first, first + args.window_size)


def sample_candidates(
    policy: FlowPolicy,
    model: torch.nn.Module,
    rows: list[dict[str, Any]],
    window: range,
    args: RPOConfig,
    generator: torch.Generator,
) -> tuple[list[Image.Image], Buffer]:
    """
    Sample the candidates of `P` rows in one batch.

    Args:
        policy ([`FlowPolicy`]): the policy.
        model (`torch.nn.Module`): its transformer, wrapped or not.
        rows (`list[dict]`): rows of the dataset.
        window (`range`): the steps that are trained on, `W` of them.
        args ([`RPOConfig`]): what decides how it is sampled.
        generator (`torch.Generator`): draws the initial noise and that of the steps.

    Returns:
        `tuple(list, dict)`: the pictures, `P·n` of them, the candidates of a row adjacent; and their transitions with
        the conditioning of each, tensors of `P·n·W` rows.
    """
    conditioning = policy.encode(rows, args.height, args.width)
    sigmas = policy.sigmas(args.num_inference_steps, args.height, args.width).to(policy.device)
    noise_rows = len(rows) if args.share_initial_noise else len(rows) * args.num_generations
    sampled = rollout(
        policy,
        model,
        policy.initial_noise(noise_rows, args.height, args.width, generator),
        sigmas,
        conditioning,
        args.num_generations,
        window,
        args.sde_type,
        args.noise_level,
        args.guidance_scale if args.cfg != "off" else without_cfg(policy, args.guidance_scale),
        generator,
    )
    images = policy.decode(sampled.latents, args.height, args.width)
    # [P·n, W, ...] becomes one row per transition, [P·n·W, ...]
    buffer = {name: tensor.flatten(0, 1) for name, tensor in sampled.transitions.items()}
    repeats = args.num_generations * len(window)
    buffer |= {_CONDITIONING + name: tensor.repeat_interleave(repeats, 0) for name, tensor in conditioning.items()}
    return images, buffer


def without_cfg(policy: FlowPolicy, guidance_scale: float) -> float:
    """The scale at which there is no classifier-free guidance; any other guidance stays as it is."""
    return policy.cfg_off_scale if policy.uses_cfg(guidance_scale) else guidance_scale


def training_guidance(policy: FlowPolicy, args: RPOConfig) -> float:
    """The scale at which the loss takes the velocity."""
    return args.guidance_scale if args.cfg == "both" else without_cfg(policy, args.guidance_scale)


def forwards_in_words(policy: FlowPolicy, args: RPOConfig, num_prompts: int) -> str:
    """What a rollout and its loss cost in forwards of the transformer, counted per picture."""
    images = num_prompts * args.num_generations
    # the steps before the window, which shared noise makes equal for all candidates; the window begins later at times
    prefix = args.sde_window_range[0]
    sampling = images * (args.num_inference_steps - prefix)
    sampling += prefix * (num_prompts if args.share_initial_noise else images)
    training = images * args.window_size * (2 if args.beta > 0 else 1) * args.num_iterations
    guided = policy.uses_cfg(args.guidance_scale)
    in_rollout, in_loss = guided and args.cfg != "off", guided and args.cfg == "both"
    words = (
        f"Forwards of the transformer: {sampling * (2 if in_rollout else 1)} to sample, "
        f"{training * (2 if in_loss else 1)} in the loss{' and its reference' if args.beta > 0 else ''}"
    )
    if guided:
        where = {"both": "doubles both", "rollout": "doubles the former", "off": "is off until evaluation"}[args.cfg]
        words += f"; classifier-free guidance ({policy.guidance_argument}={args.guidance_scale:g}) {where}"
    return words + "."


def conditioning_of(inputs: Buffer) -> Conditioning:
    """What the policy was given at these transitions."""
    return {
        name.removeprefix(_CONDITIONING): tensor for name, tensor in inputs.items() if name.startswith(_CONDITIONING)
    }


def split_buffer(buffer: Buffer, num_batches: int, generator: torch.Generator) -> list[Buffer]:
    """The buffer as one batch per micro-step, without the rows whose pair was masked: they have no gradient."""
    active = (~buffer["advantages"].isnan()).nonzero().flatten()
    if num_batches > 1:
        active = active[torch.randperm(len(active), generator=generator).to(active.device)]
    batches = []
    for index in active.tensor_split(num_batches):
        if len(index) == 0:
            # every rank has to run forward and backward at every micro-step: a masked row, whose loss is 0
            index = buffer["advantages"].isnan().nonzero().flatten()[:1]
        batches.append({name: tensor[index] for name, tensor in buffer.items()})
    return batches
