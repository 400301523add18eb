"""Advantages by how far the rewards of a group lie apart, for the trainers that follow GRPO in that."""

import math

import torch

from ..objectives import comparable, filter_groups, group_advantages
from .group_advantages_config import GroupAdvantagesConfig
from .online_trainer import OnlineTrainer


class GroupAdvantages(OnlineTrainer):
    """How rewards become advantages under [`GroupAdvantagesConfig`]. Named before another base of the trainer."""

    args: GroupAdvantagesConfig

    def _compute_advantages(self, rewards_NF: torch.Tensor) -> torch.Tensor:
        args, device = self.args, self.accelerator.device
        own_PNF = rewards_NF.view(-1, args.num_generations, rewards_NF.shape[1])
        # those of all processes, in the order that one process has them in: a deviation of the batch is of all of it
        rewards_PNF = self.accelerator.gather(own_PNF.to(device))
        weights_F = torch.tensor(args.reward_weights or [1.0] * rewards_NF.shape[1], device=device)
        advantages_PN = group_advantages(rewards_PNF, args.scale_rewards, args.multi_objective_aggregation, weights_F)
        total_PN = (comparable(rewards_PNF) * weights_F).sum(-1)  # NaN for who is left out
        if args.min_reward_std > 0 or args.max_reward_mean < math.inf:
            advantages_PN = filter_groups(advantages_PN, total_PN, args.min_reward_std, args.max_reward_mean)
        own = slice(self.accelerator.process_index * len(own_PNF), (self.accelerator.process_index + 1) * len(own_PNF))
        for rewards_N in total_PN[own]:
            known = rewards_N[~rewards_N.isnan()]
            if len(known) > 1:
                self._metrics["train"]["reward_std"].append(known.std(correction=0).item())
                self._metrics["train"]["frac_reward_zero_std"].append(float((known == known[0]).all()))
        return advantages_PN[own].clamp(-args.advantage_clip, args.advantage_clip)
