"""Group Relative Policy Optimization on noisy denoising steps: advantages are distances from the mean of a group."""

import torch

from ..objectives import d3po_loss, prdp_loss
from ..sampling import log_prob, transition
from .buffer import Buffer
from .flow_grpo_config import FlowGRPOConfig
from .group_advantages import GroupAdvantages
from .trajectory_trainer import TrajectoryTrainer


class FlowGRPOTrainer(GroupAdvantages, TrajectoryTrainer):
    """
    Trainer for Flow-GRPO ([paper](https://huggingface.co/papers/2505.05470)) and what followed it, for the flow-matching
    pipelines of diffusers. Candidates are drawn with noisy steps, and a step is made more likely by how far the reward of
    its candidate lies above the mean of its group.

    With a judge that compares pairs, wrap it in a [`TournamentJudge`]: the rewards are then win rates, as in
    Pref-GRPO ([paper](https://huggingface.co/papers/2508.20751)).

    Example:

    ```python
    from arr_trl import FlowGRPOConfig, FlowGRPOTrainer
    from datasets import load_dataset


    def brightness(prompts, completions, **columns):
        return [sum(image.convert("L").histogram()[128:]) / (image.width * image.height) for image in completions]


    trainer = FlowGRPOTrainer(
        model="black-forest-labs/FLUX.1-dev",
        reward_funcs=brightness,
        args=FlowGRPOConfig(output_dir="GRPO-FLUX.1-dev"),
        train_dataset=load_dataset("json", data_files="prompts.jsonl", split="train"),
    )
    trainer.train()
    ```

    Args:
        model, reward_funcs, train_dataset, eval_dataset, eval_funcs, peft_config, callbacks, optimizers:
            As in [`RPOTrainer`]. The size of rewards counts, not their order alone: see
            [`GroupAdvantagesConfig`].
        args ([`FlowGRPOConfig`], *optional*):
            Configuration. If `None`, a default one is used.
    """

    _tag_names = ["arr_trl", "flow-grpo"]
    _name = "Flow-GRPO"
    _paper = {"title": "Flow-GRPO: Training Flow Matching Models via Online RL", "id": "2505.05470"}
    _config_class = FlowGRPOConfig

    args: FlowGRPOConfig

    def _policy_loss(
        self, inputs: Buffer, log_prob_RK: torch.Tensor, mean: torch.Tensor, std: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        args = self.args
        if not args.needs_pairs:
            return super()._policy_loss(inputs, log_prob_RK, mean, std)
        sigmas = inputs["sigma"], inputs["sigma_next"]
        ref_mean, _ = transition(inputs["latents"], inputs["ref_velocity"], *sigmas, args.noise_level, args.sde_type)
        ref_RK = log_prob(inputs["next_latents"], ref_mean[:, None], std[:, None])
        if args.loss_type == "d3po":
            return d3po_loss(log_prob_RK, ref_RK, inputs["advantages"], args.preference_beta, args.epsilon)
        old_RK = log_prob_RK.detach() if args.on_policy else inputs["log_prob"]
        loss_RK, ratio_RK1 = prdp_loss(
            log_prob_RK[..., None],
            old_RK[..., None],
            ref_RK[..., None],
            inputs["advantages"],
            args.preference_beta,
            args.epsilon,
        )
        return loss_RK, ratio_RK1[..., 0]
