"""What a user decides when pairs are made: by editing pictures after a critique, or of the best and worst of several."""

from dataclasses import dataclass, field

from ..judges.prompts import LANGUAGES


@dataclass
class PairsConfig:
    """
    What both ways of making pairs have in common.

    Args:
        max_failure_rate (`float`, *optional*, defaults to `0.5`):
            Share of the questions of one stage that may get no answer before the run stops.
        prompts_at_once (`int`, *optional*, defaults to `64`):
            Prompts that go through all stages together. Their pictures are in memory, and the pairs are written when they
            are through.
        pictures_seed (`int`, *optional*, defaults to `0`):
            Seed of the pictures, with the prompt and the number of each.

    Raises:
        `ValueError`: when a value is out of its range.
    """

    max_failure_rate: float = field(
        default=0.5, metadata={"help": "Share of the questions of a stage that may get no answer, 0 to 1."}
    )
    prompts_at_once: int = field(
        default=64, metadata={"help": "Prompts that go through all stages together; their pictures are in memory."}
    )
    pictures_seed: int = field(
        default=0, metadata={"help": "Seed of the pictures, with the prompt and the number of each."}
    )

    def __post_init__(self):
        if not 0 <= self.max_failure_rate <= 1:
            raise ValueError(f"max_failure_rate={self.max_failure_rate} is a share; it has to lie between 0 and 1.")
        if self.prompts_at_once < 1:
            raise ValueError(f"prompts_at_once={self.prompts_at_once} has to be at least 1.")


@dataclass
class BestWorstConfig(PairsConfig):
    """
    Settings of [`BestWorst`].

    Args:
        num_candidates (`int`, *optional*, defaults to `4`):
            Pictures of each prompt, of which the best and the worst make a pair; at least 2.
        max_failure_rate (`float`, *optional*, defaults to `0.5`):
            See [`PairsConfig`], and for those below.
        prompts_at_once (`int`, *optional*, defaults to `64`):
            See [`PairsConfig`].
        pictures_seed (`int`, *optional*, defaults to `0`):
            See [`PairsConfig`].
    """

    num_candidates: int = field(
        default=4, metadata={"help": "Pictures of each prompt, of which the best and the worst make a pair."}
    )

    def __post_init__(self):
        super().__post_init__()
        if self.num_candidates < 2:
            raise ValueError(f"num_candidates={self.num_candidates} makes no pair; it has to be at least 2.")


@dataclass
class RichPairsConfig(PairsConfig):
    """
    Settings of [`RichPairs`] (Rich Preference Optimization, [paper](https://huggingface.co/papers/2503.11720)). The paper's
    own thresholds are not public; these are ours.

    Args:
        samples_per_prompt (`int`, *optional*, defaults to `1`):
            Pictures of each prompt that are looked at.
        edits_per_sample (`int`, *optional*, defaults to `1`):
            Edits of each picture, from different seeds; each may become a pair.
        min_severity (`int`, *optional*, defaults to `2`):
            Severity from which on a fault is mended, 1 to 3. A picture without such a fault makes no pair.
        max_edits (`int`, *optional*, defaults to `3`):
            Most changes that one instruction asks for.
        min_confidence (`float`, *optional*, defaults to `0.5`):
            Changes that whoever writes them trusts less are left out.
        max_instruction_words (`int`, *optional*, defaults to `60`):
            Longer changes are left out.
        min_pixel_change (`float`, *optional*, defaults to `2.0`):
            Mean absolute change of a pixel, of 255, under which an edit counts as none.
        max_changed_share (`float`, *optional*, defaults to `0.4`):
            Share of the pixels that may change by more than 32 of 255 where all faults have a place in the picture.
        min_edited_wins (`float`, *optional*, defaults to `0.6`):
            Share of decided pairs in which the edited picture has to win; under it, the editor makes pictures worse, and
            the run stops. 0 never stops.
        min_decided (`int`, *optional*, defaults to `50`):
            Decided pairs from which on `min_edited_wins` is asked for.
        language (`str`, *optional*, defaults to `"en"`):
            Language of the templates, `"en"` or `"zh"`.
        max_tokens (`int`, *optional*, defaults to `2048`):
            Longest reply of those that write.
        temperature (`float`, *optional*, defaults to `0.0`):
            Sampling temperature of those that write.
        max_failure_rate (`float`, *optional*, defaults to `0.5`):
            See [`PairsConfig`], and for those below.
        prompts_at_once (`int`, *optional*, defaults to `64`):
            See [`PairsConfig`].
        pictures_seed (`int`, *optional*, defaults to `0`):
            See [`PairsConfig`].
    """

    samples_per_prompt: int = field(default=1, metadata={"help": "Pictures of each prompt that are looked at."})
    edits_per_sample: int = field(
        default=1, metadata={"help": "Edits of each picture, from different seeds; each may become a pair."}
    )
    min_severity: int = field(
        default=2, metadata={"help": "Severity from which on a fault is mended.", "choices": [1, 2, 3]}
    )
    max_edits: int = field(default=3, metadata={"help": "Most changes that one instruction asks for."})
    min_confidence: float = field(
        default=0.5, metadata={"help": "Changes that whoever writes them trusts less are left out, 0 to 1."}
    )
    max_instruction_words: int = field(default=60, metadata={"help": "Longer changes are left out."})
    min_pixel_change: float = field(
        default=2.0, metadata={"help": "Mean change of a pixel, of 255, under which an edit counts as none."}
    )
    max_changed_share: float = field(
        default=0.4,
        metadata={"help": "Share of the pixels that may change by more than 32 of 255, where faults are local."},
    )
    min_edited_wins: float = field(
        default=0.6,
        metadata={"help": "Share of decided pairs that the edited picture has to win, else the run stops; 0 never."},
    )
    min_decided: int = field(
        default=50, metadata={"help": "Decided pairs from which on `min_edited_wins` is asked for."}
    )
    language: str = field(default="en", metadata={"help": "Language of the templates.", "choices": list(LANGUAGES)})
    max_tokens: int = field(default=2048, metadata={"help": "Longest reply of those that write, in tokens."})
    temperature: float = field(default=0.0, metadata={"help": "Sampling temperature of those that write."})

    def __post_init__(self):
        super().__post_init__()
        for name in ("samples_per_prompt", "edits_per_sample", "max_edits", "max_instruction_words", "min_decided"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} has to be at least 1.")
        if self.min_severity not in (1, 2, 3):
            raise ValueError(f"min_severity={self.min_severity} has to be 1, 2 or 3.")
        for name in ("min_confidence", "max_changed_share", "min_edited_wins"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} is a share; it has to lie between 0 and 1.")
        if not 0 <= self.min_pixel_change <= 255:
            raise ValueError(f"min_pixel_change={self.min_pixel_change} is a change of a pixel, 0 to 255.")
        if self.language not in LANGUAGES:
            raise ValueError(f"language={self.language!r} is not one of {', '.join(map(repr, LANGUAGES))}.")
