"""A judge that learns to write reasons that end in the right score, from which of two pictures people preferred."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import Sampler
from trl import GRPOTrainer

from ..data.repeat import RepeatSampler
from ..judges import Preset
from ..trainer.buffer import random_at
from .gcpo_config import GCPOConfig
from .judge_trainer import JudgeTrainer
from .own_draws import OwnDraws
from .rows import SIDES
from .trace_rewards import PairRewards, score_of


class PairSampler(RepeatSampler):
    """
    Rows of [`question_rows`] for TRL's batches of traces: the two rows of a pair next to each other, each as often as there
    are traces about it, pairs in a new order in each epoch.

    Args:
        num_pairs (`int`): labelled pairs.
        num_generations (`int`): traces about each picture.
        pairs_per_step (`int`): pairs of an optimizer step, over all processes.
        repeat_count (`int`): micro-steps of a step.
        seed (`int`): seed of the orders.
    """

    def __init__(self, num_pairs: int, num_generations: int, pairs_per_step: int, repeat_count: int, seed: int):
        super().__init__(num_pairs, pairs_per_step, repeat_count, shuffle=True, seed=seed)
        self.num_generations = num_generations

    def __iter__(self) -> Iterator[int]:
        for pair in super().__iter__():
            yield from [2 * pair] * self.num_generations + [2 * pair + 1] * self.num_generations

    def __len__(self) -> int:
        return 2 * self.num_generations * super().__len__()


class GCPOTrainer(JudgeTrainer, GRPOTrainer):
    """
    Group-contrastive preference optimization of a judge that writes reasons and then a score (Edit-R1,
    [paper](https://huggingface.co/papers/2604.27505)), on TRL's [`~trl.GRPOTrainer`].

    Traces are drawn about both pictures of a labelled pair. A trace about the preferred one is rewarded with the share of
    the other's traces that score lower, a trace about the other one with the share that score higher: both groups have the
    same mean reward. Advantages are rewards minus that mean. A trace whose score cannot be read has none, and is compared
    with nobody. Where a pair is separated, right or wrong, nothing is learned, so that a judge has to know something
    already: begin with [`FirstTokenSFTTrainer`] or a trained one.

    What a trace draws follows from the run's seed, the step, the pair, the side and the trace's number, so that the same
    global batch is the same run on any number of processes; with `use_vllm`, vLLM draws as it will.

    Args:
        train_dataset ([`~datasets.Dataset`]): rows of [`question_rows`].
        preset ([`~arr_trl.judges.Preset`]): the question, whose reader reads the traces.
        args ([`GCPOConfig`]): the configuration.
        *args, **kwargs: as of [`~trl.GRPOTrainer`], without reward functions, and of [`JudgeTrainer`].

    Raises:
        `ValueError`: when there are fewer pairs than an optimizer step has.
    """

    args: GCPOConfig

    def __init__(self, *positional: Any, preset: Preset, args: GCPOConfig, train_dataset: Dataset, **kwargs: Any):
        if len(train_dataset) // 2 < args.pairs_per_step:
            raise ValueError(
                f"There are {len(train_dataset) // 2} pairs, and an optimizer step has {args.pairs_per_step}; lower "
                "`gradient_accumulation_steps` or give more pairs."
            )
        rewards = PairRewards(partial(score_of, preset), args.pair_reward)
        logging.getLogger(GRPOTrainer.__module__).addFilter(_is_not_of_unreadable)
        super().__init__(
            *positional, preset=preset, args=args, train_dataset=train_dataset, reward_funcs=[rewards], **kwargs
        )

    def card_settings(self) -> dict[str, Any]:
        args = self.args
        return super().card_settings() | {
            name: getattr(args, name) for name in ("pair_reward", "num_generations", "beta", "epsilon", "temperature")
        }

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self._generators = trace_generators(self.args.seed, self.state.global_step, inputs)
        return super()._generate_and_score_completions(inputs)

    def _generate_single_turn(self, *args: Any, **kwargs: Any):
        with OwnDraws(self._generators):
            return super()._generate_single_turn(*args, **kwargs)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler:
        args, rows = self.args, self.train_dataset if train_dataset is None else train_dataset
        return PairSampler(
            len(rows) // 2, args.num_generations, args.pairs_per_step, args.steps_per_generation, args.seed
        )


def _is_not_of_unreadable(record: logging.LogRecord) -> bool:
    """Not TRL's warning of a trace without a reward, which has the whole row in it: they are counted, and told once."""
    return "All reward functions returned None" not in str(record.msg)


def trace_generators(seed: int, step: int, rows: Sequence[Mapping[str, Any]]) -> list[torch.Generator]:
    """
    A generator for each trace of a step, which depends on nothing that differs between processes.

    Args:
        seed (`int`): seed of the run.
        step (`int`): optimizer steps before this one.
        rows (`Sequence[Mapping]`): a row of [`question_rows`] for each trace; alike rows are told apart by their order.
    """
    seen: Counter[tuple[int, int]] = Counter()
    generators = []
    for row in rows:
        asked = (row["pair"], SIDES.index(row["side"]))
        generators.append(torch.Generator().manual_seed(random_at(seed, step, *asked, seen[asked]).getrandbits(63)))
        seen[asked] += 1
    return generators
