"""Every decision about passing the gradient of a reward back through the steps that drew a picture."""

import warnings
from dataclasses import dataclass, field
from random import Random

from .flow_config import FlowConfig


@dataclass
class AlignPropConfig(FlowConfig):
    r"""
    Configuration class for the [`AlignPropTrainer`].

    It holds only what is specific to gradients of rewards: model, evaluation and output are described in [`FlowConfig`],
    the rest in [`~transformers.TrainingArguments`]. With [`~transformers.HfArgumentParser`] the class becomes command-line
    arguments.

    Parameters:
        > Parameters that control the steps that are trained

        num_inference_steps (`int`, *optional*, defaults to `25`):
            Denoising steps of a picture, T. The noise levels are those of the pipeline's own scheduler.
        backprop_strategy (`str`, *optional*, defaults to `"last"`):
            Which steps the gradient goes through: `"last"`, the last `backprop_steps`
            ([DRaFT-K](https://huggingface.co/papers/2309.17400), truncated
            [AlignProp](https://huggingface.co/papers/2310.03739)); `"random"`, as many evenly spaced ones from a random
            first on ([DRTune](https://huggingface.co/papers/2405.00760), with `detach_inputs`); `"refl"`, one late step, from
            which the picture is taken at a jump ([ReFL](https://huggingface.co/papers/2304.05977)); `"leap"`, two random
            ones, each a leap over those behind it ([LeapAlign](https://huggingface.co/papers/2604.15311)). What is random is
            the same for all pictures of an optimizer step.
        backprop_steps (`int`, *optional*, defaults to `1`):
            Steps with gradient, K, of `"last"` and `"random"`. Memory for activations grows with it.
        min_backprop_steps (`int`, *optional*):
            With `"last"`, draw the number of steps anew for each optimizer step, from this one to `backprop_steps`:
            AlignProp's randomized truncation. By default it is always `backprop_steps`.
        backprop_range (`list[int]`, *optional*):
            First step, and the one after the last, that `"random"`, `"refl"` and `"leap"` draw from. By default all steps,
            and for `"refl"` the last quarter.
        detach_inputs (`bool`, *optional*, defaults to `False`):
            Cut the gradient before the network in each of these steps: an earlier step gets it by the sum of the steps
            alone, and it cannot explode along the network. For `"last"` and `"random"`.
        leap_discount (`float`, *optional*, defaults to `0.3`):
            What `"leap"` multiplies the gradient by that reaches the first step through the network of the second, 0 to 1.

        > Parameters that control the objective

        reward_ceiling (`float`, *optional*):
            Reward above which a picture has no gradient any more, ReFL's relu(ceiling - reward). By default none.
        beta (`float`, *optional*, defaults to `0.0`):
            Weight of the squared distance of velocities from the `reference` in the steps with gradient, at one more
            forward for each.

        > Deprecated names of TRL's AlignPropConfig

        truncated_backprop_timestep (`int`, *optional*):
            First step with gradient of `num_inference_steps`: `backprop_steps` counts from the end.
        truncated_backprop_rand (`bool`, *optional*):
            `True` needs `truncated_rand_backprop_minmax`; `False` is `min_backprop_steps` left out.
        truncated_rand_backprop_minmax (`list[int]`, *optional*):
            Least and largest first step with gradient: `backprop_steps` and `min_backprop_steps` count from the end.
    """

    # Overridden defaults: few pictures fit at once, of which a step needs many less than without a gradient.
    per_device_train_batch_size: int = field(
        default=4, metadata={"help": "Pictures in one forward and backward pass: the memory knob."}
    )
    gradient_accumulation_steps: int = field(
        default=8, metadata={"help": "Micro-steps per optimizer step. 8 of 4 are 32 pictures."}
    )
    learning_rate: float = field(default=1e-4, metadata={"help": "The initial learning rate for AdamW."})

    num_inference_steps: int = field(
        default=25,
        metadata={"help": "Denoising steps of a picture, at the noise levels of the pipeline's own scheduler."},
    )
    backprop_strategy: str = field(
        default="last",
        metadata={
            "help": "Steps with gradient: the `last` (DRaFT, AlignProp), evenly spaced ones from a `random` first on "
            "(DRTune), one late step and a jump (`refl`), or two leaps (`leap`).",
            "choices": ["last", "random", "refl", "leap"],
        },
    )
    backprop_steps: int = field(
        default=1, metadata={"help": "Steps with gradient of `last` and `random`; memory grows with them."}
    )
    min_backprop_steps: int | None = field(
        default=None,
        metadata={
            "help": "With `last`, draw the number of steps from this one to `backprop_steps`. Unset, it is fixed."
        },
    )
    backprop_range: list[int] | None = field(
        default=None,
        metadata={
            "help": "First step, and the one after the last, that `random`, `refl` and `leap` draw from. Unset, all, and "
            "for `refl` the last quarter.",
            "nargs": 2,
        },
    )
    detach_inputs: bool = field(
        default=False,
        metadata={"help": "Cut the gradient before the network in each step with gradient (DRTune)."},
    )
    leap_discount: float = field(
        default=0.3,
        metadata={"help": "What `leap` multiplies the gradient by that goes through both networks, 0 to 1."},
    )
    reward_ceiling: float | None = field(
        default=None, metadata={"help": "Reward above which a picture has no gradient any more. Unset, none."}
    )
    beta: float = field(
        default=0.0,
        metadata={
            "help": "Weight of the distance from the `reference` in the steps with gradient, at a forward pass for each."
        },
    )

    truncated_backprop_timestep: int | None = field(
        default=None, metadata={"help": "Deprecated, TRL's: first step with gradient. Use `backprop_steps`."}
    )
    truncated_backprop_rand: bool | None = field(
        default=None, metadata={"help": "Deprecated, TRL's: use `min_backprop_steps`."}
    )
    truncated_rand_backprop_minmax: list[int] | None = field(
        default=None,
        metadata={
            "help": "Deprecated, TRL's: least and largest first step with gradient. Use `backprop_steps` and "
            "`min_backprop_steps`.",
            "nargs": 2,
        },
    )

    def __post_init__(self):
        self._take_names_of_trl()
        super().__post_init__()
        self._check_at_least_one("num_inference_steps", "backprop_steps", "min_backprop_steps")
        self._check_one_of("backprop_strategy", "last", "random", "refl", "leap")
        if self.backprop_range is None:
            late = min(3 * self.num_inference_steps // 4, self.num_inference_steps - 1)
            self.backprop_range = [late if self.backprop_strategy == "refl" else 0, self.num_inference_steps]
        self._check_steps()
        for name in ("min_backprop_steps", "detach_inputs"):
            wanted = ("last",) if name == "min_backprop_steps" else ("last", "random")
            if getattr(self, name) and self.backprop_strategy not in wanted:
                raise ValueError(
                    f"{name}={getattr(self, name)} says nothing to backprop_strategy={self.backprop_strategy!r}; leave it out."
                )
        if not 0 <= self.leap_discount <= 1:
            raise ValueError(f"leap_discount={self.leap_discount} is a factor from 0 to 1.")
        if not self.beta >= 0:
            raise ValueError(f"beta={self.beta} must be at least 0; it is a magnitude.")

    def _check_steps(self) -> None:
        steps, drawn = self.num_inference_steps, self.backprop_range
        if not isinstance(drawn, list | tuple) or len(drawn) != 2 or any(type(step) is not int for step in drawn):
            raise ValueError(f"backprop_range={drawn!r} has to be two whole numbers, such as 0 {steps}.")
        first, end = drawn
        if not 0 <= first < end <= steps:
            raise ValueError(
                f"backprop_range={list(self.backprop_range)} has to be a first step and the one after the last, from 0 to "
                f"num_inference_steps={steps}."
            )
        needed = {"last": 0, "random": self.backprop_steps, "refl": 1, "leap": 2}[self.backprop_strategy]
        if self.backprop_steps > steps or end - first < needed:
            raise ValueError(
                f"backprop_strategy={self.backprop_strategy!r} with backprop_steps={self.backprop_steps} does not find its "
                f"steps among those from {first} to {end - 1} of num_inference_steps={steps}; take fewer, or a wider "
                "backprop_range."
            )
        if self.min_backprop_steps is not None and self.min_backprop_steps > self.backprop_steps:
            raise ValueError(
                f"min_backprop_steps={self.min_backprop_steps} is more than backprop_steps={self.backprop_steps}, up to which "
                "the number of steps is drawn."
            )

    def _take_names_of_trl(self) -> None:
        single, both = self.truncated_backprop_timestep, self.truncated_rand_backprop_minmax
        if single is None and self.truncated_backprop_rand is None and both is None:
            return
        warnings.warn(
            "`truncated_backprop_timestep`, `truncated_backprop_rand` and `truncated_rand_backprop_minmax` count steps from "
            "the beginning; use `backprop_steps` and `min_backprop_steps`, which count from the end.",
            FutureWarning,
        )
        if self.truncated_backprop_rand and both is None:
            raise ValueError(
                "truncated_backprop_rand=True needs `truncated_rand_backprop_minmax`, the first steps to draw from; or give "
                "`min_backprop_steps` and `backprop_steps`."
            )
        # in TRL the random one wins where it is not switched off; no step is left where the first one is T
        if both is not None and self.truncated_backprop_rand is not False:
            self.min_backprop_steps, self.backprop_steps = (
                max(self.num_inference_steps - first, 1) for first in (both[1], both[0])
            )
        elif single is not None:
            self.backprop_steps = self.num_inference_steps - single
        self.truncated_backprop_timestep = self.truncated_backprop_rand = self.truncated_rand_backprop_minmax = None

    def steps_with_gradient(self, random: Random) -> list[int]:
        """
        Which steps of the schedule have a gradient in an optimizer step, in order.

        Args:
            random (`random.Random`): the randomness of that step.
        """
        first, end = self.backprop_range
        if self.backprop_strategy == "refl":
            return [random.randrange(first, end)]
        if self.backprop_strategy == "leap":
            return sorted(random.sample(range(first, end), 2))
        count = self.backprop_steps
        if self.backprop_strategy == "random":
            apart = (end - first) // count
            first += random.randrange(end - first - (count - 1) * apart)
            return list(range(first, first + (count - 1) * apart + 1, apart))
        if self.min_backprop_steps is not None:
            count = random.randint(self.min_backprop_steps, count)
        return list(range(self.num_inference_steps - count, self.num_inference_steps))

    @property
    def decodes_with_gradient(self) -> bool:
        return True

    @property
    def needs_reference(self) -> bool:
        return self.beta > 0

    @property
    def pictures_per_draw(self) -> int:
        return self.per_device_train_batch_size * self.gradient_accumulation_steps * self.world_size
