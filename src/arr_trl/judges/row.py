"""What a judge is given: the candidates of a prompt, and nothing that says which is better."""

from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True, eq=False)
class JudgeRow:
    """
    The candidates of one prompt.

    Args:
        prompt (`str`): the caption, or the instruction of an edit.
        images (`tuple[PIL.Image.Image, ...]`): two or more candidates.
        source_image (`PIL.Image.Image` or `list` of them, *optional*):
            the image that was edited; several where an instruction refers to several.
        rewarded (`bool`, *optional*, defaults to `False`): whether a rollout is rewarded by the verdict.
    """

    prompt: str
    images: tuple[Image.Image, ...]
    source_image: Image.Image | list[Image.Image] | None = None
    rewarded: bool = False

    @property
    def sources(self) -> list[Image.Image]:
        """The images that were edited, as many as there are."""
        found = self.source_image
        return list(found) if isinstance(found, list | tuple) else [] if found is None else [found]


def judge_rows(
    prompts: list[str],
    completions: list[Image.Image],
    num_generations: int,
    source_image: list[Image.Image | list[Image.Image]] | None = None,
) -> list[JudgeRow]:
    """
    Rows from the flat lists of TRL's protocol.

    Raises:
        `ValueError`: when the lists do not make groups of `num_generations`.
    """
    n = num_generations
    if len(prompts) != len(completions) or len(completions) % n:
        raise ValueError(
            f"{len(completions)} completions for {len(prompts)} prompts do not make groups of {n}; give the "
            "candidates of one prompt side by side, with the prompt repeated for each."
        )
    return [
        JudgeRow(prompts[i], tuple(completions[i : i + n]), None if source_image is None else source_image[i])
        for i in range(0, len(completions), n)
    ]
