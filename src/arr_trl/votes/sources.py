"""Where the pairs come from that people vote on: a preference dataset, or two models that draw for the same prompts."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from ..data import load_mask
from ..data.preferences import Preference
from ..digests import image_digest
from ..folders import replacing
from ..judges.questions import content_key
from ..pairs.outcome import told_apart
from ..pairs.painter import Painter, Wanted, edited, opened, seed_of
from .book import VotingPair


IMAGES = "images"
_PROMPTS_AT_ONCE = 8


def pairs_of_preferences(
    preferences: Iterable[Preference | str], folder: Path, bad: list[str]
) -> Iterator[VotingPair]:
    """
    Pairs of a dataset, in its order; their pictures are put beside the votes. Rows that cannot be used go to `bad`.

    Args:
        preferences (`Iterable`): what [`~arr_trl.data.preferences.load_preferences`] yields.
        folder (`Path`): folder of the votes.
        bad (`list[str]`): gets a sentence for each row that cannot be used.
    """
    for pair in preferences:
        if isinstance(pair, str):
            bad.append(pair)
            continue
        source = pair.source_image
        sources = source if isinstance(source, list) else [] if source is None else [source]
        given = (1, 1) if pair.winner is None else (1, 2) if pair.winner == 0 else (2, 1)
        mask = load_mask(pair.mask_image, source)
        yield _pair(pair.prompt, pair.images, sources, mask, folder, given_rank=given)


def pairs_of_models(
    painters: tuple[Painter, Painter], rows: Sequence[dict[str, Any]], folder: Path, seed: int
) -> Iterator[VotingPair]:
    """
    Pairs that two models draw for the same prompts from the same noise.

    Args:
        painters (`tuple[Painter, Painter]`): what draws them.
        rows (`Sequence[dict]`): rows with a `prompt`, and where the models edit a `source_image` and its `mask_image`.
        folder (`Path`): folder of the votes.
        seed (`int`): seed of the noise, with the prompt.
    """
    waiting, taken = iter(rows), set()
    while block := list(islice(waiting, _PROMPTS_AT_ONCE)):
        wanted = []
        for row in told_apart(block, taken):
            source, mask = edited(painters[0].policy, row)
            wanted.append(Wanted(row["prompt"], source, seed_of(seed, 0, row["prompt"], source), mask))
        drawn = [painter.draw(wanted) for painter in painters]
        for one, *paths in zip(wanted, *drawn, strict=True):
            sources = one.source if isinstance(one.source, list) else [] if one.source is None else [one.source]
            images = tuple(map(opened, paths))
            if images[0].tobytes() != images[1].tobytes():  # nothing to choose between
                names = painters[0].name, painters[1].name
                yield _pair(one.prompt, images, sources, one.mask, folder, models=names)


def _pair(
    prompt: str,
    images: Sequence[Image.Image],
    sources: Sequence[Image.Image],
    mask: Image.Image | None,
    folder: Path,
    **others: Any,
) -> VotingPair:
    first, second, *beside = (_kept(image, folder) for image in (*images, *sources))
    masked = None if mask is None else _kept(mask, folder)
    key = content_key(prompt, first, second, beside, *([] if masked is None else [masked]))
    return VotingPair(key, prompt, (first, second), tuple(beside), mask=masked, **others)


def _kept(image: Image.Image, folder: Path) -> str:
    """The path, from `folder`, of a picture that is kept by its content."""
    path = folder / IMAGES / f"{image_digest(image)}.png"
    if not path.is_file():
        with replacing(path) as written:
            image.save(written, format="PNG", compress_level=1)
    return path.relative_to(folder).as_posix()
