"""Sheets of pictures that belong together, such as base and trained, side by side under their prompts."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from ..data import MASK_COLUMN, SOURCE_COLUMN, load_mask
from ..folders import replacing


_SMALLEST, _LARGEST = 160, 320  # pixels of a picture's longer side in the sheet
_GAP, _MARGIN, _FONT_SIZE, _LINES = 6, 24, 14, 3
_PAPER, _INK, _FAINT, _BEST = (255, 255, 255), (32, 32, 32), (110, 110, 110), (0, 135, 60)
# Pillow's own font holds ASCII only; these are looked up by name among the system's fonts for other prompts.
_WIDE_FONTS = ("NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "DejaVuSans.ttf")


def save_samples(
    path: str | os.PathLike,
    prompts: Sequence[str],
    images: Mapping[str, Sequence[Image.Image | list[Image.Image]]],
    columns: int = 2,
    max_prompts: int = 16,
    captions: Mapping[str, Sequence[str]] | None = None,
    best: Sequence[str | None] | None = None,
    remarks: Sequence[str] | None = None,
) -> None:
    """
    Write one PNG that shows the pictures of each prompt beside each other.

    Tiny pictures are scaled up by a whole factor with nearest neighbour, so that their pixels stay pixels.

    Args:
        path (`str` or `os.PathLike`):
            The PNG file; replaced in one step.
        prompts (`Sequence[str]`):
            One prompt per group of pictures.
        images (`Mapping[str, Sequence[PIL.Image.Image]]`):
            Pictures by label, such as `{"base": [...], "trained": [...]}`; one per prompt under each label, or a list of
            them, such as the references of an edit.
        columns (`int`, *optional*, defaults to `2`):
            Prompts side by side.
        max_prompts (`int`, *optional*, defaults to `16`):
            At most this many prompts are shown, the first ones.
        captions (`Mapping[str, Sequence[str]]`, *optional*):
            By label what stands under the picture of each prompt, its lines as they are.
        best (`Sequence[str]`, *optional*):
            For each prompt the label of the picture that is framed, `None` for none.
        remarks (`Sequence[str]`, *optional*):
            For each prompt what stands below its pictures; of a long one the first words.

    Raises:
        `ValueError`: when there are no prompts, or not as many pictures as prompts.
    """
    for label, pictures in images.items():
        if len(pictures) != len(prompts):
            raise ValueError(
                f"There are {len(pictures)} {label} pictures for {len(prompts)} prompts; give one for each."
            )
    if not prompts:
        raise ValueError("A sample sheet needs at least one prompt.")
    cells = [
        _cell(
            prompt,
            {label: pictures[i] for label, pictures in images.items()},
            {label: lines[i] for label, lines in (captions or {}).items()},
            None if best is None else best[i],
            "" if remarks is None else remarks[i],
        )
        for i, prompt in enumerate(prompts[:max_prompts])
    ]
    columns = min(columns, len(cells))
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    width, heights = max(cell.width for cell in cells), [max(cell.height for cell in row) for row in rows]
    sheet = Image.new(
        "RGB",
        (_MARGIN + columns * (width + _MARGIN), _MARGIN + sum(height + _MARGIN for height in heights)),
        _PAPER,
    )
    y = _MARGIN
    for row, height in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            sheet.paste(cell, (_MARGIN + column * (width + _MARGIN), y))
        y += height + _MARGIN
    with replacing(path) as written:
        sheet.save(written, format="PNG")


def _cell(
    prompt: str,
    images: dict[str, Image.Image | list[Image.Image]],
    captions: dict[str, str],
    best: str | None,
    remark: str,
) -> Image.Image:
    """One prompt: its text, then the labelled pictures in a row, what is said of each, and of all of them."""
    font = _font_for(prompt)
    pictures = {label: side_by_side(image if isinstance(image, list) else [image]) for label, image in images.items()}
    width = sum(picture.width for picture in pictures.values()) + _GAP * (len(pictures) - 1)
    lines = _wrapped(prompt, width, font)
    line_height = _FONT_SIZE + 4
    top = len(lines) * line_height
    below = top + line_height + max(picture.height for picture in pictures.values())
    said = {label: caption.splitlines() for label, caption in captions.items()}
    small, wide = _font_for(""), _font_for(remark)
    remarks = _wrapped(remark, width, wide)
    under = below + _GAP * bool(said or remarks) + line_height * max(map(len, said.values()), default=0)
    cell = Image.new("RGB", (width, under + line_height * len(remarks)), _PAPER)
    draw = ImageDraw.Draw(cell)
    for number, line in enumerate(lines):
        draw.text((0, number * line_height), line, fill=_INK, font=font)
    x = 0
    for label, picture in pictures.items():
        color = _BEST if label == best else _FAINT
        draw.text((x, top), label, fill=color, font=font)
        cell.paste(picture, (x, top + line_height))
        if label == best:
            corner = (x + picture.width - 1, top + line_height + picture.height - 1)
            draw.rectangle((x, top + line_height, *corner), outline=_BEST, width=3)
        for number, line in enumerate(said.get(label, [])):
            end = _fitting(line, picture.width, small)
            draw.text((x, below + _GAP + number * line_height), line[:end], fill=color, font=small)
        x += picture.width + _GAP
    for number, line in enumerate(remarks):
        draw.text((0, under + number * line_height), line, fill=_INK, font=wide)
    return cell


def edited_pictures(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Image.Image | list[Image.Image]]]:
    """
    What pictures of these rows start from, as [`save_samples`] takes it: `source`, and `mask`, where all of them have one.
    """
    if any(row.get(SOURCE_COLUMN) is None for row in rows):
        return {}
    sources = [row[SOURCE_COLUMN] for row in rows]
    masks = [load_mask(row.get(MASK_COLUMN), source) for row, source in zip(rows, sources, strict=True)]
    return {"source": sources} | ({} if None in masks else {"mask": masks})


def side_by_side(images: list[Image.Image]) -> Image.Image:
    """Pictures in a row, each at the size of a sheet."""
    pictures = [_scaled(image.convert("RGB")) for image in images]
    width = sum(picture.width for picture in pictures) + _GAP * (len(pictures) - 1)
    row = Image.new("RGB", (width, max(picture.height for picture in pictures)), _PAPER)
    x = 0
    for picture in pictures:
        row.paste(picture, (x, 0))
        x += picture.width + _GAP
    return row


def _font_for(text: str) -> ImageFont.FreeTypeFont:
    if not text.isascii():
        for name in _WIDE_FONTS:
            try:
                return ImageFont.truetype(name, size=_FONT_SIZE)
            except OSError:  # not installed here
                continue
    return ImageFont.load_default(size=_FONT_SIZE)


def _scaled(image: Image.Image) -> Image.Image:
    longest = max(image.size)
    if longest < _SMALLEST:
        factor = -(-_SMALLEST // longest)
        return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    if longest > _LARGEST:
        size = (max(1, image.width * _LARGEST // longest), max(1, image.height * _LARGEST // longest))
        return image.resize(size, Image.Resampling.LANCZOS)
    return image


def _wrapped(text: str, width: int, font: ImageFont.FreeTypeFont) -> list[str]:
    """Break `text` into lines that fit, at most three; what does not fit ends in an ellipsis."""
    lines, rest = [], " ".join(text.split())
    while rest and len(lines) < _LINES:
        end = _fitting(rest, width, font)
        if end < len(rest):
            space = rest.rfind(" ", 0, end + 1)
            end = space if space > 0 else end
        lines.append(rest[:end])
        rest = rest[end:].lstrip()
    if rest:
        last = lines[-1]
        while last and font.getlength(last + "…") > width:
            last = last[:-1]
        lines[-1] = last.rstrip() + "…"
    return lines


def _fitting(text: str, width: int, font: ImageFont.FreeTypeFont) -> int:
    """
    How many characters from the first on stand on one line, at least one. What is measured is never much longer than a line:
    of a long prompt it would take minutes.
    """
    longest = 64
    while longest < len(text) and font.getlength(text[:longest]) <= width:
        longest *= 2
    fits, too_long = 1, min(longest, len(text)) + 1
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if font.getlength(text[:middle]) <= width:
            fits = middle
        else:
            too_long = middle
    return fits
