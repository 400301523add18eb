"""Diffusion-DPO: training on pictures that people or judges preferred to others, in the flow form, without a rollout."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from datasets import Dataset, IterableDataset
from peft import LoraConfig
from torch.utils.data import DataLoader, Sampler

from ..data import PartStream, RepeatSampler, RowError, read_rows
from ..data.given_pictures import check_pairs, decode_pairs, has_pairs
from ..judges import JudgeReward
from ..objectives import dpo_loss, rank_dpo_loss, sdpo_loss
from ..rewards import RewardFunc
from ..sampling import add_noise, levels_to_train, logit_normal, stratified
from .buffer import Buffer, prompt_generators, with_conditioning
from .diffusion_dpo_config import DiffusionDPOConfig
from .ema import released_weights
from .evaluation import share_of
from .flow_trainer import FlowTrainer
from .label_check import check_labels
from .preference_card import preference_facts
from .preference_watch import PreferenceCallback, SyncReferenceCallback, preference_metrics, prompts_of
from .trainable import Model


class DiffusionDPOTrainer(FlowTrainer):
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
        self._stream: PartStream | None = None
        self._levels = self._schedule()
        self.add_callback(PreferenceCallback())
        if self.args.sync_ref_model:
            self.add_callback(SyncReferenceCallback())

    def _check_arguments(
        self,
        model: Model,
        args: DiffusionDPOConfig,
        train_dataset: Dataset | IterableDataset | None,
        eval_dataset: Dataset | None,
        peft_config: LoraConfig,
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

    def _schedule(self) -> torch.Tensor | None:
        """The levels that are drawn from, where they are those of a schedule."""
        args = self.args
        if args.timestep_sampling != "schedule":
            return None
        sigmas = self.policy.sigmas(args.eval_num_inference_steps, args.height, args.width)
        return levels_to_train(sigmas, args.timestep_range, args.num_train_points, "eval_num_inference_steps")

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
        return (
            6 * self.args.num_train_points * self.args.pairs_per_step
        )  # of both pictures: forward, backward, reference

    # Data

    def get_train_dataloader(self) -> DataLoader:
        # places, so that a picture is decoded here and a broken one is a sentence
        dataset = self.train_dataset if self._streams() else range(len(self.train_dataset))
        if self._streams():
            args = self.args
            dataset = self._stream = PartStream(
                dataset,
                self._global_rows(),
                args.gradient_accumulation_steps,
                args.shuffle_dataset,
                args.prompt_seed,
                args.shuffle_buffer_size,
            )
            if self.last_checkpoint is not None:
                self._stream.load_state_dict(self._load_process_state(self.last_checkpoint)["stream"])
        return self._get_dataloader(
            dataset=dataset,
            description="Training",
            batch_size=self.args.per_device_train_batch_size,
            sampler_fn=self._get_train_sampler,
            is_training=True,
        )

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
        rows, places = (
            (batch, [None] * len(batch)) if self._streams() else (read_rows(self.train_dataset, batch), batch)
        )
        # of the data that the rows were made of, where they know it
        numbers = [row.get("row", place) for row, place in zip(rows, places, strict=True)]
        first = (self._micro_step * self.accelerator.num_processes + self.accelerator.process_index) * len(rows)
        generators = prompt_generators(self.args.seed, self.state.global_step, first, len(rows))
        points, failure = {}, None
        try:
            points = self._points(rows, numbers, generators)
        except ValueError as error:
            failure = RowError(str(error))
        except Exception as error:  # whatever disks, networks and encoders raise: the others wait for an answer
            failure = error
        self._stop_together(failure, "A row of another process cannot be used.")
        return points

    def training_step(self, *args, **kwargs) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        self._micro_step = (self._micro_step + 1) % self.args.gradient_accumulation_steps
        if self._stream is not None:
            self._stream.state_dict(self.state.global_step)  # which forgets where earlier steps began
        return loss

    def _points(self, rows: list[dict[str, Any]], numbers: list[Any], generators: list[torch.Generator]) -> Buffer:
        """What is trained on: the pictures of `B` rows, each row at `K` noise levels, and so `B·K` rows of a buffer."""
        args, policy, K = self.args, self.policy, self.args.num_train_points
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
        sigma = logit_normal(K, draws) if self._levels is None else stratified(self._levels, K, draws)
        if args.pair_noise == "own":
            noise = torch.stack([self._own_noise(row) for row in rows]).repeat_interleave(K, 0)
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

    def _own_noise(self, row: dict[str, Any]) -> torch.Tensor:
        """The noise `[2, L, C]` that the pictures of a pair were drawn from."""
        noise = []
        for name, size in zip(("chosen_noise", "rejected_noise"), row["sizes"], strict=True):
            if not row.get(name):
                raise ValueError(f"The row with the prompt {row['prompt'][:80]!r} has no `{name}`; leave it out.")
            if size != (self.args.width, self.args.height):
                raise ValueError(
                    f"The row with the prompt {row['prompt'][:80]!r} has a picture of {size[0]} × {size[1]} pixels, and its "
                    f"noise is of that size: pair_noise='own' needs width={size[0]} and height={size[1]}."
                )
            seed, before = row[name]
            generator = torch.Generator().manual_seed(seed)
            for _ in range(before + 1):
                drawn = self.policy.initial_noise(1, self.args.height, self.args.width, [generator])
            noise.append(drawn[0])
        return torch.stack(noise)

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
            self._metrics["train"][name] += values
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
                    self._metrics["eval"][name] += values[: max(counted - start, 0)]

    def _measured_as_trained(self, *args) -> dict[str, float] | None:
        of_pairs, self._metrics["eval"] = self._metrics["eval"], defaultdict(list)
        found = super()._measured_as_trained(*args)
        self._metrics["eval"] = of_pairs  # what was measured of pairs belongs to the evaluation itself
        return found

    def _card_facts(self) -> dict[str, Any]:
        return {"preferences": preference_facts(self.train_dataset, self.eval_dataset, self.state.log_history)}

    # What a checkpoint holds beside

    def _process_state(self) -> dict[str, Any]:
        stream = None if self._stream is None else self._stream.state_dict(self.state.global_step)
        return super()._process_state() | {"stream": stream}
