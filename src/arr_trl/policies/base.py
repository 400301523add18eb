"""A flow-matching pipeline of diffusers seen as a policy that can be sampled, scored and trained."""

import functools
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline
from PIL import Image

from ..data import SAME_RATIO, Size, places_by_size, size_of_row
from ..digests import image_digest
from ..lazy import without_remarks
from .bars import one_bar
from .batching import Conditioning, concatenate, in_groups
from .cache import EncodingCache, encoders_of, pipeline_of
from .handed_over import check_pipeline
from .limits import check_sizes, named_distilled, warn_of_cut_prompts, warn_of_distillation
from .placement import move_pipeline, visiting
from .sources import source_images


# Pictures of 512 × 512 that are decoded at a time: an autoencoder's activations are the largest of all, .41 GB for each in
# bfloat16, and more at once are no faster. Of larger pictures accordingly fewer.
_DECODED = 4
_PICTURES = 1024  # latents of given pictures that are kept in CPU memory, .26 MB each at 512 pixels and 16 channels


def decoded_together(height: int, width: int) -> int:
    """How many pictures are decoded at a time, however many were drawn together."""
    return max(1, _DECODED * 512**2 // (height * width))


class FlowPolicy(ABC):
    """
    What the trainer asks of a pipeline. One subclass per model family; everything model-specific lives there.

    The network is passed to [`~FlowPolicy.velocity`] rather than taken from the pipeline, so that a DDP- or
    DeepSpeed-wrapped model is what runs.

    Args:
        pipeline ([`~diffusers.DiffusionPipeline`]): its scheduler configuration, encoders and autoencoder stay as they are.
        max_sequence_length (`int`, *optional*):
            Text tokens per prompt, as in the pipeline's `__call__`, whose default families have; `None` cuts nothing.
        max_cached_prompts (`int`, *optional*, defaults to `1024`): how many encoded prompts are kept in memory.

    Raises:
        `ValueError`: when the pipeline lacks a component, or its scheduler's steps are not Euler's.
    """

    pipeline_class: ClassVar[type[DiffusionPipeline]]
    # LoRA targets used when the user gives none: those of the published adapter of this family.
    target_modules: ClassVar[tuple[str, ...]]
    # What the models of this family are recommended with, for who names neither. The policy of a base that was distilled
    # to few steps has other values: that many steps, and classifier-free guidance off. A family of your own has FLUX.1's
    # until it says otherwise.
    default_guidance_scale: float = 3.5
    default_num_inference_steps: int = 30
    distilled_num_inference_steps: ClassVar[int] = 4
    # Rows that are encoded at a time, however many a rollout has: what encoders compute with takes memory beside the network.
    encoded_together: ClassVar[int] = 8
    editing: ClassVar[bool] = False  # whether rows need a `source_image`
    needs_mask: ClassVar[bool] = False  # whether rows need a `mask_image` beside it
    may_edit: ClassVar[bool] = False  # whether a row that has a `source_image` is an edit of it, and another is none
    may_lack: ClassVar[
        tuple[str, ...]
    ] = ()  # components that may be `None` though the pipeline does not call them optional
    # Parts of the transformer whose blocks are not recomputed in a backward when it checkpoints its blocks.
    not_checkpointed: ClassVar[tuple[str, ...]] = ()
    # What the pipeline's `__call__` calls the number that `velocity` takes as `guidance_scale`.
    guidance_argument: ClassVar[str] = "guidance_scale"
    # The scale at which classifier-free guidance is off; `None` where the scale is an input of the network.
    cfg_off_scale: ClassVar[float | None] = None
    negative_prompt: str | None = None  # what classifier-free guidance leads away from; `None` for none

    def __init__(
        self, pipeline: DiffusionPipeline, max_sequence_length: int | None = None, max_cached_prompts: int = 1024
    ):
        check_pipeline(pipeline, self.may_lack)
        self.pipeline = pipeline
        self.max_sequence_length = max_sequence_length
        self._device: torch.device | None = None
        self._left: list[str] = []  # components whose weights are in the host's memory
        self.dtype = pipeline.transformer.dtype  # before LoRA adds float32 parameters to a bfloat16 network
        self.cache = EncodingCache(max_cached_prompts)
        self.pictures = EncodingCache(_PICTURES)
        self._negative: Conditioning | None = None  # until it was encoded; empty where it is each row's own
        # Where texts differ in length: one masked batch in place of one batch for each length. For networks of which every
        # forward brings the weights anew, and for attention that takes lengths.
        self.masks_padding = False
        if self.distilled:
            self.default_num_inference_steps = self.distilled_num_inference_steps
            if self.cfg_off_scale is not None:
                self.default_guidance_scale = self.cfg_off_scale

    @classmethod
    def load_pipeline(cls, model: str, **init_kwargs: Any) -> DiffusionPipeline:
        """The pipeline of a model id or folder; `init_kwargs` are those of its `from_pretrained`."""
        with without_remarks(), one_bar():
            return cls.pipeline_class.from_pretrained(model, **init_kwargs)

    @property
    def size_multiple(self) -> int:
        """Pixels that `height` and `width` must be multiples of."""
        return self.size_multiple_of(self.pipeline.vae.config)

    @staticmethod
    def size_multiple_of(vae_config: Mapping[str, Any]) -> int:
        """[`~FlowPolicy.size_multiple`] from the configuration of the autoencoder alone: its factor, a patch of 2."""
        return 2 ** len(vae_config["block_out_channels"])

    @property
    def distilled(self) -> bool:
        """Whether the base was distilled to few steps: by its configuration if that says so, otherwise by its name."""
        return named_distilled(self.pipeline.name_or_path)

    def warn_if_distilled(self) -> None:
        """Tell who trains a base that was distilled to few steps what becomes of it."""
        if self.distilled:
            warn_of_distillation(self.pipeline.name_or_path or self.pipeline_class.__name__)

    @abstractmethod
    def encode_rows(self, rows: list[dict[str, Any]], height: int, width: int) -> Conditioning:
        """Encode dataset rows (at least a `prompt`), without gradient: batch-first tensors of `len(rows)` rows."""

    def encode_negative(self) -> Conditioning:
        """Encode `negative_prompt`, where there is one and it is the same for all rows: one row, which each of them gets."""
        return {}

    @abstractmethod
    def sigmas(self, num_steps: int, height: int, width: int) -> torch.Tensor:
        """The noise levels `[T + 1]` that the pipeline's own scheduler would use, from 1 down to 0, float32."""

    @abstractmethod
    def initial_noise(
        self, batch: int, height: int, width: int, generator: torch.Generator | list[torch.Generator]
    ) -> torch.Tensor:
        """Packed noise `[B, L, C]` in float32, drawn as the pipeline draws it."""

    @abstractmethod
    def velocity(
        self,
        model: torch.nn.Module,
        latents: torch.Tensor,
        sigma: torch.Tensor,
        conditioning: Conditioning,
        guidance_scale: float,
    ) -> torch.Tensor:
        """
        The velocity `ε - x0` that `model` predicts, with the family's guidance included.

        Args:
            model (`torch.nn.Module`): the transformer, wrapped or not.
            latents (`torch.Tensor`): `[B, L, C]`, float32.
            sigma (`torch.Tensor`): `[B]` in [0, 1]; may differ per row.
            conditioning (`dict[str, torch.Tensor]`): `B` rows of what [`~FlowPolicy.encode`] returned.
            guidance_scale (`float`): as in the pipeline's `__call__`.

        Returns:
            `torch.Tensor`: `[B, L, C]`, float32.
        """

    @abstractmethod
    def to_pixels(self, latents: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Pixels `[B, 3, H, W]` in -1..1 of packed latents `[B, L, C]`, with gradient, in the autoencoder's precision."""

    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        """Packed latents `[B, L, C]` that [`~FlowPolicy.to_pixels`] turns back: the encoder's mode, not a sample."""
        raise NotImplementedError(
            f"{type(self).__name__} cannot encode pictures, and training on given pictures needs it: define "
            "`to_latents(pixels)`, from `[B, 3, H, W]` to the latents `[B, L, C]` that its `to_pixels` turns back."
        )

    @torch.no_grad()
    def decode(self, latents: torch.Tensor, height: int, width: int) -> list[Image.Image]:
        """
        Pictures of packed latents `[B, L, C]`, decoded a few at a time.

        Raises:
            `FloatingPointError`: when the autoencoder made something else of them.
        """
        images = []
        with self._visit("vae"):
            for some in latents.split(decoded_together(height, width)):
                pixels = self.to_pixels(some, height, width)
                if not pixels.isfinite().all():
                    raise FloatingPointError(
                        f"The pictures that the autoencoder of {self.pipeline_class.__name__} makes are not finite numbers "
                        "(NaN or infinite). Where it is in float16, load it in bfloat16 or float32."
                    )
                images += self.pipeline.image_processor.postprocess(pixels, output_type="pil")
        return images

    @torch.no_grad()
    def encode_pictures(self, images: list[Image.Image], height: int, width: int) -> torch.Tensor:
        """Packed latents `[B, L, C]` in float32 of RGB pictures, which are resized to `height` × `width` first."""
        pixels = self.pipeline.image_processor.preprocess(images, height, width)
        with self._visit("vae"):
            return self.to_latents(pixels.to(self.device, self.pipeline.vae.dtype)).float().contiguous()

    def latents_of(self, images: list[Image.Image], height: int, width: int) -> torch.Tensor:
        """As [`~FlowPolicy.encode_pictures`], each distinct picture encoded once and kept, as encoded prompts are."""

        def encode_missing(indices: list[int]) -> Conditioning:
            return {"latents": self.encode_pictures([images[i] for i in indices], height, width).cpu()}

        keys = [("picture", image_digest(image), height, width) for image in images]
        return self.pictures.get(keys, encode_missing, 1)["latents"].to(self.device)

    @classmethod
    def check_sizes(cls, sizes: Mapping[str, int], multiple: int) -> None:
        """Raise a `ValueError` when the pipeline cannot make pictures of these sizes, settings by their names."""
        check_sizes(sizes, multiple, cls.pipeline_class.__name__)

    @torch.no_grad()
    def encode(self, rows: list[dict[str, Any]], height: int, width: int) -> Conditioning:
        """
        Conditioning of dataset rows, each distinct row encoded once and kept.

        Args:
            rows (`list[dict]`):
                Dataset rows; which columns are read is the family's matter, `prompt` always. Pictures in others than
                `source_image` are as they are stored; [`~arr_trl.data.load_image`] opens them.
            height (`int`): picture height in pixels.
            width (`int`): picture width in pixels.

        Returns:
            `dict[str, torch.Tensor]`: `len(rows)` rows, shorter ones padded with zeros, with a mask where it matters.
        """
        with self._encoders_for(rows) as encoders_come:
            return self._encoded(rows, height, width, encoders_come)

    @torch.no_grad()
    def encode_ahead(self, rows: list[dict[str, Any]], sizes: Sequence[Size]) -> None:
        """Encode rows of several sizes, so that `encode` finds them kept: encoders that are offloaded come once for all."""
        with self._encoders_for(rows) as encoders_come:
            for size, places in places_by_size(sizes).items():
                self._encoded([rows[i] for i in places], *size, encoders_come)

    @contextmanager
    def _encoders_for(self, rows: list[dict[str, Any]]) -> Iterator[Callable[[], Any]]:
        """Inside, what is called before something is encoded."""
        with ExitStack() as visit:
            edited = any(map(self.edits, rows))  # then the autoencoder reads sources
            names = [name for name in self.pipeline.components if name != "vae" or edited]
            # once for all that is new
            yield functools.cache(lambda: visit.enter_context(self._visit(*names)))

    def _encoded(
        self, rows: list[dict[str, Any]], height: int, width: int, encoders_come: Callable[[], Any]
    ) -> Conditioning:
        def encode_missing(indices: list[int]) -> Conditioning:
            missing = [rows[i] for i in indices]
            if self.max_sequence_length is not None:
                prompts = {row["prompt"]: self.num_tokens(row["prompt"]) for row in missing}
                warn_of_cut_prompts(prompts, self.max_sequence_length, self.pipeline_class.__name__)
            encoders_come()
            return self.encode_rows(missing, height, width)

        keys = [(self.cache_key(row), height, width) for row in rows]
        encoded = self.cache.get(keys, encode_missing, self.encoded_together)
        if self.negative_prompt is not None and self._negative is None:
            encoders_come()
            self._negative = self.encode_negative()
        negative = {
            name: tensor.expand(len(rows), *tensor.shape[1:]) for name, tensor in (self._negative or {}).items()
        }
        return encoded | negative

    def keep_encodings(self, folder: str | os.PathLike) -> None:
        """From now on read from `folder` what these encoders made of rows and pictures earlier, and write there the rest."""
        encoders = encoders_of(self.pipeline, type(self).__name__, self._settings(), self.device)
        for cache in (self.cache, self.pictures):
            cache.keep_on_disk(Path(folder) / encoders, self.device)

    def fingerprint(self) -> str:
        """Another one where anything differs that pictures follow from, beside rows, size, steps, guidance and noise."""
        return pipeline_of(self.pipeline, type(self).__name__, self._settings())

    def _settings(self) -> dict[str, Any]:
        return {name: v for name, v in vars(self).items() if v is None or type(v) in (str, int, float)}

    def call_kwargs(self, height: int, width: int) -> dict[str, Any]:
        """What the pipeline's own `__call__` needs, besides size and guidance, to draw what this policy draws."""
        length = {} if self.max_sequence_length is None else {"max_sequence_length": self.max_sequence_length}
        return length | ({} if self.negative_prompt is None else {"negative_prompt": self.negative_prompt})

    def call_setup(self) -> str:
        """Code that has to run before the pipeline's own `__call__`, so that it draws what this policy draws."""
        return ""

    def uses_cfg(self, guidance_scale: float) -> bool:
        """Whether a forward at this scale has a second branch, which doubles its cost."""
        possible = self.cfg_off_scale is not None and self.negative_prompt is not None
        return possible and guidance_scale > self.cfg_off_scale

    @property
    def hidden_size(self) -> int:
        """Width of the transformer, which DeepSpeed's "auto" values follow."""
        config = self.pipeline.transformer.config
        return config.num_attention_heads * config.attention_head_dim

    def cache_key(self, row: dict[str, Any]) -> Any:
        """What makes two rows encode alike: the prompt, and the source pictures where the family edits."""
        return row["prompt"], *map(image_digest, self.sources(row))

    @classmethod
    def edits(cls, row: Mapping[str, Any]) -> bool:
        """Whether a picture of this row starts from its `source_image`."""
        return cls.editing or (cls.may_edit and row.get("source_image") is not None)

    def sources(self, row: dict[str, Any]) -> list[Image.Image]:
        """The pictures that a row starts from, in their order; none where it is drawn from its prompt alone."""
        return source_images(row) if self.edits(row) else []

    def sizes_of(self, rows: Sequence[dict[str, Any]], height: int, width: int, size_from_source: bool) -> list[Size]:
        """
        Height and width at which the picture of each row is drawn.

        Args:
            rows (`Sequence[dict]`):
                Dataset rows, their sources decoded. One that has a `height` and a `width` is drawn at these.
            height (`int`): of others, in pixels.
            width (`int`): of others, in pixels.
            size_from_source (`bool`):
                Whether an edit has the aspect ratio of its source and the area of `height` × `width`, see
                [`~FlowPolicy.size_of_edit`].

        Raises:
            `ValueError`: when a row asks for a size that cannot be drawn.
        """
        sizes = []
        for row in rows:
            try:
                size = size_of_row(row)
                if size is not None:
                    self.check_sizes(dict(zip(("height", "width"), size, strict=True)), self.size_multiple)
            except ValueError as error:
                raise ValueError(f"The row with the prompt {row['prompt'][:80]!r} cannot be drawn: {error}") from error
            if size is None:
                edits = size_from_source and self.edits(row)
                size = self.size_of_edit(self.sources(row), height, width) if edits else (height, width)
            sizes.append(size)
        return sizes

    def size_of_edit(self, sources: list[Image.Image], height: int, width: int) -> Size:
        """
        The size, in multiples of what the pipeline draws, that has the aspect ratio of the last of `sources` and about the
        area of `height` × `width`; these where they have it already.
        """
        ratio = sources[-1].width / sources[-1].height
        if abs(ratio * height / width - 1) <= SAME_RATIO:
            return height, width
        return self._size_of_area(height * width, ratio)

    def _size_of_area(self, area: int, ratio: float) -> Size:
        multiple = self.size_multiple
        sides = (round((area / ratio) ** 0.5), round((area * ratio) ** 0.5))
        return tuple(max(side // multiple, 1) * multiple for side in sides)

    def _by_length(
        self,
        function: Callable[[torch.nn.Module, torch.Tensor, torch.Tensor, Conditioning], torch.Tensor],
        model: torch.nn.Module,
        latents: torch.Tensor,
        sigma: torch.Tensor,
        conditioning: Conditioning,
        guidance_scale: float,
        multiple: int = 1,
    ) -> torch.Tensor:
        """
        Predictions for the prompts and, with guidance, for the negative prompt behind them: `[B, L, C]` or `[2B, L, C]`. Both
        branches are rows of their own, of which those whose pictures have one shape and whose texts one length, rounded up to
        a `multiple` that the network pads to, go through `function` together, without a mask. Where padding is masked,
        lengths do not matter.
        """
        branches = ["prompt", "negative"] if self.uses_cfg(guidance_scale) else ["prompt"]
        pictures = {n: conditioning[n] for n in ("size", "shapes", "source_latents") if n in conditioning}
        texts = [{n: conditioning[f"{branch}_{n}"] for n in ("embeds", "mask")} for branch in branches]
        rows = [{"latents": latents, "sigma": sigma, **pictures, **text} for text in texts]
        given = concatenate(rows) if len(rows) > 1 else rows[0]
        shapes, lengths = given["shapes" if "shapes" in given else "size"], given["mask"].sum(1)
        keys = shapes.flatten(1)
        if not self.masks_padding:
            keys = torch.cat([keys, -(-lengths // multiple)[:, None]], 1)
        return in_groups(
            functools.partial(function, model), model, keys, given.pop("latents"), given.pop("sigma"), given
        )

    def num_tokens(self, prompt: str) -> int:
        """Tokens of a prompt as `max_sequence_length` counts them."""
        return len(self.pipeline.tokenizer(prompt)["input_ids"])

    def to(self, device: torch.device | str, **placement: bool) -> "FlowPolicy":
        """
        Move the frozen parts and the transformer to `device`; encoded prompts are forgotten. `placement`, which is of
        [`~arr_trl.policies.placement.move_pipeline`], says what stays in CPU memory.
        """
        self._device = torch.device(device)
        self._left = move_pipeline(self.pipeline, self._device, **placement)
        self.cache.clear()
        self.pictures.clear()
        self._negative = None
        return self

    def _visit(self, *names: str) -> AbstractContextManager:
        """Inside, those of the components that are in the host's memory compute on the device."""
        return visiting([self.pipeline.components[name] for name in names if name in self._left], self.device)

    @property
    def device(self) -> torch.device:
        """Where it computes, which is not where the weights are when FSDP or DeepSpeed offloads them."""
        return self._device or self.pipeline.transformer.device
