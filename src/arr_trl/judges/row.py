"""What a judge is given: the candidates of a prompt, and nothing that says which is better."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from PIL import Image


if TYPE_CHECKING:
    from ..data.preferences import Preference


@dataclass(frozen=True, eq=False)
class JudgeRow:
    """
    The candidates of one prompt.

    Args:
        prompt (`str`): the caption, or the instruction of an edit.
        images (`tuple[PIL.Image.Image, ...]`): two or more candidates; one for a judge that looks at each alone.
        source_image (`PIL.Image.Image` or `list` of them, *optional*):
            the image that was edited; several where an instruction refers to several.
        rewarded (`bool`, *optional*, defaults to `False`): whether a rollout is rewarded by the verdict.
        columns (`Mapping`, *optional*):
            the other columns of the row, for judges that read some; `mask_image` is shown with the source.
    """

    prompt: str
    images: tuple[Image.Image, ...]
    source_image: Image.Image | list[Image.Image] | None = None
    rewarded: bool = False
    columns: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sources(self) -> list[Image.Image]:
        """The images that were edited, as many as there are."""
        found = self.source_image
        return list(found) if isinstance(found, list | tuple) else [] if found is None else [found]

    @cached_property
    def mask(self) -> Image.Image | None:
        """
        The mask of the edit in the size of its source, white where that was to be drawn anew; `None` where the row has none,
        or no source or several that it could be of.

        Raises:
            `ValueError`: when it cannot be read.
        """
        stored = self.columns.get("mask_image")
        if stored is None:
            return None
        from ..data import load_mask  # judges of pictures in memory do without `datasets`

        return load_mask(stored, self.source_image)

    @classmethod
    def of(cls, pair: "Preference", swapped: bool = False) -> "JudgeRow":
        """A labelled pair without its label, its images in the order of the data or the other way round."""
        columns = {} if pair.mask_image is None else {"mask_image": pair.mask_image}
        return cls(pair.prompt, pair.images[::-1] if swapped else pair.images, pair.source_image, columns=columns)


def judge_rows(
    prompts: list[str],
    completions: list[Image.Image],
    num_generations: int,
    source_image: list[Image.Image | list[Image.Image]] | None = None,
    columns: Mapping[str, Any] | None = None,
) -> list[JudgeRow]:
    """
    Rows from the flat lists of TRL's protocol; of `columns` the lists with one value for each completion are columns.

    Raises:
        `ValueError`: when the lists do not make groups of `num_generations`.
    """
    n = num_generations
    if len(prompts) != len(completions) or len(completions) % n:
        raise ValueError(
            f"{len(completions)} completions for {len(prompts)} prompts do not make groups of {n}; give the "
            "candidates of one prompt side by side, with the prompt repeated for each."
        )
    lists = {k: v for k, v in (columns or {}).items() if isinstance(v, list | tuple) and len(v) == len(prompts)}
    return [
        JudgeRow(
            prompts[i],
            tuple(completions[i : i + n]),
            None if source_image is None else source_image[i],
            columns={name: values[i] for name, values in lists.items()},
        )
        for i in range(0, len(completions), n)
    ]
