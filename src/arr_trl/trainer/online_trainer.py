"""What every trainer does that draws its own candidates: prompts, candidates, judges, rewards, advantages, a buffer."""

import logging
import random
import time
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset, IterableDataset
from peft import LoraConfig
from torch.profiler import record_function

from ..data import Size, batches_of_one_size, decode_columns, places_by_size
from ..judges import JudgeFuture, JudgeReward
from ..policies import passes_of_all
from ..runtime import create_repo
from ..runtime.finite import not_finite
from .budget import BudgetCallback, counts_cost
from .buffer import (
    Buffer,
    MicroStep,
    Sampled,
    buffers_by_size,
    judge_rows_of,
    masked_row,
    prompt_generators,
    random_at,
    split_buffers,
)
from .canary import Canary
from .checks import check_enough_prompts, check_first_verdicts
from .cost import Forwards, describe, unseen_prompts
from .flow_trainer import FlowTrainer
from .online_config import OnlineConfig
from .prompt_batches import PromptBatches
from .rollout_records import RolloutRecords
from .rollout_state import RolloutState
from .screen import follow_judges
from .trainable import Model
from .watch import HealthCallback


logger = logging.getLogger(__name__)


class OnlineTrainer(RolloutRecords, RolloutState, PromptBatches, FlowTrainer):
    """
    Base of trainers that draw candidates of each prompt, let judges compare them, and train on what those say. A
    subclass says how candidates are drawn and what is kept of them ([`~OnlineTrainer._draw`]), what rewards are worth
    ([`~OnlineTrainer._compute_advantages`]), and the loss of a row (`compute_loss`). See [`FlowTrainer`] for the
    arguments.
    """

    args: OnlineConfig

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.add_callback(HealthCallback(self.args.on_policy))
        self._step = 0  # micro-steps taken
        self._buffered_inputs: list[MicroStep] = []
        self._pending: Sampled | None = None  # with `pipelined_judge`, what is trained on next
        self._is_judged = False  # whether any candidate had a reward so far
        self._completions_repo = self._completions_on_the_hub()
        judges = {n: f for n, f in zip(self.reward_func_names, self.reward_funcs, strict=True) if f in self._judges}
        args, folder = self.args, Path(self.args.output_dir) / "canary"
        self._canary = Canary(folder, judges, args.canary_pairs, args.canary_tolerance, args.canary_every)
        if counts_cost(args):
            self.add_callback(BudgetCallback(self))

    def _check_arguments(
        self,
        model: Model,
        args: OnlineConfig,
        train_dataset: Dataset | IterableDataset | None,
        eval_dataset: Dataset | None,
        peft_config: LoraConfig | None,
    ) -> None:
        super()._check_arguments(model, args, train_dataset, eval_dataset, peft_config)
        check_enough_prompts(args, train_dataset)

    def _check_repositories(self, args: OnlineConfig) -> None:
        super()._check_repositories(args)
        if args.log_completions_hub_repo is not None and args.process_index == 0:
            args.log_completions_hub_repo = create_repo(
                args.log_completions_hub_repo, args.hub_private_repo, args.hub_token, kind="dataset"
            )

    # What a subclass says

    def _plan_rollout(self, random: random.Random) -> Any:
        """What the candidates of a whole rollout have in common, drawn from its randomness."""

    def _draw(
        self, rows: list[dict[str, Any]], size: Size, plan: Any, generators: list[torch.Generator]
    ) -> tuple[torch.Tensor, Buffer]:
        """
        Candidates of some rows, in one batch.

        Args:
            rows (`list[dict]`): `P` rows of the dataset.
            size (`tuple[int, int]`): height and width of the candidates.
            plan (`Any`): what [`~OnlineTrainer._plan_rollout`] returned for this rollout.
            generators (`list[torch.Generator]`): all that is random about a row's candidates comes from its own.

        Returns:
            `tuple(torch.Tensor, dict)`: finished latents `[P·n, L, C]`, those of a row adjacent; and the rows to train on.
        """
        raise NotImplementedError

    def _loss_of_rows(self, model: torch.nn.Module, inputs: Buffer) -> torch.Tensor:
        """
        The loss of the rows of a micro-step whose pictures have one size; those without an advantage have none.

        Args:
            model (`torch.nn.Module`): the network.
            inputs (`dict`): rows that [`~OnlineTrainer._draw`] left, with their `advantages` `[R, K]`.

        Returns:
            `torch.Tensor`: their sum, divided by `per_device_train_batch_size`.
        """
        raise NotImplementedError

    def _compute_advantages(self, rewards_NF: torch.Tensor) -> torch.Tensor:
        """
        What rewards are worth; override it to try another objective.

        Args:
            rewards_NF (`torch.Tensor`): `[P·n, F]`, NaN where a function gave none.

        Returns:
            `torch.Tensor`: `[P, n]`, NaN where a prompt is masked.
        """
        raise NotImplementedError

    def _noise_draws(self) -> list[int]:
        """How many candidates' initial noise each candidate of a row lets its generator draw before its own."""
        return list(range(self.args.num_generations))

    def _rollout_forwards(self) -> list[Forwards]:
        """What a rollout on this device costs: the least and the most, where it depends on what is drawn."""
        raise NotImplementedError

    def _arithmetic(self) -> list[tuple[str, str]]:
        processes, questions = self.accelerator.num_processes, self._questions_per_prompt()
        lines = describe(self.args, self._rollout_forwards(), processes, questions, self.policy)
        lines += self._described_sizes()
        total = 0 if self._streams() else len(self.train_dataset)
        if unseen := unseen_prompts(self.args, total, self._global_prompts()):
            lines.append(("unseen", f"{unseen} of {total} prompts are never seen with these settings"))
        return lines

    def passes_per_step(self) -> float:
        args, of_rollout = self.args, [forwards.total for forwards in self._rollout_forwards()]
        per_rollout = sum(of_rollout) / len(of_rollout)
        return per_rollout * args.gradient_accumulation_steps / args.steps_per_rollout

    def _prompts_of_a_batch(self) -> tuple[int, int]:
        return self.args.prompts_per_rollout, self.args.steps_per_rollout

    @property
    def _judges(self) -> list[JudgeReward]:
        return [func for func in self.reward_funcs if isinstance(func, JudgeReward)]

    def _questions_per_prompt(self) -> int:
        return sum(judge.questions_per_row(self.args.num_generations) for judge in self._judges)

    def train(self, *args, **kwargs):
        if self.accelerator.is_main_process:
            logger.info("What a step consists of:\n%s", self.batch_arithmetic())
        return super().train(*args, **kwargs)

    # Rollout

    def _guidance_in_rollout(self) -> float:
        """The scale at which candidates are drawn."""
        return self.args.guidance_scale if self.args.classifier_free_guidance != "off" else self._without_cfg()

    def _guidance_in_training(self) -> float:
        return self.args.guidance_scale if self.args.classifier_free_guidance == "both" else self._without_cfg()

    def _prepare_inputs(self, batch: list[int] | list[dict[str, Any]]) -> MicroStep:
        # Called at each micro-step with the prompts of the current rollout, which come as often as it is trained on.
        if self._step % self.args.steps_per_rollout == 0 or not self._buffered_inputs:
            sampled = self._sample(self._usable(batch))
            if not self.args.pipelined_judge:
                self._buffered_inputs = self._score(sampled)
            else:
                previous, self._pending = self._pending, sampled
                self._buffered_inputs = self._masked(sampled) if previous is None else self._score(previous)
            self.screen.training(self.args.gradient_accumulation_steps)
        return self._buffered_inputs[self._step % self.args.steps_per_generation]

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: MicroStep,
        return_outputs: bool = False,
        num_items_in_batch: int | None = None,
    ) -> torch.Tensor:
        return sum(self._loss_of_rows(model, rows) for rows in inputs)

    def training_step(self, *args, **kwargs) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        self._step += 1
        return loss

    def _sample(self, rows: list[dict[str, Any]]) -> Sampled:
        """Candidates of the rows, which judges begin to read."""
        n = self.args.num_generations
        number = self._step // self.args.steps_per_rollout
        random = random_at(self.args.seed, number)
        plan = self._plan_rollout(random)
        generators = prompt_generators(self.args.seed, number, self.accelerator.process_index * len(rows), len(rows))
        sizes = self._sizes_of(rows)
        order = [i for places in places_by_size(sizes).values() for i in places]
        rows, sizes, generators = ([of_rows[i] for i in order] for of_rows in (rows, sizes, generators))
        chunks = batches_of_one_size(sizes, self.args.rollout_batch_size or len(rows))
        (passes,) = passes_of_all(self.model_wrapped, [len(chunks)], self.accelerator.device)
        # one that sleeps has no room on the GPU before all is drawn
        judging: dict[JudgeReward, list[JudgeFuture]] = {judge: [] for judge in self._judges if not judge.sleeps}
        images, parts, begun, decode_s, failure = [], [], [], 0.0, None
        self.screen.doing("drawing", 0, len(rows))
        follow_judges(self.screen, list(judging), len(rows), n, begun)
        started = time.perf_counter()
        for places in chunks:
            start, end = places[0], places[-1] + 1
            some, size = rows[start:end], sizes[start]
            with record_function("rollout/sample"):
                latents, part = self._draw(some, size, plan, generators[start:end])
                if latents.device.type != "cpu":
                    torch.accelerator.synchronize()  # decoding would wait for the latents in any case
            decoding_at = time.perf_counter()
            if not latents.isfinite().all():
                failure = not_finite("latents", self.state.global_step + 1)
                continue  # with the other chunks: the other processes draw theirs
            try:
                with record_function("rollout/decode"):
                    decoded = self.policy.decode(latents, *size)
            except FloatingPointError as error:
                failure = error
                continue
            decode_s += time.perf_counter() - decoding_at
            part["prompt"] += start
            # judges read these while the next chunk is sampled
            for judge, asked in judging.items():
                asked.append(judge.submit(judge_rows_of(some, decoded, n)))
                begun.append((asked[-1], len(some)))
            images += decoded
            parts.append(part)
            self.screen.doing("drawing", end, len(rows))
        for _ in range(passes - len(chunks)):  # for processes that have more, and gather weights with this one
            self._draw(rows[:1], sizes[0], plan, [torch.Generator()])
        self._stop_together(failure, "What another process drew is not finite.")
        self._metrics["train"]["rollout/sample_s"].append(time.perf_counter() - started - decode_s)
        self._metrics["train"]["rollout/decode_s"].append(decode_s)
        seeds = [generator.initial_seed() for generator in generators]
        return Sampled(rows, sizes, images, parts, judging, seeds, random)

    def _score(self, sampled: Sampled) -> list[MicroStep]:
        """What each micro-step trains on, once the reward functions have answered."""
        if sampled.batches is not None:  # a checkpoint waited for them
            return sampled.batches
        started = time.perf_counter()
        rows, images, failure = sampled.rows, sampled.images, None
        if asleep := [judge for judge in self._judges if judge.sleeps]:
            torch.cuda.empty_cache()  # what the rollout took is for the judge
            follow_judges(self.screen, asleep, len(rows), self.args.num_generations)
        try:
            with record_function("rollout/reward"):
                given = rows if self._only_judges else decode_columns(rows, self.train_dataset)
                rewards_NF = self._calculate_rewards(given, images, self.args.num_generations, sampled.judging)
        except Exception as error:  # whatever the functions of users raise; what was trained is kept
            failure = error
        self._stop_together(failure, "The reward functions of another process failed.")
        if not self._is_judged:
            self._is_judged = any(gather_object([not rewards_NF.isnan().all().item()]))
            check_first_verdicts(self._judges, self._is_judged, self._last_failure())
        self._watch_rollout(given, images, rewards_NF)
        self._ask_canary(rows, images)
        advantages_PN = self._compute_advantages(rewards_NF)
        self._metrics["train"]["rollout/reward_s"].append(time.perf_counter() - started)
        self._log_rollout(sampled, rewards_NF, advantages_PN)
        return self._batches(sampled, advantages_PN)

    def _masked(self, sampled: Sampled) -> list[MicroStep]:
        """Nothing to train on yet: each micro-step has a loss of 0."""
        shape = len(sampled.rows), self.args.num_generations
        return self._batches(sampled, torch.full(shape, torch.nan, device=self.accelerator.device))

    def _batches(self, sampled: Sampled, advantages_PN: torch.Tensor) -> list[MicroStep]:
        buffers, args = buffers_by_size(sampled, advantages_PN), self.args
        batches = split_buffers(buffers, args.steps_per_generation, args.gradient_accumulation_steps, sampled.random)
        # where processes gather weights together, one that has rows of fewer sizes in a micro-step needs as many passes
        passes = passes_of_all(self.model_wrapped, [*map(len, batches)], self.accelerator.device)
        return [
            batch + [masked_row(buffers[0]) for _ in range(count - len(batch))]
            for batch, count in zip(batches, passes, strict=True)
        ]
