"""Every decision about teaching a judge its first token."""

from dataclasses import dataclass, field

from trl import SFTConfig


@dataclass
class FirstTokenSFTConfig(SFTConfig):
    r"""
    Configuration class for the [`FirstTokenSFTTrainer`].

    Only what differs from TRL's [`~trl.SFTConfig`] is described here; the defaults are PaCo-Reward's own, for LoRA of rank 32
    on Qwen2.5-VL-7B. `completion_only_loss` is always on, and `remove_unused_columns` off.

    Parameters:
        first_token_weight (`float`, *optional*, defaults to `0.1`):
            Share of an answer's loss that its first token has; the other tokens have the rest together. For a judge that is
            only ever read at the first token, more is worth a try.
        learning_rate (`float`, *optional*, defaults to `2e-4`):
            Learning rate.
        lr_scheduler_type (`str`, *optional*, defaults to `"cosine"`):
            Schedule of the learning rate.
        warmup_steps (`float`, *optional*, defaults to `0.1`):
            Steps, or below 1 the share of them, in which the learning rate rises.
        num_train_epochs (`float`, *optional*, defaults to `2.0`):
            How often every row is trained on.
        per_device_train_batch_size (`int`, *optional*, defaults to `8`):
            Rows in one forward and backward pass: the memory knob.
        gradient_accumulation_steps (`int`, *optional*, defaults to `4`):
            Micro-steps per optimizer step.
        max_length (`int`, *optional*):
            Longest row in tokens. Unset, none is cut; a cut inside a picture is an error.
    """

    learning_rate: float = field(default=2e-4, metadata={"help": "Learning rate."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Schedule of the learning rate."})
    warmup_steps: float = field(
        default=0.1, metadata={"help": "Steps, or below 1 the share of them, in which the learning rate rises."}
    )
    num_train_epochs: float = field(default=2.0, metadata={"help": "How often every row is trained on."})
    per_device_train_batch_size: int = field(
        default=8, metadata={"help": "Rows in one forward and backward pass: the memory knob."}
    )
    gradient_accumulation_steps: int = field(default=4, metadata={"help": "Micro-steps per optimizer step."})
    max_length: int | None = field(
        default=None,
        metadata={"help": "Longest row in tokens. Unset, none is cut; a cut inside a picture is an error."},
    )
    first_token_weight: float = field(
        default=0.1, metadata={"help": "Share of an answer's loss that its first token has, 0 to 1."}
    )

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.first_token_weight <= 1:
            raise ValueError(
                f"first_token_weight={self.first_token_weight} is the first token's share of the loss, 0 to 1."
            )
        if self.loss_type != "nll":
            raise ValueError(f"loss_type={self.loss_type!r} is another loss than this trainer's; leave it out.")
        self.completion_only_loss = True
        self.remove_unused_columns = False  # rows are made when their turn comes, of columns that no model knows
