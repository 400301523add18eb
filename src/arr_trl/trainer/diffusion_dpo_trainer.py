"""Diffusion-DPO: training on pictures that people or judges preferred to others, in the flow form, without a rollout."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from datasets import Dataset, IterableDataset
from peft import LoraConfig
from torch.utils.data import Sampler

from ..data import PartStream, RepeatSampler, read_rows
from ..data.given_pictures import check_pairs, has_pairs
from ..judges import JudgeReward
from ..objectives import dpo_loss, rank_dpo_loss, sdpo_loss
from ..rewards import RewardFunc
from ..sampling import add_noise
from .buffer import Buffer, prompt_generators
from .cost import passes_of_a_step
from .diffusion_dpo_config import DiffusionDPOConfig
from .ema import released_weights
from .evaluation import share_of
from .flow_trainer import FlowTrainer
from .given_points import given_points, levels_of
from .label_check import check_labels
from .preference_card import preference_facts
from .preference_watch import PreferenceCallback, SyncReferenceCallback, preference_metrics, prompts_of
from .row_batches import RowBatches
from .trainable import Model


class DiffusionDPOTrainer(RowBatches, FlowTrainer):
    """
    Trainer for Diffusion-DPO ([paper](https://huggingface.co/papers/2311.12908)) and its relatives, for the flow-matching
    pipelines of diffusers. Nothing is sampled: pictures that were preferred to others are noised to several levels, and the
    network is led to predict the preferred ones better than the others, compared with a reference that it is held to.

    Example:

    ```python
    from arr_trl import DiffusionDPOConfig, DiffusionDPOTrainer
    from arr_trl.data.preference_rows import preference_rows

    trainer = DiffusionDPOTrainer(
        model="black-forest-labs/FLUX.1-dev",
        args=DiffusionDPOConfig(output_dir="DPO-FLUX.1-dev", max_steps=1000),
        train_dataset=preference_rows("yuvalkirstain/pickapic_v2", streaming=True),
    )
    trainer.train()
    ```

    Args:
        model, eval_funcs, peft_config, callbacks, optimizers, watch_funcs:
            As in [`RPOTrainer`].
        args ([`DiffusionDPOConfig`], *optional*):
            Configuration. If `None`, a default one is used.
        train_dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`]):
            Rows with `prompt`, `chosen` and `rejected`, pictures of any kind that [`~arr_trl.data.load_image`] takes; with
            `loss_type="rank"` also rows with `images`, a list, and `scores`, more is better, or `label_rank`, 1 for the best.
            Pipelines that edit need a `source_image`. [`~arr_trl.data.preference_rows.preference_rows`] makes them of what is
            published.
        eval_dataset ([`~datasets.Dataset`], *optional*):
            Held-out rows of the same kind, on which the implicit accuracy is measured, and of whose prompts base and trained
            draw pictures; or prompts alone.
        reward_funcs (`RewardFunc` or `list[RewardFunc]`, *optional*):
            Judges that compare base and trained in evaluations, and are asked before training whether they would have
            labelled the pairs likewise. Nothing is rewarded in training.
    """

    _tag_names = ["arr_trl", "diffusion-dpo"]
    _name = "DiffusionDPO"
    _paper = {"title": "Diffusion Model Alignment Using Direct Preference Optimization", "id": "2311.12908"}
    _config_class = DiffusionDPOConfig

    args: DiffusionDPOConfig

    def __init__(
        self,
        model: Model,
        args: DiffusionDPOConfig | None = None,
        train_dataset: Dataset | IterableDataset | None = None,
        eval_dataset: Dataset | None = None,
        reward_funcs: RewardFunc | list[RewardFunc] | None = None,
        eval_funcs: Callable | list[Callable] | None = None,
        **kwargs: Any,
    ):
        rewards = [] if reward_funcs is None else reward_funcs
        super().__init__(model, rewards, args, train_dataset, eval_dataset, eval_funcs, **kwargs)
        self.policy.pictures.max_rows = self.args.max_cached_pictures
        self._micro_step = 0  # of those of an optimizer step
        self._levels = levels_of(self.policy, self.args)
        self.add_callback(PreferenceCallback())
        if self.args.sync_ref_model:
            self.add_callback(SyncReferenceCallback())

    def _check_arguments(
        self,
        model: Model,
        args: DiffusionDPOConfig,
        train_dataset: Dataset | IterableDataset | None,
        eval_dataset: Dataset | None,
        peft_config: LoraConfig | None,
    ) -> None:
        super()._check_arguments(model, args, train_dataset, eval_dataset, peft_config)
        check_pairs(train_dataset, "train_dataset", args.loss_type == "rank", args.pair_noise == "own")
        if eval_dataset is not None and has_pairs(eval_dataset.column_names):
            check_pairs(eval_dataset, "eval_dataset", args.loss_type == "rank", args.pair_noise == "own")
        needed = args.pairs_per_step * args.world_size
        if isinstance(train_dataset, Dataset) and len(train_dataset) < needed:
            raise ValueError(
                f"train_dataset has {len(train_dataset)} rows, and one optimizer step takes {needed}; add some or lower "
                "per_device_train_batch_size × gradient_accumulation_steps."
            )

    def _sizes_of_rows(self, train_dataset: Dataset | IterableDataset, eval_dataset: Dataset | None) -> dict[str, int]:
        # pairs are cut to one size; what such columns say is of the pictures as they were
        has_prompts_alone = eval_dataset is not None and not has_pairs(eval_dataset.column_names)
        return super()._sizes_of_rows(None, eval_dataset if has_prompts_alone else None)

    def _arithmetic(self) -> list[tuple[str, str]]:
        args, processes = self.args, self.accelerator.num_processes
        pairs = args.pairs_per_step * processes
        rows = "rankings" if args.loss_type == "rank" else "pairs"
        passes = 4 * args.num_train_points
        return [
            ("optimizer step", f"{pairs} {rows}{f' on {processes} devices' if processes > 1 else ''}"),
            ("loss", f"each picture at {args.num_train_points} noise levels"),
            ("transformer", f"{passes} passes for each pair, half of them of the reference"),
        ]

    def passes_per_step(self) -> float:
        return passes_of_a_step(self.args, guided=False)

    # Data

    def _rows_of_a_batch(self) -> int:
        return self.args.per_device_train_batch_size

    def _place_in_stream(self) -> int:
        return self.state.global_step

    def _stream_of(self, dataset: IterableDataset) -> PartStream:
        args, rows = self.args, self._global_rows()
        shuffling = args.shuffle_dataset, args.prompt_seed, args.shuffle_buffer_size
        return PartStream(dataset, rows, args.gradient_accumulation_steps, *shuffling)

    def _get_train_sampler(self, dataset: Dataset | None = None) -> Sampler:
        # whole optimizer steps, so that none has fewer rows at the end of an epoch
        args, rows = self.args, len(self.train_dataset if dataset is None else dataset)
        return RepeatSampler(rows, self._global_rows(), 1, args.shuffle_dataset, args.prompt_seed)

    def _global_rows(self) -> int:
        """Rows of an optimizer step."""
        return self.args.pairs_per_step * self.accelerator.num_processes

    def train(self, *args, **kwargs):
        judge = next((func for func in self.reward_funcs if isinstance(func, JudgeReward)), None)
        if judge is not None and self.args.num_label_checks and self.accelerator.is_main_process:
            check_labels(judge, self.train_dataset, self.args.num_label_checks)
        self._micro_step = 0
        return super().train(*args, **kwargs)

    def _guidance_in_training(self) -> float:
        return self._without_cfg()

    def _prepare_inputs(self, batch: list[int] | list[dict[str, Any]]) -> Buffer:
        points: Buffer = {}
        first = (self._micro_step * self.accelerator.num_processes + self.accelerator.process_index) * len(batch)
        generators = prompt_generators(self.args.seed, self.state.global_step, first, len(batch))
        with self._used_together():
            rows, places = self._rows_of(batch), [None] * len(batch) if self._streams() else batch
            # of the data that the rows were made of, where they know it
            numbers = [row.get("row", place) for row, place in zip(rows, places, strict=True)]
            points = self._points(rows, numbers, generators)
        return points

    def training_step(self, *args, **kwargs) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        self._micro_step = (self._micro_step + 1) % self.args.gradient_accumulation_steps
        if self._stream is not None:
            self._stream.state_dict(self.state.global_step)  # which forgets where earlier steps began
        return loss

    def _points(self, rows: list[dict[str, Any]], numbers: list[Any], generators: list[torch.Generator]) -> Buffer:
        return given_points(rows, numbers, generators, self.policy, self.args, self._levels)

    # Loss

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Buffer,
        return_outputs: bool = False,
        num_items_in_batch: int | None = None,
    ) -> torch.Tensor:
        velocity, reference, target = self._velocities(model, inputs)
        measured = preference_metrics(velocity.detach(), reference, target, inputs["scores"], self.args.beta)
        for name, values in measured.items():
            self._metrics["train"][name].append(values)
        return self._preference_loss(velocity, reference, target, inputs["scores"]).mean()

    def _preference_loss(
        self, velocity: torch.Tensor, reference_velocity: torch.Tensor, target: torch.Tensor, scores: torch.Tensor
    ) -> torch.Tensor:
        """
        The loss of every row; override it to try another.

        Args:
            velocity (`torch.Tensor`): `[B, n, K·L, C]`, the points of a picture one after the other, with gradient.
            reference_velocity (`torch.Tensor`): `[B, n, K·L, C]`.
            target (`torch.Tensor`): `[B, n, K·L, C]`, ε - x0.
            scores (`torch.Tensor`): `[B, n]`, more is better; of a pair 1 and 0.

        Returns:
            `torch.Tensor`: `[B]`.
        """
        args = self.args
        if args.loss_type == "sdpo":
            return sdpo_loss(velocity, reference_velocity, target, args.beta)
        if args.loss_type == "rank":
            return rank_dpo_loss(velocity, reference_velocity, target, scores, args.beta)
        loss = dpo_loss(
            velocity,
            velocity,
            target,
            scores,
            scores,
            reference_velocity=reference_velocity,
            beta=args.beta,
            label_smoothing=args.label_smoothing,
        )
        return loss.sum(1)

    def _velocities(self, model: torch.nn.Module, inputs: Buffer) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """
        Velocities of the trained network and of the reference, and what they should be, `[B, n, K·L, C]`: a mean over the
        latent dimensions is then one over noise levels too, which is what belongs inside the sigmoid.
        """
        latents, target = add_noise(inputs["x0"], inputs["noise"], inputs["sigma"])
        velocity = self._velocity_of_groups(model, latents, inputs)
        reference = self._velocity_of_groups(model, latents, inputs, self._reference_velocity)
        K = self.args.num_train_points
        return tuple(t.unflatten(0, (-1, K)).transpose(1, 2).flatten(2, 3) for t in (velocity, reference, target))

    # Evaluation

    def evaluate(
        self,
        eval_dataset: Dataset | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """
        Measure how often the trained model finds the preferred picture of held-out pairs likelier than its reference does,
        compared with the other one, under fixed noise; then compare it with its base as other trainers do, see
        [`~arr_trl.RPOTrainer.evaluate`], on the prompts of these pairs.

        Returns:
            `dict[str, float]`: `eval_rewards/accuracies` and the like, and what there is of a comparison.
        """
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if dataset is None or not has_pairs(dataset.column_names):
            return super().evaluate(dataset, ignore_keys, metric_key_prefix)
        self._measure_pairs(dataset)
        looked_at = bool(self.reward_funcs or self.eval_funcs or self.watch_funcs)
        count = self.args.num_eval_prompts if looked_at else self.args.num_eval_samples
        return super().evaluate(prompts_of(dataset, count), ignore_keys, metric_key_prefix)

    @torch.no_grad()
    def _measure_pairs(self, dataset: Dataset) -> None:
        """Fill in the metrics of the evaluation that follows."""
        args, size = self.args, self.args.per_device_train_batch_size
        places, counted = share_of(self.accelerator.process_index, self.accelerator.num_processes, len(dataset))
        with released_weights(self.accelerator.unwrap_model(self.model_wrapped)):
            for start in range(0, len(places), size):
                some = places[start : start + size]
                generators = [torch.Generator().manual_seed(args.eval_seed + place) for place in some]
                points, failure = {}, None
                try:
                    points = self._points(read_rows(dataset, some), list(some), generators)
                except Exception as error:  # the others wait for this process
                    failure = error
                self._stop_together(failure, "A row of another process cannot be evaluated on.")
                velocities = self._velocities(self.model_wrapped, points)
                measured = preference_metrics(*velocities, points["scores"], args.beta)
                for name, values in measured.items():
                    self._metrics["eval"][name].append(values[: max(counted - start, 0)])

    def _measured_as_trained(self, *args) -> dict[str, float] | None:
        of_pairs, self._metrics["eval"] = self._metrics["eval"], defaultdict(list)
        found = super()._measured_as_trained(*args)
        self._metrics["eval"] = of_pairs  # what was measured of pairs belongs to the evaluation itself
        return found

    def _card_facts(self) -> dict[str, Any]:
        return {"preferences": preference_facts(self.train_dataset, self.eval_dataset, self.state.log_history)}
