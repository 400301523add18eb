from .advantages import (
    combine_rewards,
    comparable,
    filter_groups,
    group_advantages,
    log_tame,
    pareto_front,
    rpo_advantages,
    win_rates,
)
from .forward import awm_loss, crd_loss, dgpo_loss, dpo_loss, implicit_rewards, matching_error, nft_loss
from .ppo import d3po_loss, dppo_loss, gaussian_kl, guard_loss, ppo_clip_loss, prdp_loss, velocity_kl
from .preference import rank_dpo_loss, sdpo_loss


__all__ = [
    "awm_loss",
    "combine_rewards",
    "comparable",
    "crd_loss",
    "d3po_loss",
    "dgpo_loss",
    "dpo_loss",
    "dppo_loss",
    "filter_groups",
    "gaussian_kl",
    "group_advantages",
    "guard_loss",
    "implicit_rewards",
    "log_tame",
    "matching_error",
    "nft_loss",
    "pareto_front",
    "ppo_clip_loss",
    "prdp_loss",
    "rank_dpo_loss",
    "rpo_advantages",
    "sdpo_loss",
    "velocity_kl",
    "win_rates",
]
