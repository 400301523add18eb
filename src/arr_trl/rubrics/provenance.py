"""Where a rubric comes from."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Provenance(BaseModel):
    """
    Where a rubric comes from: what has to be known to judge it and to make it again. It changes no verdict.

    Args:
        arr_trl (`str`): version of the package.
        method (`str`): `"few-shot"`, `"zero-shot"`, `"description"`, or `"by hand"`.
        dataset (`str`, *optional*): name or file of the preference data.
        dataset_config (`str`, *optional*): its configuration.
        dataset_split (`str`, *optional*): its split.
        dataset_revision (`str`, *optional*): commit on the Hub.
        pairs_digest (`str`, *optional*): digest of the pairs that were used, labels included.
        writer (`str`, *optional*): model that wrote, refined and structured the criteria.
        verifier (`str`, *optional*): model that verified them and judged the held-out pairs.
        templates (`tuple[str, ...]`): name, version and digest of every prompt template.
        settings (`dict`): settings of the run, seeds included.
        counts (`dict[str, int]`): pairs and criteria at each stage.
        dropped (`dict[str, int]`): pairs that gave no criteria, by reason.
        holdout (`dict`, *optional*): accuracy on held-out pairs with and without the rubric, 95% intervals.
        cv_accuracy (`float`, *optional*): cross-validated accuracy of the weights on the pairs they were learned from.
        content_hash (`str`, *optional*): hash of the text that was made; that of the rubric is another where it was edited.
        edited (`bool`, *optional*): whether it was edited since, so that the figures of that text are left out.
        measured (`dict`, *optional*):
            what `arr-trl rubric verify --update true` found, with the `content_hash` of the text that was measured.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    arr_trl: str
    method: Literal["few-shot", "zero-shot", "description", "by hand"]
    dataset: str | None = None
    dataset_config: str | None = None
    dataset_split: str | None = None
    dataset_revision: str | None = None
    pairs_digest: str | None = None
    writer: str | None = None
    verifier: str | None = None
    templates: tuple[str, ...] = ()
    settings: dict[str, Any] = {}
    counts: dict[str, int] = {}
    dropped: dict[str, int] = {}
    holdout: dict[str, Any] | None = None
    cv_accuracy: float | None = None
    content_hash: str | None = None
    edited: bool | None = None
    measured: dict[str, Any] | None = None

    def __hash__(self) -> int:  # its dictionaries have none
        return hash(self.model_dump_json())

    def of_text(self, content_hash: str) -> "Provenance":
        """This, without the figures of another text than the one with this hash."""
        changes: dict[str, Any] = {}
        if self.content_hash not in (None, content_hash):
            changes = {"edited": True, "counts": {}, "dropped": {}, "holdout": None, "cv_accuracy": None}
        if self.measured is not None and self.measured.get("content_hash") != content_hash:
            changes["measured"] = None
        return self.model_copy(update=changes)

    def facts(self) -> dict[str, Any]:
        """What is known, nested values spelled out, for tables."""
        found = {}
        for name, value in self.model_dump(exclude_none=True).items():
            if isinstance(value, dict):
                value = ", ".join(f"{key} {_plain(part)}" for key, part in value.items())
            elif isinstance(value, tuple):
                value = ", ".join(value)
            if name == "edited":
                value = "since it was made, so that the figures of that text are left out" if value else None
            if value not in ("", None):
                found[name] = value
        return found


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_plain, value))}]"
    if isinstance(value, dict):
        return f"({', '.join(f'{key} {_plain(part)}' for key, part in value.items())})"
    return str(value)
