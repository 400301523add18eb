"""Questions, tokens and seconds, counted while judging."""

from dataclasses import dataclass, field


@dataclass
class JudgeStats:
    """
    What judging cost.

    Args:
        calls (`int`): questions sent to the model, repairs included.
        stored (`int`): questions answered from the store.
        prompt_tokens (`int`): tokens in.
        completion_tokens (`int`): tokens out.
        latencies_s (`list[float]`): seconds per question.
        abstentions (`list[float]`):
            per verdict, the share of an ensemble's judges, or of a tournament's pairs, that gave none.
        comparisons (`list[str | None]`):
            of a tournament why each pair has no verdict, of scores why each candidate has none; `None` where it has one.
        orders (`list[bool]`): of a tournament, whether both orders of a pair agreed.
        label_mass (`list[float]`): of answers that are labels, the probability of all labels together.
    """

    calls: int = 0
    stored: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    latencies_s: list[float] = field(default_factory=list)
    abstentions: list[float] = field(default_factory=list)
    comparisons: list[str | None] = field(default_factory=list)
    orders: list[bool] = field(default_factory=list)
    label_mass: list[float] = field(default_factory=list)

    def __iadd__(self, other: "JudgeStats") -> "JudgeStats":
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self
