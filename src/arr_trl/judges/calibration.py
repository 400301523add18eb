"""What makes a judge's margins those of people: a temperature, and a band of ties, fitted on labelled pairs and kept in a file."""

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ..folders import replacing
from ..text_files import read_json, read_text


@dataclass(frozen=True)
class Calibration:
    """
    What was fitted to labels; see [`~arr_trl.evaluation.calibrate.calibrate`].

    Args:
        tie_margin (`float`):
            The lead up to which a pair is a tie, after the temperature.
        temperature (`float`, *optional*, defaults to `1.0`):
            What the log-odds of a choice are divided by ([paper](https://huggingface.co/papers/1706.04599)): above 1 for a
            judge that is surer than it is right.
        fitted_for (`Mapping[str, Any]`):
            The judge: its `models` and the content hashes of its `rubrics`.
        measured (`Mapping[str, Any]`):
            What it is worth, on pairs that it was not fitted on.
    """

    tie_margin: float
    temperature: float = 1.0
    fitted_for: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        for name, value, holds in (
            ("tie_margin", self.tie_margin, _is_number(self.tie_margin) and self.tie_margin >= 0),
            ("temperature", self.temperature, _is_number(self.temperature) and self.temperature > 0),
        ):
            if not holds:
                least = "0 or greater" if name == "tie_margin" else "greater than 0"
                raise ValueError(f"{name}={value!r} of a calibration has to be a number {least}.")

    @classmethod
    def load(cls, path: str | Path) -> "Calibration":
        """
        Read the file that `arr-trl judge calibrate` writes.

        Raises:
            `FileNotFoundError`: when there is no such file.
            `ValueError`: when it is something else.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"There is no calibration at {path}; `arr-trl judge calibrate` writes one.")
        try:
            data = read_json(read_text(Path(path)))
        except ValueError as error:
            raise ValueError(f"The calibration {path} is not valid JSON: {error}.") from error
        known = {of.name for of in fields(cls)}
        if not isinstance(data, dict) or "tie_margin" not in data or data.keys() - known:
            raise ValueError(f"{path} is not a calibration; `arr-trl judge calibrate` writes one.")
        return cls(**data)

    def save(self, path: str | Path) -> None:
        """Write it as JSON, never half of it."""
        with replacing(path) as written:
            written.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def check_judge(self, models: list[str], rubrics: list[str]) -> None:
        """
        Warn when it was fitted for another judge.

        Args:
            models (`list[str]`): names of the judge's models.
            rubrics (`list[str]`): content hashes of its rubrics.
        """
        if self.fitted_for and self.fitted_for != {"models": models, "rubrics": rubrics}:
            warnings.warn(
                f"The calibration was fitted for {_told(self.fitted_for)}, and the judge is "
                f"{_told({'models': models, 'rubrics': rubrics})}; fit it anew with `arr-trl judge calibrate`."
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _told(judge: Mapping[str, Any]) -> str:
    return f"{', '.join(judge.get('models', []))} with rubric {', '.join(judge.get('rubrics', [])) or 'auto'}"
