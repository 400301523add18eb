"""Candidates that wait for their judges, and the buffer of rows that the loss is computed on."""

from dataclasses import dataclass, field
from itertools import islice
from random import Random
from typing import Any

import torch
from PIL import Image

from ..data import SOURCE_COLUMN, Size, places_by_size
from ..judges import JudgeFuture, JudgeReward, JudgeRow
from ..policies import Conditioning, concatenate, select


# One row per forward pass of training, each with all that its loss needs: `prompt`, the number of its prompt `[R]`,
# `candidate`, those within it that share the pass `[R, K]`, -1 in empty places, and what the trainer puts beside them. The
# conditioning has one row per prompt.
Buffer = dict[str, torch.Tensor]

# What a micro-step trains on: rows of each size in a buffer of their own, since they go through the network together.
MicroStep = list[Buffer]

_CONDITIONING = "conditioning."


@dataclass
class Sampled:
    """
    A rollout, whose candidates may still be with the judges.

    Args:
        rows (`list[dict]`): rows of the dataset.
        sizes (`list[tuple[int, int]]`): height and width of the candidates of each row; those of one size are adjacent.
        images (`list[PIL.Image.Image]`): the candidates, those of a row adjacent.
        parts (`list[dict]`): the rows that are trained on, chunk by chunk, each of one size.
        judging (`dict`): what the judges were asked.
        seeds (`list[int]`): of the generator of each row's noise.
        random (`random.Random`): randomness of the rollout.
        batches (`list[list[dict]]`, *optional*): what each micro-step trains on, once the candidates were judged.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    sizes: list[Size] = field(default_factory=list)
    images: list[Image.Image] = field(default_factory=list)
    parts: list[Buffer] = field(default_factory=list)
    judging: dict[JudgeReward, list[JudgeFuture]] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=list)
    random: Random = field(default_factory=Random)
    batches: list[MicroStep] | None = None


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


def buffers_by_size(sampled: Sampled, advantages_PN: torch.Tensor) -> list[Buffer]:
    """The rows of a rollout that are trained on, those of each size in one buffer; see [`join_buffers`]."""
    sizes = [sampled.sizes[part["prompt"][0]] for part in sampled.parts]
    return [
        join_buffers([sampled.parts[i] for i in places], advantages_PN) for places in places_by_size(sizes).values()
    ]


def join_buffers(parts: list[Buffer], advantages_PN: torch.Tensor) -> Buffer:
    """The chunks of pictures of one size as one, with the advantage of every transition: NaN where there is none."""
    buffer = concatenate(parts)
    candidate = buffer.pop("candidate").to(advantages_PN.device)
    prompt = buffer["prompt"].to(advantages_PN.device)
    advantages = advantages_PN[prompt[:, None], candidate.clamp(min=0)]
    buffer["advantages"] = advantages.masked_fill(candidate < 0, torch.nan)
    buffer["prompt"] -= buffer["prompt"].min()  # the conditioning is of these prompts alone
    return buffer


def conditioning_of(inputs: Buffer) -> Conditioning:
    """What the policy was given at these rows."""
    of_prompts = {
        name.removeprefix(_CONDITIONING): tensor for name, tensor in inputs.items() if name.startswith(_CONDITIONING)
    }
    return select(of_prompts, inputs["prompt"])


def split_buffers(buffers: list[Buffer], num_batches: int, of_update: int, generator: Random) -> list[MicroStep]:
    """
    The buffers, one for each size, as what each micro-step trains on: their rows in random order, without those whose prompt
    was masked, which have no gradient. Among the micro-steps of an optimizer step, `of_update` of them, rows of one size come
    one after the other, so that few micro-steps have several.
    """
    active = [
        (number, row)
        for number, buffer in enumerate(buffers)
        for row in (~buffer["advantages"].isnan()).any(1).nonzero().flatten().tolist()
    ]
    generator.shuffle(active)
    lengths = [len(part) for part in torch.arange(len(active)).tensor_split(num_batches)]
    steps: list[MicroStep] = []
    for start in range(0, num_batches, of_update):
        count = sum(lengths[start : start + of_update])
        rows, active = iter(sorted(active[:count], key=lambda row: row[0])), active[count:]
        for length in lengths[start : start + of_update]:
            of_step: dict[int, list[int]] = {}
            for number, row in islice(rows, length):
                of_step.setdefault(number, []).append(row)
            parts = [_rows_of(buffers[number], some) for number, some in of_step.items()]
            # every rank has to run forward and backward at every micro-step
            steps.append(parts or [masked_row(buffers[0])])
    return steps


def masked_row(buffer: Buffer) -> Buffer:
    """A row whose loss is 0: a forward and a backward that nothing comes of."""
    row = _rows_of(buffer, [0])
    return row | {"advantages": torch.full_like(row["advantages"], torch.nan)}


def micro_steps_of(saved: list[MicroStep | Buffer]) -> list[MicroStep]:
    """Those of a checkpoint; older ones have a buffer for each, of pictures of one size."""
    return [[step] if isinstance(step, dict) else step for step in saved]


def _rows_of(buffer: Buffer, rows: list[int]) -> Buffer:
    of_rows = {name: tensor for name, tensor in buffer.items() if not name.startswith(_CONDITIONING)}
    return buffer | select(of_rows, torch.tensor(rows))
