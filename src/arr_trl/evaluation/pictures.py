"""The pictures of an evaluation: drawn once from fixed seeds, and kept, so that a run that was stopped goes on."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..data import places_by_size
from ..folders import replacing
from ..policies import FlowPolicy
from ..sampling import denoise
from .adapters import active
from .records import BASE


@dataclass(frozen=True)
class InferenceSettings:
    """
    How pictures are drawn: named as in the call of the pipeline.

    Args:
        height (`int`, *optional*, defaults to `512`): pixels.
        width (`int`, *optional*, defaults to `512`): pixels.
        num_inference_steps (`int`, *optional*, defaults to `30`): denoising steps.
        guidance_scale (`float`, *optional*, defaults to `3.5`): guidance.
        num_images_per_prompt (`int`, *optional*, defaults to `2`):
            Pictures of each prompt, from different noise. With 1 the diversity within prompts cannot be measured.
        seed (`int`, *optional*, defaults to `1234`):
            Picture k of prompt i is drawn with the seed `seed + i + k * 1_000_000`, by every model alike. The first
            picture is the one that the trainer draws with `eval_seed`.
        size_from_source (`bool`, *optional*, defaults to `True`):
            Whether edits have the aspect ratio of their source and the area of `height` × `width`. A row with `height` and
            `width` of its own is drawn at these in any case.
    """

    height: int = 512
    width: int = 512
    num_inference_steps: int = 30
    guidance_scale: float = 3.5
    num_images_per_prompt: int = 2
    seed: int = 1234
    size_from_source: bool = True

    def __post_init__(self):
        for name in ("num_inference_steps", "num_images_per_prompt"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} has to be at least 1.")

    def seed_of(self, prompt: int, image: int) -> int:
        return self.seed + prompt + image * 1_000_000


@torch.no_grad()
def draw(
    policy: FlowPolicy, model: torch.nn.Module, rows: Sequence[dict[str, Any]], seeds: Sequence[int], settings
) -> list[Image.Image]:
    """
    Pictures as the pipeline's own `__call__` makes them, each from the noise of its own seed. Those of one size are drawn
    together.

    Args:
        policy ([`FlowPolicy`]): the policy.
        model (`torch.nn.Module`): its transformer, with adapters or without.
        rows (`Sequence[dict]`): dataset rows, one per picture.
        seeds (`Sequence[int]`): one per picture.
        settings ([`InferenceSettings`]): how.
    """
    sizes = policy.sizes_of(rows, settings.height, settings.width, settings.size_from_source)
    images: list[Image.Image | None] = [None] * len(rows)
    for (height, width), places in places_by_size(sizes).items():
        generators = [torch.Generator().manual_seed(seeds[i]) for i in places]
        noise = policy.initial_noise(len(places), height, width, generators)
        sigmas = policy.sigmas(settings.num_inference_steps, height, width).to(noise.device)
        conditioning = policy.encode([rows[i] for i in places], height, width)
        latents = denoise(policy, model, noise, sigmas, conditioning, settings.guidance_scale)
        for i, image in zip(places, policy.decode(latents, height, width), strict=True):
            images[i] = image
    return images


def picture_path(folder: Path, model: str, prompt: int, image: int) -> Path:
    return folder / model.replace("/", "--") / f"{prompt:05d}-{image}.png"


class PictureFolder:
    """
    PNG files, `<model>/<prompt>-<image>.png`, and the settings they were drawn with.

    Args:
        folder (`Path`): where they are.
        policy ([`FlowPolicy`]): draws what is missing.
        model (`torch.nn.Module`): its transformer with the adapters.
        settings ([`InferenceSettings`]): how.
        batch_size (`int`): pictures in one forward pass.
    """

    def __init__(
        self, folder: Path, policy: FlowPolicy, model: torch.nn.Module, settings: InferenceSettings, batch_size: int
    ):
        self.folder = folder
        self.policy = policy
        self.model = model
        self.settings = settings
        self.batch_size = batch_size

    def path(self, model: str, prompt: int, image: int) -> Path:
        return picture_path(self.folder, model, prompt, image)

    def images(self, model: str, prompts: Sequence[int], rows: Sequence[dict[str, Any]]) -> list[Image.Image]:
        """All pictures of some prompts by one model, those of a prompt adjacent; what is not there yet is drawn."""
        places = [(p, k, row) for p, row in zip(prompts, rows, strict=True) for k in self._images()]
        missing = [place for place in places if not self.path(model, *place[:2]).is_file()]
        with active(self.model, None if model == BASE else model):
            for start in range(0, len(missing), self.batch_size):
                batch = missing[start : start + self.batch_size]
                seeds = [self.settings.seed_of(p, k) for p, k, _ in batch]
                drawn = draw(self.policy, self.model, [row for _, _, row in batch], seeds, self.settings)
                for (p, k, _), image in zip(batch, drawn, strict=True):
                    self._save(image, self.path(model, p, k))
        return [Image.open(self.path(model, p, k)).convert("RGB") for p, k, _ in places]

    def _images(self) -> range:
        return range(self.settings.num_images_per_prompt)

    @staticmethod
    def _save(image: Image.Image, path: Path) -> None:
        with replacing(path) as written:
            image.save(written, format="PNG")


def check_settings(folder: Path, settings: InferenceSettings, facts: dict[str, Any]) -> None:
    """
    Write what the pictures of a folder are drawn with, or compare it with what is there.

    Args:
        folder (`Path`): the folder.
        settings ([`InferenceSettings`]): how they are drawn.
        facts (`dict`): what else decides what they show, such as base, adapters and prompts; JSON.

    Raises:
        `ValueError`: when the pictures that are there were drawn otherwise.
    """
    wanted = json.loads(json.dumps({**asdict(settings), **facts}))
    path = folder / "settings.json"
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        # more pictures of a prompt, and more adapters, may be added to what is there
        for name in found.keys() & wanted.keys() - {"num_images_per_prompt"}:
            if found[name] != wanted[name]:
                raise ValueError(
                    f"The pictures in {folder} were drawn with {name}={found[name]!r}, not {wanted[name]!r}; choose "
                    "another `output`, or remove the folder."
                )
        wanted = found | wanted
    with replacing(path) as written:
        written.write_text(json.dumps(wanted, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
