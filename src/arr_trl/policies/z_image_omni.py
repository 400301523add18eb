"""Z-Image-Omni: `ZImageOmniPipeline` as a policy, from a prompt alone or with pictures."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from diffusers import DiffusionPipeline, ZImageOmniPipeline
from PIL import Image

from .batching import Conditioning, concatenate, in_groups
from .latents import as_grid, as_tokens
from .limits import named_distilled
from .z_image import ZImagePolicy


class ZImageOmniPolicy(ZImagePolicy):
    """
    Z-Image-Omni: Z-Image whose transformer gets pictures beside a prompt, both their latents and what SigLIP 2 makes of them.
    A row may have a `source_image`, one picture or a list of them. As in the pipeline one keeps its size, up to a megapixel,
    and is cropped to whole patches; a larger one is resized to the area that is drawn.

    The pipeline encodes pictures in bfloat16, and its autoencoder has to be in it where rows have some. See
    [`ZImagePolicy`] for the arguments.
    """

    pipeline_class = ZImageOmniPipeline
    may_edit = True
    default_guidance_scale = 5.0
    default_num_inference_steps = 50

    def __init__(
        self,
        pipeline: DiffusionPipeline,
        max_sequence_length: int = 512,
        negative_prompt: str | None = "",
        max_cached_prompts: int = 128,
    ):
        super().__init__(pipeline, max_sequence_length, negative_prompt, max_cached_prompts)

    @property
    def distilled(self) -> bool:
        return named_distilled(self.pipeline.name_or_path)

    def num_tokens(self, prompt: str) -> int:
        return len(
            self.pipeline.tokenizer(f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n")["input_ids"]
        )

    def encode_rows(self, rows: list[dict[str, Any]], height: int, width: int) -> Conditioning:
        return concatenate([self._encode_row(row, height, width) for row in rows])

    def encode_negative(self) -> Conditioning:
        return {}  # it is taken apart by the pictures, so it is each row's own

    def _encode_row(self, row: dict[str, Any], height: int, width: int) -> Conditioning:
        pipeline, factor = self.pipeline, self.pipeline.vae_scale_factor
        images = [self._resized(image, height * width) for image in self.sources(row)]
        if images and pipeline.vae.dtype != torch.bfloat16:
            raise ValueError(
                f"{self.pipeline_class.__name__} encodes pictures in bfloat16, and its autoencoder is in "
                f"{str(pipeline.vae.dtype).removeprefix('torch.')}; call `pipe.vae.to(torch.bfloat16)`, or load it with "
                "`dtype={'vae': 'bfloat16'}`."
            )
        pixels = [self._cropped(image) for image in images]
        latents = pipeline.prepare_image_latents(pixels, 1, self.device, torch.float32)[0]
        seen = pipeline.prepare_siglip_embeds(images, 1, self.device, torch.float32)[0]
        conditioning = self._encode_pieces("prompt", row["prompt"], len(images))
        if self.negative_prompt is not None:
            conditioning |= self._encode_pieces("negative", self.negative_prompt, len(images))
        return conditioning | {
            "size": torch.tensor([[height // factor, width // factor]]),
            **self._flattened(
                "source", [picture.movedim(0, -1)[0] for picture in latents], pipeline.vae.config.latent_channels
            ),
            **self._flattened("seen", seen, pipeline.transformer.config.siglip_feat_dim),
        }

    def _resized(self, image: Image.Image, area: int) -> Image.Image:
        processor = self.pipeline.image_processor
        processor.check_image_input(image)
        large = image.width * image.height > 1024 * 1024
        return processor._resize_to_target_area(image, area) if large else image

    def _cropped(self, image: Image.Image) -> torch.Tensor:
        height, width = (side // self.size_multiple * self.size_multiple for side in (image.height, image.width))
        return self.pipeline.image_processor.preprocess(image, height=height, width=width, resize_mode="crop")

    def _encode_pieces(self, name: str, prompt: str, num_images: int) -> Conditioning:
        """A prompt in pieces, between which the pictures stand."""
        (pieces,), _ = self.pipeline.encode_prompt(
            prompt=[prompt],
            device=self.device,
            do_classifier_free_guidance=False,
            max_sequence_length=self.max_sequence_length,
            num_condition_images=num_images,
        )
        return {f"{name}_embeds": torch.cat(pieces)[None], f"{name}_lengths": torch.tensor([[*map(len, pieces)]])}

    def _flattened(self, name: str, grids: list[torch.Tensor], channels: int) -> Conditioning:
        """Pictures `[h, w, C]` of one row as tokens behind each other, and their shapes."""
        tokens = [torch.zeros(0, channels, device=self.device), *(grid.flatten(0, 1) for grid in grids)]
        shapes = torch.tensor([grid.shape[:2] for grid in grids], dtype=torch.long).view(1, -1, 2)
        return {f"{name}_tokens": torch.cat(tokens)[None].to(self.dtype), f"{name}_shapes": shapes}

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
        """As in the base; here each piece of a text is rounded up by itself, and rows with and without pictures never meet."""
        branches = ["prompt", "negative"] if self.uses_cfg(guidance_scale) else ["prompt"]
        given = concatenate([
            {"latents": latents, "sigma": sigma}
            | {n: conditioning[n] for n in ("size", "source_tokens", "source_shapes", "seen_tokens", "seen_shapes")}
            | {n: conditioning[f"{branch}_{n}"] for n in ("embeds", "lengths")}
            for branch in branches
        ])  # fmt: skip
        keys = given["source_shapes"].flatten(1).any(1, keepdim=True).long()
        if not self.masks_padding:
            of_texts = -(-given["lengths"] // multiple).sum(1, keepdim=True)
            keys = torch.cat([given["source_shapes"].flatten(1), given["seen_shapes"].flatten(1), of_texts], 1)
        function = partial(function, model)
        return in_groups(function, model, keys, given.pop("latents"), given.pop("sigma"), given)

    def _of_one_length(
        self, model: torch.nn.Module, latents: torch.Tensor, sigma: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        targets = as_grid(latents, 1, *conditioning["size"][0].tolist()).to(self.dtype)
        sources = apart(conditioning["source_tokens"], conditioning["source_shapes"])
        seen = apart(conditioning["seen_tokens"], conditioning["seen_shapes"])
        texts = zip(conditioning["embeds"], conditioning["lengths"].tolist(), strict=True)
        predictions = model(
            x=[[*(s.movedim(-1, 0)[:, None] for s in own), x] for own, x in zip(sources, targets, strict=True)],
            t=(1000 - sigma * 1000) / 1000,  # time runs from noise to data
            cap_feats=[list(embeds[: sum(lengths)].split([n for n in lengths if n])) for embeds, lengths in texts],
            siglip_feats=[[*own, None] if own else None for own in seen],
            image_noise_mask=[[0] * len(own) + [1] for own in sources],
            return_dict=False,
        )[0]
        # the network predicts `x0 - ε`
        return -as_tokens(torch.stack(predictions).float())


def apart(tokens: torch.Tensor, shapes: torch.Tensor) -> list[list[torch.Tensor]]:
    """The pictures `[h, w, C]` of each row, of tokens `[B, L, C]` that lie behind each other."""
    rows = []
    for row, sizes in zip(tokens, shapes.tolist(), strict=True):
        sizes = [size for size in sizes if size[0]]
        numbers = [height * width for height, width in sizes]
        parts = row[: sum(numbers)].split(numbers) if sizes else []
        rows.append([part.unflatten(0, size) for part, size in zip(parts, sizes, strict=True)])
    return rows
