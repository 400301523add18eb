"""Every decision about teaching a judge by comparing what it writes about the two pictures of a pair."""

from dataclasses import dataclass, field
from typing import Annotated

from trl import GRPOConfig

from ..runtime.checkpoints import ALWAYS


@dataclass
class GCPOConfig(GRPOConfig):
    r"""
    Configuration class for the [`GCPOTrainer`].

    Only what differs from TRL's [`~trl.GRPOConfig`] is described here. `remove_unused_columns` is off.

    Parameters:
        pair_reward (`str`, *optional*, defaults to `"gcpo"`):
            What a trace is rewarded for: `"gcpo"`, the traces about the pair's other picture that it agrees with the label
            against ([Edit-R1](https://huggingface.co/papers/2604.27505)), or `"thurstone"`, how well its score fits the
            label under Thurstone's model ([VisualQuality-R1](https://huggingface.co/papers/2505.14460)), which goes with
            `scale_rewards="group"`, `num_generations=6` and `beta=0.04` there.
        num_generations (`int`, *optional*, defaults to `4`):
            Traces about each picture; the paper says that it is small.
        scale_rewards (`str`, *optional*, defaults to `"none"`):
            Rewards minus the mean of their group are the advantages, not divided by a deviation.
        loss_type (`str`, *optional*, defaults to `"grpo"`):
            Mean over traces of the mean over their tokens.
        learning_rate (`float`, *optional*, defaults to `1e-6`):
            Learning rate.
        per_device_train_batch_size (`int`, *optional*, defaults to `8`):
            Traces in one forward and backward pass. Times `gradient_accumulation_steps` it has to be whole pairs, of twice
            `num_generations` traces each.
        gradient_accumulation_steps (`int`, *optional*, defaults to `4`):
            Micro-steps per optimizer step.
        max_completion_length (`int`, *optional*, defaults to `1024`):
            Longest trace, in tokens.
    """

    pair_reward: Annotated[str, ALWAYS] = field(
        default="gcpo",
        metadata={
            "help": "What a trace is rewarded for: comparisons that it wins (`gcpo`), or how its score fits the label under "
            "Thurstone's model (`thurstone`).",
            "choices": ["gcpo", "thurstone"],
        },
    )
    num_generations: Annotated[int, ALWAYS] = field(default=4, metadata={"help": "Traces about each picture."})
    scale_rewards: str = field(
        default="none", metadata={"help": "`none`: advantages are rewards minus the mean of their group, not divided."}
    )
    loss_type: str = field(default="grpo", metadata={"help": "Mean over traces of the mean over their tokens."})
    learning_rate: float = field(default=1e-6, metadata={"help": "Learning rate."})
    per_device_train_batch_size: int = field(
        default=8, metadata={"help": "Traces in one forward and backward pass: the memory knob."}
    )
    gradient_accumulation_steps: int = field(default=4, metadata={"help": "Micro-steps per optimizer step."})
    max_completion_length: int = field(default=1024, metadata={"help": "Longest trace, in tokens."})

    def __post_init__(self):
        super().__post_init__()
        self.remove_unused_columns = False  # rows are made when their turn comes, and rewards read their columns
        if self.pair_reward not in ("gcpo", "thurstone"):
            raise ValueError(f"pair_reward={self.pair_reward!r} is not one of 'gcpo', 'thurstone'.")
        traces = self.per_device_train_batch_size * self.steps_per_generation
        if traces % (2 * self.num_generations):
            raise ValueError(
                f"per_device_train_batch_size × steps_per_generation = {traces} would split a pair, which has 2 × "
                f"num_generations = {2 * self.num_generations} traces; make it a multiple of that."
            )
        if self.num_iterations > 1 or self.steps_per_generation != self.gradient_accumulation_steps:
            raise ValueError(
                "Traces are trained on once, in the step after they are written: leave `num_iterations` at 1 and "
                "`steps_per_generation` unset. A checkpoint between two steps would have to hold them."
            )

    @property
    def pairs_per_step(self) -> int:
        """Labelled pairs of an optimizer step, over all processes."""
        return self.generation_batch_size // (2 * self.num_generations)
