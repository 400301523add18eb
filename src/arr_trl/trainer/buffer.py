"""Candidates that wait for their judges, and the buffer of rows that the loss is computed on."""

from dataclasses import dataclass, field
from random import Random
from typing import Any

import torch
from PIL import Image

from ..data import SOURCE_COLUMN
from ..judges import JudgeFuture, JudgeReward, JudgeRow
from ..policies import Conditioning, concatenate, select


# One row per forward pass of training, each with all that its loss needs: `prompt`, the number of its prompt `[R]`,
# `candidate`, those within it that share the pass `[R, K]`, -1 in empty places, and what the trainer puts beside them. The
# conditioning has one row per prompt.
Buffer = dict[str, torch.Tensor]

_CONDITIONING = "conditioning."


@dataclass
class Sampled:
    """
    A rollout, whose candidates may still be with the judges.

    Args:
        rows (`list[dict]`): rows of the dataset.
        images (`list[PIL.Image.Image]`): the candidates, those of a row adjacent.
        parts (`list[dict]`): the rows that are trained on, chunk by chunk.
        judging (`dict`): what the judges were asked.
        seeds (`list[int]`): of the generator of each row's noise.
        random (`random.Random`): randomness of the rollout.
        batches (`list[dict]`, *optional*): what each micro-step trains on, once the candidates were judged.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    images: list[Image.Image] = field(default_factory=list)
    parts: list[Buffer] = field(default_factory=list)
    judging: dict[JudgeReward, list[JudgeFuture]] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=list)
    random: Random = field(default_factory=Random)
    batches: list[Buffer] | None = None


def random_at(*numbers: int) -> Random:
    """
    Randomness of a point in a run: seed, number of the rollout and, where it matters, number of the prompt. What is
    drawn depends neither on the number of devices nor on what was drawn before, so that a resumed run needs no state.
    """
    return Random(" ".join(map(str, numbers)))


def prompt_generators(seed: int, rollout: int, first: int, count: int) -> list[torch.Generator]:
    """A generator of noise for each of `count` prompts from number `first` of the rollout's global batch on."""
    seeds = [random_at(seed, rollout, prompt).getrandbits(63) for prompt in range(first, first + count)]
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def judge_rows_of(rows: list[dict[str, Any]], images: list[Image.Image], num_generations: int) -> list[JudgeRow]:
    """The candidates of each row, as a judge takes those that it rewards."""
    groups = [tuple(images[i : i + num_generations]) for i in range(0, len(images), num_generations)]
    return [
        JudgeRow(r["prompt"], group, r.get(SOURCE_COLUMN), rewarded=True, columns=r)
        for r, group in zip(rows, groups, strict=True)
    ]


def with_conditioning(rows: Buffer, conditioning: Conditioning) -> Buffer:
    """Rows of a buffer beside the conditioning of their prompts."""
    return rows | {_CONDITIONING + name: tensor for name, tensor in conditioning.items()}


def join_buffers(parts: list[Buffer], advantages_PN: torch.Tensor) -> Buffer:
    """The chunks of a rollout as one, with the advantage of every transition: NaN where there is none."""
    buffer = concatenate(parts)
    candidate = buffer.pop("candidate").to(advantages_PN.device)
    prompt = buffer["prompt"].to(advantages_PN.device)
    advantages = advantages_PN[prompt[:, None], candidate.clamp(min=0)]
    buffer["advantages"] = advantages.masked_fill(candidate < 0, torch.nan)
    return buffer


def conditioning_of(inputs: Buffer) -> Conditioning:
    """What the policy was given at these rows."""
    of_prompts = {
        name.removeprefix(_CONDITIONING): tensor for name, tensor in inputs.items() if name.startswith(_CONDITIONING)
    }
    return select(of_prompts, inputs["prompt"])


def split_buffer(buffer: Buffer, num_batches: int, generator: Random) -> list[Buffer]:
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
