"""Every decision about rollouts: how candidates are drawn, how many, and how often they are trained on."""

import warnings
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from ..runtime.checkpoints import ALWAYS, ROLLOUT
from .flow_config import FlowConfig


@dataclass
class OnlineConfig(FlowConfig):
    r"""
    What the configurations of trainers share that draw their own candidates; see [`FlowConfig`] for the rest.

    A subclass says in [`~OnlineConfig.points_per_candidate`] how many points of each candidate are trained on.

    Parameters:
        > Parameters that control the rollout

        num_inference_steps (`int`, *optional*, defaults to `8`):
            Denoising steps of a rollout. The noise levels are those of the pipeline's own scheduler.
        classifier_free_guidance (`str`, *optional*, defaults to `"both"`):
            Where classifier-free guidance is used, in families that have it; its second branch doubles the cost of a
            forward. `"both"`: in the rollout and in the loss; `"rollout"`: candidates are drawn with it, the loss is
            that of the network without it; `"off"`: in neither. Evaluation always uses it. FLUX.1's guidance is an
            input of the network, costs nothing, and is not meant.
        cfg (`str`, *optional*):
            Deprecated name of `classifier_free_guidance`.
        num_generations (`int`, *optional*, defaults to `2`):
            Candidates per prompt, at least 2.
        rollout_batch_size (`int`, *optional*):
            Prompts whose candidates are sampled in one forward pass; `None` takes all of the rollout.
        steps_per_generation (`int`, *optional*):
            Micro-steps that train on one rollout. Defaults to `gradient_accumulation_steps`.
        num_iterations (`int`, *optional*, defaults to `1`):
            How often a rollout is trained on (μ in the GRPO paper).
        pipelined_judge (`bool`, *optional*, defaults to `False`):
            Train on the previous rollout while judges read the newest one. Its candidates are then one update older
            than the policy, which the ratio ρ makes up for. The first rollout's worth of steps has nothing to train on
            yet, and the last rollout is not trained on.
        watch_every (`int`, *optional*, defaults to `10`):
            Every how many rollouts the trainer's `watch_funcs` are asked about its candidates.
        canary_every (`int`, *optional*):
            Every how many steps the judges are asked again about a few fixed pairs, the first of the first rollout; the
            run stops when their scores have moved. `None` never asks.
        canary_pairs (`int`, *optional*, defaults to `4`):
            How many pairs.
        canary_tolerance (`float`, *optional*, defaults to `0.02`):
            By how much a score of a pair may move; of scores above 1 in parts of the score.
        max_questions (`int`, *optional*):
            Questions that judges may be asked in the run. It ends, with a checkpoint, before the rollout that would pass
            it, if that costs what those before it did.
        max_cost (`float`, *optional*):
            The same in money, with `price_in` and `price_out`.
        price_in (`float`, *optional*):
            Price of a million tokens that a judge reads.
        price_out (`float`, *optional*):
            Price of a million tokens that a judge writes.
        shuffle_dataset (`bool`, *optional*, defaults to `True`):
            Draw the prompts in a new order each epoch.
        shuffle_buffer_size (`int`, *optional*, defaults to `1000`):
            Prompts of a streamed dataset that are read and shuffled at a time.

        > Parameters that control what is written

        log_completions (`bool`, *optional*, defaults to `False`):
            Every `logging_steps` steps, write the candidates with rewards and verdicts to `completions/`, as a table
            with pictures (`.parquet`) and as a sheet (`.png`), and show them in the trackers of `report_to`.
        log_completions_hub_repo (`str`, *optional*):
            Dataset repository on the Hub, such as `"user/completions"`, that these tables are pushed to as well. It is
            created when missing, private only with `hub_private_repo` or where the namespace prefers it.
    """

    per_device_train_batch_size: Annotated[int, ROLLOUT] = field(
        default=4, metadata={"help": "Transitions in one forward and backward pass: the memory knob."}
    )

    num_inference_steps: Annotated[int, ROLLOUT] = field(
        default=8,
        metadata={"help": "Denoising steps of a rollout, at the noise levels of the pipeline's own scheduler."},
    )
    classifier_free_guidance: Annotated[str, ROLLOUT] = field(
        default="both",
        metadata={
            "help": "Where classifier-free guidance, which doubles the cost of a forward, is used: in rollout and loss "
            "(`both`), for drawing candidates only (`rollout`), or in neither (`off`).",
            "choices": ["both", "rollout", "off"],
        },
    )
    cfg: str | None = field(
        default=None,
        metadata={"help": "Deprecated: use `classifier_free_guidance`.", "choices": ["both", "rollout", "off"]},
    )
    num_generations: Annotated[int, ALWAYS] = field(default=2, metadata={"help": "Candidates per prompt, at least 2."})
    rollout_batch_size: int | None = field(
        default=None,
        metadata={"help": "Prompts whose candidates are sampled in one forward pass. Unset, all of the rollout."},
    )
    steps_per_generation: Annotated[int | None, ROLLOUT] = field(
        default=None,
        metadata={"help": "Micro-steps that train on one rollout. Unset, `gradient_accumulation_steps`."},
    )
    num_iterations: Annotated[int, ALWAYS] = field(default=1, metadata={"help": "How often a rollout is trained on."})
    pipelined_judge: Annotated[bool, ROLLOUT] = field(
        default=False,
        metadata={
            "help": "Train on the previous rollout while judges read the newest one, which makes candidates one update "
            "older."
        },
    )
    watch_every: int = field(
        default=10, metadata={"help": "Every how many rollouts `watch_funcs` are asked about its candidates."}
    )
    canary_every: int | None = field(
        default=None,
        metadata={
            "help": "Every how many steps judges are asked again about a few fixed pairs, whose scores have to stay. Unset, "
            "never."
        },
    )
    canary_pairs: int = field(default=4, metadata={"help": "How many pairs `canary_every` asks about."})
    canary_tolerance: float = field(
        default=0.02,
        metadata={
            "help": "By how much the score of such a pair may move before the run stops; above 1, in parts of it."
        },
    )
    max_questions: int | None = field(
        default=None,
        metadata={"help": "Questions that judges may be asked in the run, which ends before it passes them."},
    )
    max_cost: float | None = field(
        default=None, metadata={"help": "What judges may cost in the run, at `price_in` and `price_out`."}
    )
    price_in: float | None = field(
        default=None, metadata={"help": "Price of a million tokens that a judge reads, for the cost."}
    )
    price_out: float | None = field(
        default=None, metadata={"help": "Price of a million tokens that a judge writes, for the cost."}
    )
    shuffle_dataset: bool = field(default=True, metadata={"help": "Draw the prompts in a new order each epoch."})
    shuffle_buffer_size: int = field(
        default=1000, metadata={"help": "Prompts of a streamed dataset that are read and shuffled at a time."}
    )

    log_completions: bool = field(
        default=False,
        metadata={
            "help": "Every `logging_steps` steps, write the candidates with rewards and verdicts to `completions/` and "
            "show them in the trackers of `report_to`."
        },
    )
    log_completions_hub_repo: str | None = field(
        default=None,
        metadata={
            "help": "Dataset repository on the Hub that the tables of `log_completions` are pushed to as well. Unset, "
            "they stay local."
        },
    )

    def __post_init__(self):
        if self.cfg is not None:
            warnings.warn(
                "`cfg` is now called `classifier_free_guidance`, since it reads as configuration.", FutureWarning
            )
            self.classifier_free_guidance, self.cfg = self.cfg, None
        super().__post_init__()
        self._check_at_least_one("num_iterations", "steps_per_generation", "rollout_batch_size", "watch_every")
        self._check_costs()
        if self.log_completions_hub_repo is not None and not self.log_completions:
            raise ValueError(
                f"log_completions_hub_repo={self.log_completions_hub_repo!r} gets nothing without log_completions=True."
            )
        if self.num_generations < 2:
            raise ValueError(
                f"num_generations={self.num_generations} leaves nothing to compare; use at least 2 candidates per prompt."
            )
        if self.shuffle_buffer_size < 1:
            raise ValueError(f"shuffle_buffer_size={self.shuffle_buffer_size} has to be at least one prompt.")
        self._check_one_of("classifier_free_guidance", "both", "rollout", "off")
        if self.steps_per_generation is None:
            self.steps_per_generation = self.gradient_accumulation_steps
        repeats, accumulated = self.steps_per_rollout, self.gradient_accumulation_steps
        if repeats % accumulated and accumulated % repeats:
            raise ValueError(
                f"steps_per_generation × num_iterations = {repeats} micro-steps per rollout and "
                f"gradient_accumulation_steps={accumulated} do not divide, so that optimizer steps would mix parts of "
                "rollouts; make one a multiple of the other."
            )

    def _check_costs(self) -> None:
        for name in ("canary_every", "canary_pairs", "max_questions"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} has to be at least 1, or unset.")
        for name in ("canary_tolerance", "max_cost", "price_in", "price_out"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name}={value} has to be 0 or greater.")
        if (self.price_in is None) != (self.price_out is None):
            raise ValueError("`price_in` and `price_out` go together: what is read and what is written both cost.")
        if self.max_cost is not None and self.price_in is None:
            raise ValueError(
                f"max_cost={self.max_cost:g} needs `price_in` and `price_out`, prices of a million tokens."
            )

    def _check_rows(self) -> None:
        """Hold the rows of a rollout to whole prompts; called when `points_per_candidate` is known."""
        rows = self.per_device_train_batch_size * self.steps_per_generation
        rows_per_prompt = self.num_generations * self.points_per_candidate
        if rows % rows_per_prompt:
            raise ValueError(
                f"per_device_train_batch_size × steps_per_generation = {self.per_device_train_batch_size} × "
                f"{self.steps_per_generation} = {rows} {self.rows_are} do not divide into prompts of num_generations × "
                f"{self.points_are} = {self.num_generations} × {self.points_per_candidate} = {rows_per_prompt} {self.rows_are}; "
                f"make the product a multiple of {rows_per_prompt}."
            )

    # What is trained on, in the sentences that say how much of it there is.
    points_are: ClassVar[str] = "steps trained"
    rows_are: ClassVar[str] = "transitions"

    @property
    def points_per_candidate(self) -> int:
        """Points of a candidate's way from noise to picture that are trained on."""
        raise NotImplementedError(f"{type(self).__name__} has to say how many points of a candidate are trained on.")

    @property
    def prompts_per_rollout(self) -> int:
        """Prompts of one rollout on one device."""
        rows = self.per_device_train_batch_size * self.steps_per_generation
        return rows // (self.num_generations * self.points_per_candidate)

    @property
    def steps_per_rollout(self) -> int:
        """Micro-steps that train on one rollout, however often each of its rows comes."""
        return self.steps_per_generation * self.num_iterations

    @property
    def on_policy(self) -> bool:
        """Whether the optimizer does not move between a rollout and the last loss that is computed on it."""
        return self.gradient_accumulation_steps % self.steps_per_rollout == 0 and not self.pipelined_judge
