"""
A reader of TinyScenes with a gradient: how far a picture meets its caption, from its pixels. It sees what
[`~arr_trl.tiny_scenes.scenes.check`] asks for, softly, and like every scorer it is not the truth.
"""

import torch

from .scenes import COLORS, GROUND, SHAPES, SIZE, Caption


_GROUND = torch.tensor(GROUND) / 255
_AWAY = (
    torch.tensor(list(COLORS.values())) / 255 - _GROUND
)  # each color seen from the ground, which soft edges blend with
_PLACES = torch.stack(torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="xy")).float()  # x and y
# How soft it is: in the direction of a color, in how far on the way to it a pixel has to be, in the pixels that make an
# object, at its edge, between shapes, in its place, and about what lies astray.
_DIRECTION, _COVERED, _AREA, _EDGE, _SHAPE, _PLACE, _STRAY = 0.03, 0.05, 30.0, 0.3, 0.02, 3.0, 20.0


def soft_success(prompts: list[str], pixels: torch.Tensor, **columns) -> torch.Tensor:
    """
    How far each picture meets its caption, from 0 to 1, with a gradient: a reward function for [`AlignPropTrainer`].

    Args:
        prompts (`list[str]`): captions.
        pixels (`torch.Tensor`): `[B, 3, H, W]`, 0 to 1.

    Returns:
        `torch.Tensor`: `[B]`, the mean of [`soft_criteria`].
    """
    return soft_criteria(prompts, pixels).mean(1)


def soft_criteria(prompts: list[str], pixels: torch.Tensor) -> torch.Tensor:
    """What [`soft_success`] is the mean of, `[B, 4]`: colors, shapes, relation and count."""
    if pixels.shape[-2:] != (SIZE, SIZE):
        pixels = torch.nn.functional.interpolate(pixels, (SIZE, SIZE), mode="area")
    return torch.stack(
        [_criteria(Caption.parse(p), shares) for p, shares in zip(prompts, _shares(pixels), strict=True)]
    )


def _shares(pixels: torch.Tensor) -> torch.Tensor:
    """How much each pixel has of each color, `[B, 5, H, W]`; nothing is ground."""
    away, seen = _AWAY.to(pixels), (pixels.movedim(1, -1) - _GROUND.to(pixels))[..., None, :]
    along = (seen * away).sum(-1) / away.norm(dim=-1)
    covered = along / away.norm(dim=-1)
    color = (along / (seen.square().sum(-1) + 1e-6).sqrt() / _DIRECTION).softmax(-1)
    return (color * torch.sigmoid((covered - 0.35) / _COVERED)).movedim(-1, 1)


def _criteria(caption: Caption, shares: torch.Tensor) -> torch.Tensor:
    """`shares` is `[5, H, W]`."""
    names = list(COLORS)
    asked = [(names.index(caption.color1), caption.shape1), (names.index(caption.color2), caption.shape2)]
    there, shaped, centres, stray = [], [], [], []
    for color, shape in asked:
        share = shares[color]
        area = share.sum().clamp(min=1e-3)
        centre = (share * _PLACES.to(share)).sum((1, 2)) / area
        offsets = _PLACES.to(share) - centre[:, None, None]
        there.append(1 - torch.exp(-area / _AREA))
        shaped.append(_shape_overlaps(share, area, offsets).div(_SHAPE).softmax(0)[SHAPES.index(shape)])
        centres.append(centre)
        far = torch.sigmoid(offsets.square().sum(0).add(1e-6).sqrt() - 2 * (area / torch.pi).sqrt())
        stray.append((share * far).sum())
    stray += [shares[color].sum() for color in range(len(names)) if color not in (asked[0][0], asked[1][0])]
    right, down = centres[1] - centres[0]
    ahead = {
        "left of": right - down.abs(),
        "right of": -right - down.abs(),
        "above": down - right.abs(),
        "below": -down - right.abs(),
    }[caption.relation]
    return torch.stack([
        sum(there) / 2,
        sum(shaped) / 2,
        torch.sigmoid(ahead / _PLACE),
        torch.exp(-sum(stray) / _STRAY),
    ])  # fmt: skip


def _shape_overlaps(share: torch.Tensor, area: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Which share of an object lies in each shape of its centre and area, `[3]`; see the reader's own."""
    dx, dy = offsets
    r_circle, r_square, r_triangle = (area / torch.pi).sqrt(), area.sqrt() / 2, (area / 2.3).sqrt()
    # how far inside a pixel lies, in pixels; the triangle's centroid stands two thirds down
    inside = {
        "circle": r_circle - (dx**2 + dy**2 + 1e-6).sqrt(),
        "square": r_square - torch.maximum(dx.abs(), dy.abs()),
        "triangle": torch.minimum(1.15 * (dy + 4 / 3 * r_triangle) / 2 - dx.abs(), 2 / 3 * r_triangle - dy),
    }
    return torch.stack([(share * torch.sigmoid(inside[shape] / _EDGE)).sum() / area for shape in SHAPES])
