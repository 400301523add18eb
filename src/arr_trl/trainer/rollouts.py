"""From rows to candidates, and from their trained steps to the buffer that the loss is computed on."""

import random
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from ..judges import JudgeFuture, JudgeReward
from ..policies import Conditioning, FlowPolicy, concatenate, select
from ..sampling import rollout
from .rpo_config import RPOConfig


# One row per forward pass of training, each with all that the loss of its transitions needs; see `Rollout`. The
# conditioning has one row per prompt.
Buffer = dict[str, torch.Tensor]

_CONDITIONING = "conditioning."


@dataclass
class Sampled:
    """
    A rollout whose candidates may still be with the judges.

    Args:
        rows (`list[dict]`): rows of the dataset.
        images (`list[PIL.Image.Image]`): the candidates, those of a row adjacent.
        parts (`list[dict]`): the steps that are trained on, chunk by chunk.
        judging (`dict`): what the judges were asked.
        random (`random.Random`): randomness of the rollout.
    """

    rows: list[dict[str, Any]]
    images: list[Image.Image]
    parts: list[Buffer]
    judging: dict[JudgeReward, list[JudgeFuture]]
    random: random.Random


def place_random(*place: int) -> random.Random:
    """
    Randomness of a place in a run: seed, number of the rollout and, where it matters, number of the prompt. What is
    drawn depends neither on the number of devices nor on what was drawn before, so that a resumed run needs no state.
    """
    return random.Random(" ".join(map(str, place)))


def prompt_generators(seed: int, rollout: int, first: int, count: int) -> list[torch.Generator]:
    """A generator of noise for each of `count` prompts from number `first` of the rollout's global batch on."""
    seeds = [place_random(seed, rollout, prompt).getrandbits(63) for prompt in range(first, first + count)]
    return [torch.Generator().manual_seed(seed) for seed in seeds]


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
    generators: list[torch.Generator],
) -> tuple[torch.Tensor, Buffer]:
    """
    Sample the candidates of `P` rows in one batch.

    Args:
        policy ([`FlowPolicy`]): the policy.
        model (`torch.nn.Module`): its transformer, wrapped or not.
        rows (`list[dict]`): rows of the dataset.
        window (`range`): the steps that are trained on, `W` of them.
        args ([`RPOConfig`]): what decides how it is sampled.
        generators (`list[torch.Generator]`): for each row, draws its initial noise and that of its steps.

    Returns:
        `tuple(torch.Tensor, dict)`: the finished latents, `P·n` of them, the candidates of a row adjacent; and the
        steps that are trained on.
    """
    n = args.num_generations
    conditioning = policy.encode(rows, args.height, args.width)
    sigmas = policy.sigmas(args.num_inference_steps, args.height, args.width).to(policy.device)
    drawing = generators if args.share_initial_noise else [generator for generator in generators for _ in range(n)]
    initial_noise = policy.initial_noise(len(drawing), args.height, args.width, drawing)
    shape = (n, len(window), *initial_noise.shape[1:])
    step_noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
    sampled = rollout(
        policy,
        model,
        initial_noise,
        step_noise.to(initial_noise.device),
        sigmas,
        conditioning,
        window.start,
        args.sde_type,
        args.noise_level,
        args.guidance_scale if args.cfg != "off" else without_cfg(policy, args.guidance_scale),
    )
    return sampled.latents, sampled.steps | {_CONDITIONING + name: tensor for name, tensor in conditioning.items()}


def join_buffers(parts: list[Buffer], advantages_PN: torch.Tensor) -> Buffer:
    """The chunks of a rollout as one, with the advantage of every transition: NaN where there is none."""
    buffer = concatenate(parts)
    candidate = buffer.pop("candidate").to(advantages_PN.device)
    prompt = buffer["prompt"].to(advantages_PN.device)
    advantages = advantages_PN[prompt[:, None], candidate.clamp(min=0)]
    buffer["advantages"] = advantages.masked_fill(candidate < 0, torch.nan)
    return buffer


def without_cfg(policy: FlowPolicy, guidance_scale: float) -> float:
    """The scale at which there is no classifier-free guidance; any other guidance stays as it is."""
    return policy.cfg_off_scale if policy.uses_cfg(guidance_scale) else guidance_scale


def training_guidance(policy: FlowPolicy, args: RPOConfig) -> float:
    """The scale at which the loss takes the velocity."""
    return args.guidance_scale if args.cfg == "both" else without_cfg(policy, args.guidance_scale)


def conditioning_of(inputs: Buffer) -> Conditioning:
    """What the policy was given at these rows."""
    of_prompts = {
        name.removeprefix(_CONDITIONING): tensor for name, tensor in inputs.items() if name.startswith(_CONDITIONING)
    }
    return select(of_prompts, inputs["prompt"])


def split_buffer(buffer: Buffer, num_batches: int, generator: random.Random) -> list[Buffer]:
    """
    The buffer as one batch per micro-step, its rows in random order, without those whose prompt was masked: they have
    no gradient.
    """
    active = (~buffer["advantages"].isnan()).any(1).nonzero().flatten().tolist()
    generator.shuffle(active)
    batches = []
    for index in torch.tensor(active, dtype=torch.long).tensor_split(num_batches):
        of_rows = {name: tensor for name, tensor in buffer.items() if not name.startswith(_CONDITIONING)}
        batch = buffer | select(of_rows, index if len(index) else torch.zeros(1, dtype=torch.long))
        if len(index) == 0:
            # every rank has to run forward and backward at every micro-step: a masked row, whose loss is 0
            batch["advantages"] = torch.full_like(batch["advantages"], torch.nan)
        batches.append(batch)
    return batches
