"""Training by the gradient of a reward, passed back through the steps that drew a picture: AlignProp and its relatives."""

from typing import Any

import torch
from datasets import Dataset, IterableDataset
from peft import LoraConfig
from PIL import Image
from torch.profiler import record_function
from torch.utils.data import Sampler

from ..data import RepeatSampler, Size, batches_of_one_size, decode_columns, places_by_size
from ..objectives import combine_rewards, velocity_kl
from ..policies import Conditioning
from ..rewards import RewardFunc, call, get_callable_name, read_rewards
from ..rewards.pixels import as_pixels
from ..rewards.with_gradient import BASE_PIXELS, asks_for_base_pixels, pixel_rewards
from ..sampling import Velocity, decode_one_by_one, denoise, denoise_with_gradient, jump_to_end, leap
from .align_prop_config import AlignPropConfig
from .buffer import prompt_generators, random_at
from .checks import check_judges_and_scorers, check_rewards_have_gradients
from .cost import backprop_forwards, describe_backprop, passes_of_a_step
from .flow_trainer import FlowTrainer
from .frozen_copies import use_frozen_copy
from .pixel_records import PixelRecords
from .prompt_batches import PromptBatches
from .trainable import Model


class AlignPropTrainer(PixelRecords, PromptBatches, FlowTrainer):
    """
    Trainer for rewards with a gradient, which is passed back through the last steps of a picture's way from noise, or
    through others: AlignProp ([paper](https://huggingface.co/papers/2310.03739)), DRaFT, ReFL, DRTune and LeapAlign, for the
    flow-matching pipelines of diffusers. There are no candidates to compare.

    Example:

    ```python
    from arr_trl import AlignPropConfig, AlignPropTrainer
    from datasets import load_dataset


    def brightness(prompts, pixels, **columns):
        return pixels.mean((1, 2, 3))


    trainer = AlignPropTrainer(
        model="black-forest-labs/FLUX.1-dev",
        reward_funcs=brightness,
        args=AlignPropConfig(output_dir="AlignProp-FLUX.1-dev"),
        train_dataset=load_dataset("json", data_files="prompts.jsonl", split="train"),
    )
    trainer.train()
    ```

    Args:
        model, train_dataset, eval_dataset, eval_funcs, peft_config, callbacks, optimizers, watch_funcs:
            As in [`RPOTrainer`]. What is only watched is asked in evaluations.
        reward_funcs (`Callable` or `list[Callable]`):
            Functions `f(prompts, pixels, **columns)` of pixels `[B, 3, H, W]` from 0 to 1, which return a tensor `[B]` with
            a gradient. `columns` are the dataset's, and what other reward functions get. One that names an argument
            `base_pixels` also gets the pictures that the base draws from the same noise.
        eval_reward_funcs (`Callable` or `list[Callable]`, *optional*):
            Judges, or other functions of finished pictures, by which evaluations compare the trained model with its base.
            By default the reward itself does, and sees nothing of its own faults.
        args ([`AlignPropConfig`], *optional*):
            Configuration. If `None`, a default one is used.

    Raises:
        `TypeError`: when a judge is among `reward_funcs`.
    """

    _tag_names = ["arr_trl", "align-prop"]
    _name = "AlignProp"
    _paper = {"title": "Aligning Text-to-Image Diffusion Models with Reward Backpropagation", "id": "2310.03739"}
    _config_class = AlignPropConfig

    args: AlignPropConfig

    def __init__(self, *args, eval_reward_funcs: RewardFunc | list[RewardFunc] | None = None, **kwargs):
        given = eval_reward_funcs or []
        self.eval_reward_funcs = given if isinstance(given, list) else [given]
        super().__init__(*args, **kwargs)
        self._compared_by = self.eval_reward_funcs
        self._taken = 0  # micro-steps
        self._drawn: list[torch.Tensor] = []  # pixels of the present one
        vae = self.policy.pipeline.vae
        if vae._supports_gradient_checkpointing:
            vae.enable_gradient_checkpointing()

    def _check_arguments(
        self,
        model: Model,
        args: AlignPropConfig,
        train_dataset: Dataset | IterableDataset | None,
        eval_dataset: Dataset | None,
        peft_config: LoraConfig | None,
    ) -> None:
        check_rewards_have_gradients(args, self.reward_funcs, train_dataset)
        super()._check_arguments(model, args, train_dataset, eval_dataset, peft_config)
        check_judges_and_scorers(self.eval_reward_funcs, args, train_dataset, eval_dataset)

    def _needs_base(self, args: AlignPropConfig, eval_dataset: Dataset | None) -> bool:
        return super()._needs_base(args, eval_dataset) or any(map(asks_for_base_pixels, self.reward_funcs))

    def _arithmetic(self) -> list[tuple[str, str]]:
        forwards = backprop_forwards(self.args, self.policy.uses_cfg(self.args.guidance_scale))
        return describe_backprop(self.args, forwards, self.accelerator.num_processes) + self._described_sizes()

    def passes_per_step(self) -> float:
        return passes_of_a_step(self.args, self.policy.uses_cfg(self.args.guidance_scale))

    # Data: a batch is what one micro-step draws, and an epoch is whole optimizer steps

    def _prompts_of_a_batch(self) -> tuple[int, int]:
        return self.args.per_device_train_batch_size, 1

    def _batches_taken(self) -> int:
        return self.state.global_step * self.args.gradient_accumulation_steps

    def _get_train_sampler(self, dataset: Dataset | None = None) -> Sampler:
        dataset, args = self.train_dataset if dataset is None else dataset, self.args
        return RepeatSampler(len(dataset), args.pictures_per_draw, 1, args.shuffle_dataset, args.prompt_seed)

    def _prepare_inputs(self, batch: list[int] | list[dict[str, Any]]) -> list[dict[str, Any]]:
        return self._usable(batch)

    def train(self, *args, **kwargs):
        self._taken = 0
        return super().train(*args, **kwargs)

    def training_step(self, *args, **kwargs) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        self._look_at_pictures()
        self._taken += 1
        return loss

    # Drawing

    def _generators(self, count: int) -> list[torch.Generator]:
        """Of the noise of this micro-step's pictures: a function of the step and of their places in the global batch."""
        args, accelerator = self.args, self.accelerator
        micro_step = self._taken % args.gradient_accumulation_steps
        place = (micro_step * accelerator.num_processes + accelerator.process_index) * count
        return prompt_generators(args.seed, self.state.global_step, place, count)

    def _draw(
        self,
        model: torch.nn.Module,
        velocity: Velocity,
        noise: torch.Tensor,
        sigmas: torch.Tensor,
        conditioning: Conditioning,
        steps: list[int],
    ) -> torch.Tensor:
        """Finished latents `[B, L, C]` with the gradient of `velocity` in `steps`."""
        args, policy = self.args, self.policy

        def follow(latents: torch.Tensor, begin: int, end: int) -> torch.Tensor:
            levels = sigmas[begin : end + 1]
            return denoise(policy, model, latents, levels, conditioning, self._guidance_in_training())

        latents = follow(noise, 0, steps[0])
        if args.backprop_strategy == "refl":
            return jump_to_end(velocity, latents, sigmas[steps[0]])
        if args.backprop_strategy == "leap":
            middle = follow(latents, *steps)
            end = follow(middle, steps[1], args.num_inference_steps)
            return leap(velocity, (latents, middle, end), sigmas[steps], args.leap_discount)
        active = [step - steps[0] for step in steps]
        return denoise_with_gradient(velocity, latents, sigmas[steps[0] :], active, args.detach_inputs)

    def _pixels(self, latents: torch.Tensor, size: Size) -> torch.Tensor:
        """Pixels `[B, 3, H, W]` from 0 to 1, each picture decoded alone, once more in the backward."""
        return decode_one_by_one(lambda one: self.policy.to_pixels(one, *size), latents)

    @torch.no_grad()
    def _base_pixels(
        self,
        model: torch.nn.Module,
        noise: torch.Tensor,
        sigmas: torch.Tensor,
        conditioning: Conditioning,
        size: Size,
    ) -> torch.Tensor:
        """What the base draws from the same noise."""
        with use_frozen_copy(self.accelerator.unwrap_model(model), None):
            latents = denoise(self.policy, model, noise, sigmas, conditioning, self._guidance_in_training())
            return self._pixels(latents, size)

    # Loss

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: list[dict[str, Any]],
        return_outputs: bool = False,
        num_items_in_batch: int | None = None,
    ) -> torch.Tensor:
        args, metrics, step = self.args, self._metrics["train"], self.state.global_step
        steps, generators = args.steps_with_gradient(random_at(args.seed, step)), self._generators(len(inputs))
        drawn: list[torch.Tensor] = []  # pixels of each size
        rewards, distances, failure, policy = [], [], None, self.policy
        by_size = places_by_size(self._sizes_of(inputs))
        # all of it first: from here on the host waits for nothing
        noises = [policy.initial_noise(len(p), *size, [generators[i] for i in p]) for size, p in by_size.items()]
        for (size, places), noise in zip(by_size.items(), noises, strict=True):
            rows = [inputs[i] for i in places]
            conditioning = policy.encode(rows, *size)
            sigmas = policy.sigmas(args.num_inference_steps, *size).to(noise.device, non_blocking=True)
            velocity, measured = self._measured_velocity(model, conditioning)
            with record_function("align_prop/draw"):
                latents = self._draw(model, velocity, noise, sigmas, conditioning, steps)
            with record_function("align_prop/decode"):
                pixels = self._pixels(latents, size)
            try:
                with record_function("align_prop/reward"):
                    given = {}
                    if any(map(asks_for_base_pixels, self.reward_funcs)):
                        given[BASE_PIXELS] = self._base_pixels(model, noise, sigmas, conditioning, size)
                    rewards.append(self._rewards_of(decode_columns(rows, self.train_dataset), pixels, given))
            except Exception as error:  # whatever the functions of users raise: the others wait for this process
                failure = failure or self._not_finite([pixels]) or error
            drawn.append(pixels)
            distances += [torch.stack(measured).mean(0)] if measured else []
        self._stop_together(failure, "The rewards of another process failed.")
        rewards_BF = torch.cat(rewards)
        self._drawn = [pixels.detach() for pixels in drawn]
        self._log_rewards(rewards_BF.detach())
        reward_B = self._combined(rewards_BF)
        loss_B = -reward_B if args.reward_ceiling is None else (args.reward_ceiling - reward_B).relu()
        # without a reward a picture has no gradient, and is no reason for larger steps of the others
        loss_B = torch.where(reward_B.isnan(), 0.0, loss_B)
        if distances:
            distance_B = torch.cat(distances)
            metrics["policy/kl"].append(distance_B.detach())
            loss_B = loss_B + args.beta * distance_B
        loss = loss_B.mean()
        if loss.requires_grad:
            self._log_gradient(loss, drawn)
        return loss

    def _measured_velocity(
        self, model: torch.nn.Module, conditioning: Conditioning
    ) -> tuple[Velocity, list[torch.Tensor]]:
        """The velocity that is trained, and the distances `[B]` from the reference's that come of its steps with gradient."""
        measured, distances = self.args.needs_reference or self._measures_distance(), []

        def velocity(latents: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            predicted = self._velocity(model, latents, sigma, conditioning)
            if measured and torch.is_grad_enabled():
                reference = self._reference_velocity(model, latents.detach(), sigma, conditioning)
                distances.append(velocity_kl(predicted, reference))
            return predicted

        return velocity, distances

    def _rewards_of(
        self, rows: list[dict[str, Any]], pixels: torch.Tensor, given: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """Rewards `[B, F]` of pictures with their gradient, NaN where a function gave none."""
        columns = self._columns(rows, 1) | {"log_extra": self._log_extra, "log_metric": self._log_metric}
        rewards = [
            pixel_rewards(func, name, pixels, columns | (given if asks_for_base_pixels(func) else {}))
            for func, name in zip(self.reward_funcs, self.reward_func_names, strict=True)
        ]
        rewards_BF = torch.stack(rewards, 1)
        return torch.where(rewards_BF.isfinite(), rewards_BF, torch.nan)

    def _combined(self, rewards_BF: torch.Tensor) -> torch.Tensor:
        """The weighted sum of the rewards of each picture, `[B]`."""
        weights_F = torch.tensor(self.args.reward_weights or [1.0] * len(self.reward_funcs))
        return combine_rewards(rewards_BF, 1, weights_F.to(rewards_BF.device, non_blocking=True)).squeeze(1)

    # Evaluation

    @torch.no_grad()
    def _compared(self, rows: list[dict[str, Any]], pairs: list[Image.Image]) -> torch.Tensor:
        metrics, rewards = self._metrics["eval"], [torch.empty(0)] * len(rows)
        for batch in batches_of_one_size([one.size for one in pairs[::2]], self.args.per_device_eval_batch_size):
            base, trained = (as_pixels([pairs[2 * i + k] for i in batch], self.accelerator.device) for k in (0, 1))
            some = [rows[i] for i in batch]
            of_models = [self._rewards_of(some, pixels, {BASE_PIXELS: base}) for pixels in (base, trained)]
            for i, of_row in zip(batch, torch.stack(of_models, 1).cpu(), strict=True):
                rewards[i] = of_row
        rewards_P2F = torch.stack(rewards)
        for i, name in enumerate(self.reward_func_names):
            for k, suffix in enumerate(("_of_base", "")):
                metrics[f"rewards/{name}/mean{suffix}"] += rewards_P2F[:, k, i].tolist()
        rewards_P2 = self._combine_rewards(rewards_P2F.flatten(0, 1), 2)
        metrics["reward_of_base"] += rewards_P2[:, 0].tolist()
        metrics["reward"] += rewards_P2[:, 1].tolist()
        if not self.eval_reward_funcs:
            return rewards_P2
        columns = self._columns(rows, 2) | {"log_extra": self._log_extra, "log_metric": self._log_metric}
        outputs = [
            (call(func, completions=pairs, **columns), get_callable_name(func)) for func in self.eval_reward_funcs
        ]
        judged_NF = torch.stack([read_rewards(output, name, len(pairs)) for output, name in outputs], 1)
        return combine_rewards(judged_NF, 2, torch.ones(len(self.eval_reward_funcs)))
