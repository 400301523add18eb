"""Every decision about noisy denoising steps and the loss on them."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from ..runtime.checkpoints import ROLLOUT
from .online_config import OnlineConfig


@dataclass
class TrajectoryConfig(OnlineConfig):
    r"""
    What the configurations of trainers share that train on noisy denoising steps; see [`OnlineConfig`] for the rest.

    Parameters:
        > Parameters that control the noisy steps

        sde_type (`str`, *optional*, defaults to `"flow"`):
            Form of the noisy steps: `"flow"` (Flow-GRPO), `"dance"` (DanceGRPO) or `"cps"` (coefficients-preserving).
        noise_level (`float`, *optional*, defaults to `0.9`):
            Strength of the noise: a for `"flow"` (.7 to 1.4) and `"cps"` (.8), η for `"dance"` (.3).
        sde_window_size (`int`, *optional*):
            How many consecutive steps carry noise and are trained on; `None` takes every step of `sde_window_range`.
        sde_window_range (`list[int]`, *optional*):
            First step and end (exclusive) that the window is drawn from, anew for each rollout. Defaults to all steps
            but the last, which is always deterministic.
        sde_window_stride (`int`, *optional*):
            Slide the window instead of drawing it: by one step every so many rollouts, from the beginning of
            `sde_window_range` to its end, where it stays (MixGRPO, [paper](https://huggingface.co/papers/2507.21802)).
        share_initial_noise (`bool`, *optional*, defaults to `True`):
            Start all candidates of a prompt from the same noise. The steps before the window are then computed once.

        > Parameters that control the objective

        loss_type (`str`, *optional*, defaults to `"ppo"`):
            `"ppo"`, the clipped ratio; `"guard"` (GRPO-Guard, [paper](https://huggingface.co/papers/2510.22319)), by which
            every step pulls as much; or `"dppo"` (Flow-DPPO, [paper](https://huggingface.co/papers/2606.11025)), which
            masks what has left the policy of the rollout. On-policy `"ppo"` and `"dppo"` are one.
        kl_mask_threshold (`float`, *optional*, defaults to `1e-5`):
            Divergence from the policy of the rollout from which `"dppo"` masks what goes further.
        epsilon (`float`, *optional*, defaults to `0.2`):
            Clip range of the PPO ratio. Log-probabilities are means over the latent dimensions, so the ratio moves
            little; `policy/clip_fraction` shows whether the clip is ever reached. With `"guard"` 2e-6 is usual.
        beta (`float`, *optional*, defaults to `0.01`):
            Weight of the KL penalty against the `reference`. 0 saves a forward pass per transition; the
            divergence is then measured once every `logging_steps` steps.
        kl_fraction (`float`, *optional*, defaults to `1.0`):
            Share of the trained rows that the penalty is computed on, drawn at random; it is scaled up to all of them.
            Each row left out saves a forward pass of the reference.
        kl_type (`str`, *optional*, defaults to `"closed_form"`):
            `"closed_form"` (KL of two Gaussians; with `sde_type="cps"` the squared velocity difference, since the
            step's deviation goes to 0) or `"log_ratio"` (the estimate of the ARR release, which has zero expected
            gradient on-policy; for parity only).
    """

    sde_type: Annotated[str, ROLLOUT] = field(
        default="flow",
        metadata={
            "help": "Form of the noisy steps: `flow` (Flow-GRPO), `dance` (DanceGRPO) or `cps`.",
            "choices": ["flow", "dance", "cps"],
        },
    )
    noise_level: Annotated[float, ROLLOUT] = field(
        default=0.9,
        metadata={"help": "Strength of the noise: a for `flow` (.7 to 1.4) and `cps` (.8), eta for `dance` (.3)."},
    )
    sde_window_size: Annotated[int | None, ROLLOUT] = field(
        default=None,
        metadata={
            "help": "How many consecutive steps carry noise and are trained on. Unset, every step of "
            "`sde_window_range`."
        },
    )
    sde_window_range: Annotated[list[int] | None, ROLLOUT] = field(
        default=None,
        metadata={
            "help": "First step and end (exclusive) that the window is drawn from, anew for each rollout. Unset, all "
            "steps but the last, which is always deterministic.",
            "nargs": 2,
        },
    )
    sde_window_stride: Annotated[int | None, ROLLOUT] = field(
        default=None,
        metadata={
            "help": "Rollouts after which the window slides by a step. Unset, it is drawn anew for each rollout."
        },
    )
    share_initial_noise: Annotated[bool, ROLLOUT] = field(
        default=True,
        metadata={
            "help": "Start all candidates of a prompt from the same noise. The steps before the window are then "
            "computed once."
        },
    )

    loss_type: Annotated[str, ROLLOUT] = field(
        default="ppo",
        metadata={
            "help": "`ppo` (clipped ratio), `guard` (every step pulls as much) or `dppo` (masks what has left the policy of "
            "the rollout).",
            "choices": ["ppo", "guard", "dppo"],
        },
    )
    kl_mask_threshold: float = field(
        default=1e-5,
        metadata={"help": "Divergence from the policy of the rollout from which `dppo` masks what goes further."},
    )
    epsilon: float = field(default=0.2, metadata={"help": "Clip range of the PPO ratio."})
    beta: float = field(
        default=0.01,
        metadata={"help": "Weight of the KL penalty against the `reference`. 0 saves a forward pass per transition."},
    )
    kl_fraction: Annotated[float, ROLLOUT] = field(
        default=1.0,
        metadata={
            "help": "Share of the trained rows, drawn at random, that the penalty is computed on and scaled up from."
        },
    )
    kl_type: str = field(
        default="closed_form",
        metadata={
            "help": "`closed_form`, or `log_ratio` for parity with the ARR release: zero expected gradient on-policy.",
            "choices": ["closed_form", "log_ratio"],
        },
    )

    _loss_types: ClassVar[tuple[str, ...]] = ("ppo", "guard", "dppo")

    def __post_init__(self):
        super().__post_init__()
        if self.num_inference_steps < 2:
            raise ValueError(
                f"num_inference_steps={self.num_inference_steps} leaves no step to train: the last one is always "
                "deterministic. Use at least 2; the paper uses 8."
            )
        self._check_at_least_one("sde_window_stride")
        for name in ("epsilon", "noise_level", "kl_mask_threshold"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be greater than 0.")
        if not self.beta >= 0:
            raise ValueError(f"beta={self.beta} must be at least 0; it is a magnitude.")
        if not 0 < self.kl_fraction <= 1:
            raise ValueError(
                f"kl_fraction={self.kl_fraction} is a share of the trained rows, greater than 0 and at most 1; switch "
                "the penalty off with beta=0."
            )
        if self.sde_type == "cps" and self.noise_level > 1:
            raise ValueError(f"noise_level={self.noise_level} must be at most 1 with sde_type='cps'; 0.8 is usual.")
        self._check_one_of("sde_type", "flow", "dance", "cps")
        self._check_one_of("kl_type", "closed_form", "log_ratio")
        self._check_one_of("loss_type", *self._loss_types)
        self._check_window()
        self._check_rows()

    def _check_window(self) -> None:
        last = self.num_inference_steps - 1
        if self.sde_window_range is None:
            self.sde_window_range = [0, last]
        window = self.sde_window_range
        if not isinstance(window, list | tuple) or len(window) != 2 or any(type(step) is not int for step in window):
            raise ValueError(
                f"sde_window_range={window!r} has to be two whole numbers, the first step and the end, such as 0 3."
            )
        start, end = window
        if not 0 <= start < end <= last:
            raise ValueError(
                f"sde_window_range={self.sde_window_range} is not inside the schedule: with num_inference_steps="
                f"{self.num_inference_steps} it has to satisfy 0 <= first < end <= {last}, since the last step is "
                "always deterministic."
            )
        if self.sde_window_size is not None and not 1 <= self.sde_window_size <= end - start:
            raise ValueError(
                f"sde_window_size={self.sde_window_size} does not fit into sde_window_range={self.sde_window_range}; "
                f"use 1 to {end - start}."
            )

    @property
    def window_size(self) -> int:
        """Number of trained steps of each candidate."""
        start, end = self.sde_window_range
        return self.sde_window_size or end - start

    @property
    def points_per_candidate(self) -> int:
        return self.window_size

    @property
    def needs_reference(self) -> bool:
        """Whether every trained row takes a forward of the reference, or `kl_fraction` of them."""
        return self.beta > 0
