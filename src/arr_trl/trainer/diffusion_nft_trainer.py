"""Training on finished pictures that are noised again: DiffusionNFT and the losses that share its points."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from ..data import Size
from ..objectives import awm_loss, crd_loss, dgpo_loss, dpo_loss, matching_error, nft_loss
from ..sampling import add_noise, denoise, levels_to_train, rollout, stratified
from .buffer import Buffer, Sampled, with_conditioning
from .cost import Forwards, forward_point_forwards
from .diffusion_nft_config import DiffusionNFTConfig
from .frozen_adapters import OLD
from .frozen_copies import blend_frozen_copy, use_frozen_copy
from .group_advantages import GroupAdvantages
from .measured import where


class DiffusionNFTTrainer(GroupAdvantages):
    """
    Trainer for DiffusionNFT ([paper](https://huggingface.co/papers/2509.16117)) and its relatives, for the flow-matching
    pipelines of diffusers. Candidates are drawn without noise in their steps. What is trained on are the finished
    pictures, noised again: the network is led towards the better candidates of a prompt and away from the others.

    Example:

    ```python
    from arr_trl import DiffusionNFTConfig, DiffusionNFTTrainer, Rubric, RubricJudge
    from datasets import load_dataset

    judge = RubricJudge(
        rubric=Rubric.load("rubric.json"), model="Qwen/Qwen3-VL-8B-Instruct", base_url="http://localhost:8000/v1"
    )
    trainer = DiffusionNFTTrainer(
        model="black-forest-labs/FLUX.1-dev",
        reward_funcs=judge,
        args=DiffusionNFTConfig(output_dir="NFT-FLUX.1-dev"),
        train_dataset=load_dataset("json", data_files="prompts.jsonl", split="train"),
    )
    trainer.train()
    ```

    Args:
        model, reward_funcs, train_dataset, eval_dataset, eval_funcs, peft_config, callbacks, optimizers:
            As in [`RPOTrainer`]. The size of rewards counts, not their order alone: see
            [`GroupAdvantagesConfig`].
        args ([`DiffusionNFTConfig`], *optional*):
            Configuration. If `None`, a default one is used.
    """

    _tag_names = ["arr_trl", "diffusion-nft"]
    _name = "DiffusionNFT"
    _paper = {"title": "DiffusionNFT: Online Diffusion Reinforcement with Forward Process", "id": "2509.16117"}
    _config_class = DiffusionNFTConfig

    args: DiffusionNFTConfig

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._old_policy_of = 0  # the rollout that the old policy was brought up to date for
        self._check_size(self.args.height, self.args.width)

    def _check_size(self, height: int, width: int) -> None:
        self._levels(height, width)  # which may be too few

    def _levels(self, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The schedule of the rollout, `[T + 1]`, and those of its levels that are trained on."""
        args, policy = self.args, self.policy
        sigmas = policy.sigmas(args.num_inference_steps, height, width).to(policy.device)
        return sigmas, levels_to_train(sigmas, args.timestep_range, args.num_train_points)

    def _rollout_forwards(self) -> list[Forwards]:
        guided = self.policy.uses_cfg(self.args.guidance_scale)
        return [forward_point_forwards(self.args, self.args.prompts_per_rollout, guided=guided)]

    # Rollout

    def _sample(self, rows: list[dict[str, Any]]) -> Sampled:
        number = self._step // self.args.steps_per_rollout
        if self.args.keeps_old_policy and self._old_policy_of < number:
            keep = min(self.args.old_policy_ramp * self.state.global_step, self.args.old_policy_decay)
            blend_frozen_copy(self.accelerator.unwrap_model(self.model_wrapped), OLD, keep)
            self._old_policy_of = number
        return super()._sample(rows)

    def _draw(
        self, rows: list[dict[str, Any]], size: Size, plan: None, generators: list[torch.Generator]
    ) -> tuple[torch.Tensor, Buffer]:
        args, policy, n, K = self.args, self.policy, self.args.num_generations, self.args.num_train_points
        conditioning = policy.encode(rows, *size)
        of_candidates = {name: tensor.repeat_interleave(n, 0) for name, tensor in conditioning.items()}
        sigmas, levels = self._levels(*size)
        drawing = [generator for generator in generators for _ in range(n)]
        noise = policy.initial_noise(len(drawing), *size, drawing)
        with self._old_policy() if args.old_policy_decay > 0 else nullcontext():
            scale = self._guidance_in_rollout()
            if args.noise_level > 0:
                # all steps but the last, which is one of the ODE
                shape = (len(sigmas) - 2, *noise.shape[1:])
                steps = torch.stack([torch.randn(shape, generator=generator) for generator in drawing])
                steps = steps.view(len(rows), n, *shape).to(noise.device)
                drawn = (steps, sigmas, conditioning, 0, args.sde_type, args.noise_level, scale)
                latents = rollout(policy, self.model_wrapped, noise, *drawn).latents
            else:
                latents = denoise(policy, self.model_wrapped, noise, sigmas, of_candidates, scale)

        draws = torch.stack([torch.rand(K, generator=generator) for generator in generators])
        shape = (K, *latents.shape[1:])
        noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
        points = {
            "x0": latents.view(len(rows), n, *shape[1:]).repeat_interleave(K, 0),
            "noise": noise.flatten(0, 1).to(latents.device),
            "sigma": stratified(levels, K, draws).flatten(),
            "prompt": torch.arange(len(rows)).repeat_interleave(K),
            "candidate": torch.arange(n).repeat(len(rows) * K, 1),
        }
        return latents, with_conditioning(points, conditioning)

    def _old_policy(self) -> AbstractContextManager:
        return use_frozen_copy(self.accelerator.unwrap_model(self.model_wrapped), OLD)

    # Loss

    def _loss_of_rows(self, model: torch.nn.Module, inputs: Buffer) -> torch.Tensor:
        args, advantages = self.args, inputs["advantages"]
        active = ~advantages.isnan()
        latents, target = add_noise(inputs["x0"], inputs["noise"], inputs["sigma"])
        velocity = self._velocity_of_groups(model, latents, inputs)
        # what is computed once stays for the other iterations over this rollout
        if (args.needs_reference or self._measures_distance()) and "ref_velocity" not in inputs:
            inputs["ref_velocity"] = self._velocity_of_groups(model, latents, inputs, self._reference_velocity)
        old_velocity = velocity.detach()
        if args.keeps_old_policy:
            if "old_velocity" not in inputs:
                with torch.no_grad(), self._old_policy():
                    inputs["old_velocity"] = self._velocity_of_groups(model, latents, inputs)
            old_velocity = inputs["old_velocity"]
        loss_RN = self._forward_loss(
            velocity,
            old_velocity,
            target,
            inputs["sigma"],
            advantages,
            inputs.get("ref_velocity"),
        )
        loss = loss_RN.sum()
        if "ref_velocity" in inputs:
            distance_RN = matching_error(velocity, inputs["ref_velocity"])
            loss = loss + args.beta * (distance_RN * active).sum()
            self._metrics["train"]["policy/kl"].append(where(active, distance_RN))
        self._log_points(velocity.detach(), old_velocity, target, inputs["sigma"], active)
        # Masked candidates count in the denominator: a tie says nothing, and is not a reason for larger steps.
        return loss / args.per_device_train_batch_size

    def _forward_loss(
        self,
        velocity: torch.Tensor,
        old_velocity: torch.Tensor,
        target: torch.Tensor,
        sigma: torch.Tensor,
        advantages: torch.Tensor,
        reference_velocity: torch.Tensor | None,
    ) -> torch.Tensor:
        """The loss of every point, `[R, n]`; override it to try another."""
        args, inputs = self.args, (velocity, old_velocity, target, sigma, advantages)
        if args.loss_type == "nft":
            return nft_loss(*inputs, beta=args.nft_beta, advantage_clip=args.advantage_clip)
        if args.loss_type == "awm":
            return awm_loss(*inputs, weighting=args.awm_weighting, epsilon=args.epsilon)
        if args.loss_type == "crd":
            return crd_loss(*inputs, beta=args.nft_beta, advantage_clip=args.advantage_clip)
        if args.loss_type == "dgpo":
            return dgpo_loss(
                *inputs, beta=args.preference_beta, epsilon=args.epsilon, reference_velocity=reference_velocity
            )
        return dpo_loss(*inputs, beta=args.preference_beta, reference_velocity=reference_velocity)

    def _log_points(
        self,
        velocity: torch.Tensor,
        old_velocity: torch.Tensor,
        target: torch.Tensor,
        sigma: torch.Tensor,
        active: torch.Tensor,
    ) -> None:
        metrics, error_RN = self._metrics["train"], matching_error(velocity, target)
        metrics["policy/matching_error"].append(where(active, error_RN))
        for name, low, high in (("low", 0, 1 / 3), ("middle", 1 / 3, 2 / 3), ("high", 2 / 3, 1)):
            some = active & ((sigma > low) & (sigma <= high))[:, None]
            metrics[f"policy/matching_error/{name}_noise"].append(where(some, error_RN))
        if self.args.keeps_old_policy:
            metrics["policy/old_deviation"].append(where(active, matching_error(velocity, old_velocity)))

    # What a checkpoint holds beside

    def _process_state(self) -> dict[str, Any]:
        # not of the state that a failed step begins with: the old policy itself does not go back there
        return super()._process_state() | {"old_policy_of": self._old_policy_of}

    def _restore_owner_state(self, state: dict[str, Any]) -> None:
        super()._restore_owner_state(state)
        self._old_policy_of = state.get("old_policy_of", self._old_policy_of)
