"""What a user decides when a rubric is written from preferences."""

from dataclasses import dataclass, field
from typing import Literal

from ..judges.prompts import LANGUAGES


@dataclass
class AutoRubricConfig:
    """
    Settings of [`AutoRubric.write`] (Auto-Rubric as Reward, [paper](https://huggingface.co/papers/2605.08354)).

    Args:
        method (`str`, *optional*, defaults to `"few-shot"`):
            What criteria are written from: `"few-shot"` shows the writer the two images and which was preferred,
            `"zero-shot"` only the prompt. Both are verified against the label.
        num_criteria (`int`, *optional*, defaults to `5`):
            Most criteria for each pair.
        max_rounds (`int`, *optional*, defaults to `5`):
            How often criteria that failed are rewritten before the pair is dropped; 0 never rewrites.
        max_candidates (`int`, *optional*, defaults to `200`):
            Most criteria that are grouped at once; of more, the most diverse are taken.
        max_themes (`int`, *optional*, defaults to `5`):
            Most themes of the rubric.
        max_tips (`int`, *optional*, defaults to `5`):
            Most criteria under one theme.
        weights (`bool`, *optional*, defaults to `True`):
            Whether to learn a weight for each criterion and drop those that get none; without it all weigh the same.
        holdout (`float`, *optional*, defaults to `0.33`):
            Share of the prompts whose pairs are kept for measuring; 0 measures nothing.
        max_failure_rate (`float`, *optional*, defaults to `0.5`):
            Share of the requests of one stage that may get no answer before the run stops.
        language (`str`, *optional*, defaults to `"en"`):
            Language of the templates, `"en"` or `"zh"`.
        max_tokens (`int`, *optional*, defaults to `4096`):
            Longest reply.
        temperature (`float`, *optional*, defaults to `0.0`):
            Sampling temperature of the writer.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the split, the selection and the cross-validation.

    Raises:
        `ValueError`: when a value is out of its range.
    """

    method: Literal["few-shot", "zero-shot"] = field(
        default="few-shot",
        metadata={
            "help": "What criteria are written from: the labelled images of a pair, or its prompt alone.",
            "choices": ["few-shot", "zero-shot"],
        },
    )
    num_criteria: int = field(default=5, metadata={"help": "Most criteria for each pair."})
    max_rounds: int = field(
        default=5, metadata={"help": "How often failed criteria are rewritten before their pair is dropped."}
    )
    max_candidates: int = field(
        default=200, metadata={"help": "Most criteria that are grouped at once; of more, the most diverse are taken."}
    )
    max_themes: int = field(default=5, metadata={"help": "Most themes of the rubric."})
    max_tips: int = field(default=5, metadata={"help": "Most criteria under one theme."})
    weights: bool = field(
        default=True, metadata={"help": "Learn a weight for each criterion and drop those that get none."}
    )
    holdout: float = field(
        default=0.33, metadata={"help": "Share of the prompts whose pairs are kept for measuring, 0 to 0.9."}
    )
    max_failure_rate: float = field(
        default=0.5, metadata={"help": "Share of the requests of a stage that may get no answer, 0 to 1."}
    )
    language: str = field(default="en", metadata={"help": "Language of the templates.", "choices": list(LANGUAGES)})
    max_tokens: int = field(default=4096, metadata={"help": "Longest reply, in tokens."})
    temperature: float = field(default=0.0, metadata={"help": "Sampling temperature of the writer."})
    seed: int = field(default=0, metadata={"help": "Seed of the split, the selection and the cross-validation."})

    def __post_init__(self):
        for name in ("num_criteria", "max_candidates", "max_themes", "max_tips", "max_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} has to be at least 1.")
        if self.max_rounds < 0:
            raise ValueError(f"max_rounds={self.max_rounds} is a number of rounds; 0 rewrites nothing.")
        if not 0 <= self.holdout <= 0.9:
            raise ValueError(f"holdout={self.holdout} is a share of the prompts; it has to lie between 0 and 0.9.")
        if not 0 <= self.max_failure_rate <= 1:
            raise ValueError(f"max_failure_rate={self.max_failure_rate} is a share; it has to lie between 0 and 1.")
        for name, allowed in (("method", ("few-shot", "zero-shot")), ("language", LANGUAGES)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} is not one of {', '.join(map(repr, allowed))}.")
