"""Training on noisy denoising steps: how they are drawn, the clipped ratio, and the penalty that holds on to a reference."""

import math
import random
from typing import Any

import torch
from datasets import Dataset, IterableDataset

from ..data import Size
from ..objectives import dppo_loss, gaussian_kl, guard_loss, ppo_clip_loss, velocity_kl
from ..policies import FlowPolicy
from ..sampling import log_prob, rollout, transition
from .buffer import Buffer, conditioning_of, with_conditioning
from .checks import check_guidance
from .cost import Forwards, window_forwards
from .measured import where
from .online_trainer import OnlineTrainer
from .trainable import Model
from .trajectory_config import TrajectoryConfig


class TrajectoryTrainer(OnlineTrainer):
    """
    Base of trainers that draw candidates with noisy steps and reinforce those steps: [`RPOTrainer`] and [`FlowGRPOTrainer`]. A
    subclass says in [`~OnlineTrainer._compute_advantages`] what its rewards are worth. See [`FlowTrainer`] for the arguments.
    """

    args: TrajectoryConfig

    def _check_family(
        self,
        model: Model,
        args: TrajectoryConfig,
        train_dataset: Dataset | IterableDataset,
        eval_dataset: Dataset | None,
    ) -> None:
        check_guidance(model, args)
        super()._check_family(model, args, train_dataset, eval_dataset)

    def _plan_rollout(self, random: random.Random) -> range:
        if self.args.sde_window_stride is None:
            return draw_window(self.args, random)
        return slid_window(self.args, self._step // self.args.steps_per_rollout)

    def _draw(
        self, rows: list[dict[str, Any]], size: Size, plan: range, generators: list[torch.Generator]
    ) -> tuple[torch.Tensor, Buffer]:
        scale = self._guidance_in_rollout()
        return sample_candidates(self.policy, self.model_wrapped, rows, size, plan, self.args, generators, scale)

    def _noise_draws(self) -> list[int]:
        # shared noise is drawn once
        return [0] * self.args.num_generations if self.args.share_initial_noise else super()._noise_draws()

    def _rollout_forwards(self) -> list[Forwards]:
        return window_forwards(self.args, self.policy.uses_cfg(self.args.guidance_scale))

    def _loss_of_rows(self, model: torch.nn.Module, inputs: Buffer) -> torch.Tensor:
        args = self.args
        latents, sigma, sigma_next = inputs["latents"], inputs["sigma"], inputs["sigma_next"]
        active_RK = ~inputs["advantages"].isnan()
        conditioning = conditioning_of(inputs)
        velocity = self._velocity(model, latents, sigma, conditioning)
        mean, std = transition(latents, velocity, sigma, sigma_next, args.noise_level, args.sde_type)
        # [R, K]: all that left from a row's latents, from one forward pass
        log_prob_RK = log_prob(inputs["next_latents"], mean[:, None], std[:, None])
        # without a penalty the distance from the base is still worth a curve, at the price of a forward now and then
        measured = args.needs_reference or self._measures_distance()
        # rows come in random order, so the first of them are a random subset
        some = slice(math.ceil(args.kl_fraction * len(latents)))
        if measured and "ref_velocity" not in inputs:  # it stays for the other iterations over this rollout
            inputs["ref_velocity"] = self._reference_velocity(
                model, latents[some], sigma[some], {name: tensor[some] for name, tensor in conditioning.items()}
            )
        loss_RK, ratio_RK = self._policy_loss(inputs, log_prob_RK, mean, std)
        loss = (loss_RK * active_RK).sum()

        metrics = self._metrics["train"]
        if measured:
            kl_RK = self._divergence(inputs, some, velocity, mean, std, log_prob_RK).expand_as(active_RK[some])
            loss = loss + args.beta * (kl_RK * active_RK[some]).sum() * (len(latents) / len(kl_RK))
            metrics["policy/kl"].append(where(active_RK[some], kl_RK))

        # |ρ - 1| against what the rollout stored: off-policy drift, and on-policy any mismatch of the two passes
        drift_RK = (torch.exp(log_prob_RK.detach() - inputs["log_prob"]) - 1).abs()
        metrics["policy/ratio_deviation"].append(where(active_RK, drift_RK))
        if args.loss_type in ("ppo", "guard"):  # what the others hold on to is not this range of the ratio
            metrics["policy/clip_fraction"].append(where(active_RK, (ratio_RK - 1).abs() > args.epsilon))

        # Masked rows count in the denominator: a tie is a pair that says nothing, not a reason for larger steps.
        return loss / args.per_device_train_batch_size

    def _policy_loss(
        self, inputs: Buffer, log_prob_RK: torch.Tensor, mean: torch.Tensor, std: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of every transition and the ratio of the two policies, `[R, K]`; override it to try another."""
        args, on_policy = self.args, self.args.on_policy
        # On-policy the ratio is 1 by definition; taking it from the same forward pass makes it so exactly.
        old_log_prob_RK = log_prob_RK.detach() if on_policy else inputs["log_prob"]
        advantages_RK = inputs["advantages"].nan_to_num()
        if args.loss_type == "ppo":
            return ppo_clip_loss(log_prob_RK, old_log_prob_RK, advantages_RK, args.epsilon)
        old_mean = mean.detach() if on_policy else inputs["mean"]
        if args.loss_type == "guard":
            sigmas = inputs["sigma"], inputs["sigma_next"]
            return guard_loss(log_prob_RK, old_log_prob_RK, advantages_RK, mean, old_mean, std, *sigmas, args.epsilon)
        self._metrics["train"]["policy/old_kl"].append(gaussian_kl(mean.detach(), old_mean, std))
        return dppo_loss(log_prob_RK, old_log_prob_RK, advantages_RK, mean, old_mean, std, args.kl_mask_threshold)

    def _divergence(
        self,
        inputs: Buffer,
        some: slice,
        velocity: torch.Tensor,
        mean: torch.Tensor,
        std: torch.Tensor,
        log_prob_RK: torch.Tensor,
    ) -> torch.Tensor:
        """The distance from the reference of `some` rows, `[R, K]` or `[R, 1]`, with gradient."""
        args, ref_velocity = self.args, inputs["ref_velocity"]
        if args.kl_type == "closed_form" and args.sde_type == "cps":
            return velocity_kl(velocity[some], ref_velocity)[:, None]
        sigmas = inputs["sigma"][some], inputs["sigma_next"][some]
        ref_mean, _ = transition(inputs["latents"][some], ref_velocity, *sigmas, args.noise_level, args.sde_type)
        if args.kl_type == "log_ratio":
            ref_log_prob_RK = log_prob(inputs["next_latents"][some], ref_mean[:, None], std[some, None])
            return log_prob_RK[some] - ref_log_prob_RK
        return gaussian_kl(mean[some], ref_mean, std[some])[:, None]


def draw_window(args: TrajectoryConfig, generator: random.Random) -> range:
    """The steps of a rollout that carry noise and are trained on."""
    start, end = args.sde_window_range
    first = generator.randint(start, end - args.window_size)
    return range(first, first + args.window_size)


def slid_window(args: TrajectoryConfig, rollout: int) -> range:
    """The steps of a rollout, by its number, whose window slides over the schedule."""
    start, end = args.sde_window_range
    first = min(start + rollout // args.sde_window_stride, end - args.window_size)
    return range(first, first + args.window_size)


def sample_candidates(
    policy: FlowPolicy,
    model: torch.nn.Module,
    rows: list[dict[str, Any]],
    size: Size,
    window: range,
    args: TrajectoryConfig,
    generators: list[torch.Generator],
    guidance_scale: float,
) -> tuple[torch.Tensor, Buffer]:
    """
    Sample the candidates of `P` rows in one batch.

    Args:
        policy ([`FlowPolicy`]): the policy.
        model (`torch.nn.Module`): its transformer, wrapped or not.
        rows (`list[dict]`): rows of the dataset.
        size (`tuple[int, int]`): height and width of the candidates.
        window (`range`): the steps that are trained on, `W` of them.
        args ([`TrajectoryConfig`]): what decides how it is sampled.
        generators (`list[torch.Generator]`): for each row, draws its initial noise and that of its steps.
        guidance_scale (`float`): as in the pipeline's `__call__`.

    Returns:
        `tuple(torch.Tensor, dict)`: the finished latents, `P·n` of them, the candidates of a row adjacent; and the
        steps that are trained on.
    """
    n = args.num_generations
    conditioning = policy.encode(rows, *size)
    sigmas = policy.sigmas(args.num_inference_steps, *size).to(policy.device)
    drawing = generators if args.share_initial_noise else [generator for generator in generators for _ in range(n)]
    initial_noise = policy.initial_noise(len(drawing), *size, drawing)
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
        guidance_scale,
        keep_means=args.loss_type in ("guard", "dppo") and not args.on_policy,
    )
    return sampled.latents, with_conditioning(sampled.rows, conditioning)
