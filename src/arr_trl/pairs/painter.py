"""Pictures that pairs are made of, kept by what they follow from: what was drawn once is never drawn again."""

import copy
import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..data import MASK_COLUMN, SOURCE_COLUMN, load_mask
from ..digests import image_digest
from ..evaluation.adapters import AdapterSource, active, load_adapters, weights_digest
from ..evaluation.pictures import InferenceSettings, draw
from ..folders import hub_name, replacing
from ..judges.questions import content_key
from ..policies import FlowPolicy


Source = Image.Image | list[Image.Image] | None


@dataclass(frozen=True, eq=False)
class Wanted:
    """
    A picture to draw: for a prompt, or of `source` after an instruction, all of it or what is white in `mask`, from the noise
    of a seed.
    """

    prompt: str
    source: Source
    seed: int
    mask: Image.Image | None = None


class Painter:
    """
    Draws pictures with one model, and keeps them as PNG files whose names are digests of all that decides what they show:
    the weights, the settings, the prompt, the picture that was edited, its mask and the seed. A run that was stopped finds them
    again, whatever the order in which it is asked.

    Args:
        policy ([`FlowPolicy`]): the pipeline.
        folder (`str` or `Path`): where the files are.
        settings ([`InferenceSettings`]): how they are drawn; its `seed` and number of pictures say nothing here.
        name (`str`, *optional*): what the model is called. Unset, the name of the pipeline.
        adapter ([`AdapterSource`], *optional*): what is put on the pipeline's network.
        batch_size (`int`, *optional*, defaults to `8`): pictures in one forward pass.
        device (`str` or `torch.device`, *optional*): where they are drawn. Unset, the accelerator if there is one.

    Raises:
        `ValueError`: when the pipeline cannot make pictures of this size, or the adapter does not fit.
    """

    def __init__(
        self,
        policy: FlowPolicy,
        folder: str | Path,
        settings: InferenceSettings,
        name: str | None = None,
        adapter: AdapterSource | None = None,
        batch_size: int = 8,
        device: str | torch.device | None = None,
    ):
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} has to be at least 1.")
        policy.check_sizes({"height": settings.height, "width": settings.width}, policy.size_multiple)
        self.policy = policy
        self.folder = Path(folder)
        self.settings = settings
        self.batch_size = batch_size
        self.device = torch.device(device or torch.accelerator.current_accelerator() or "cpu")
        named = hub_name(name or str(policy.pipeline.name_or_path or type(policy.pipeline).__name__))
        self.name = Path(named).name if Path(named).exists() else named  # where it lay on this machine helps nobody
        drawn_with = {name: v for name, v in asdict(settings).items() if name not in ("seed", "num_images_per_prompt")}
        self._facts = [
            policy.fingerprint(),
            drawn_with,
            policy.call_kwargs(settings.height, settings.width),
            str(policy.dtype),
        ]
        adapters = [] if adapter is None else [adapter]
        self._model = load_adapters(policy.pipeline.transformer, adapters, policy.pipeline_class)
        self._adapter = None if adapter is None else adapter.name
        if adapter is not None:
            self._facts.append(weights_digest(self._model, adapter.name))
            self.name += f" with {adapter.name}"

    def without_adapter(self) -> "Painter":
        """The same network with its adapter off, for whoever compares the two: it is in memory once."""
        twin = copy.copy(self)
        if self._adapter is not None:
            twin._adapter, twin._facts = None, self._facts[:-1]
            twin.name = self.name.removesuffix(f" with {self._adapter}")
        return twin

    def path(self, wanted: Wanted) -> Path:
        """Where a picture is, or will be."""
        masks = source_digests(wanted.mask) if self.policy.needs_mask else []
        key = content_key(self._facts, wanted.prompt, source_digests(wanted.source), wanted.seed, *masks)
        return self.folder / f"{key}.png"

    def draw(self, wanted: Sequence[Wanted], on_drawn: Callable[[int], None] = lambda count: None) -> list[Path]:
        """
        The files of pictures; those that are not there yet are drawn, and `on_drawn` is told of every batch.

        A batch is always the same part of the list: pictures of another batch may differ in their last bits, and a run
        that was stopped within one has to end with the files of the run that was not.
        """
        paths = [self.path(one) for one in wanted]
        for start in range(0, len(wanted), self.batch_size):
            batch, files = wanted[start : start + self.batch_size], paths[start : start + self.batch_size]
            if not all(file.is_file() for file in files):
                self._draw(batch, files)
            on_drawn(len(batch))
        return paths

    def rest(self) -> None:
        """Make room on the accelerator for whoever draws next."""
        if self.policy.device.type != "cpu":
            self.policy.to("cpu")

    def _draw(self, batch: Sequence[Wanted], files: Sequence[Path]) -> None:
        if self.policy.device != self.device:
            self.policy.to(self.device)
        given = [{"prompt": one.prompt, SOURCE_COLUMN: one.source, MASK_COLUMN: one.mask} for one in batch]
        rows = [{name: value for name, value in row.items() if value is not None} for row in given]
        with active(self._model, self._adapter):
            drawn = draw(self.policy, self._model, rows, [one.seed for one in batch], self.settings)
        for image, file in zip(drawn, files, strict=True):
            if not file.is_file():
                with replacing(file) as written:
                    written.write_bytes(png(image))


def edited(policy: FlowPolicy | type[FlowPolicy], row: Mapping[str, Any]) -> tuple[Source, Image.Image | None]:
    """What a model's picture of a row starts from, and the row's mask of it; nothing where it is drawn from the prompt."""
    if not policy.edits(row):
        return None, None
    return row.get(SOURCE_COLUMN), load_mask(row.get(MASK_COLUMN), row.get(SOURCE_COLUMN))


def source_digests(source: Source) -> list[str]:
    """Digests of the pictures that are edited, as many as there are."""
    return [image_digest(one) for one in (source if isinstance(source, list) else [source] if source else [])]


def seed_of(seed: int, number: int, prompt: str, source: Source) -> int:
    """The seed of a prompt's picture of this number: of the content, so that rows may come and go around it."""
    content = repr((seed, number, prompt, source_digests(source)))
    return int.from_bytes(hashlib.blake2b(content.encode(), digest_size=4).digest(), "little") >> 1


def png(image: Image.Image) -> bytes:
    """A picture as the content of a file."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def opened(path: Path) -> Image.Image:
    """A picture that was drawn."""
    with Image.open(path) as image:
        return image.convert("RGB")
