"""
Makes the weights of the editor that ships with TinyScenes: `python -m arr_trl.tiny_scenes.pretrain_edit --output FOLDER`.

As with the generator, a first phase shows what instructions mean, and a short last one shows pictures that are partly
wrong: the editor *can* do what it is told and often does something else, or changes what should have stayed.
"""

import argparse
import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import QwenImageEditPipeline
from diffusers.models.autoencoders.autoencoder_kl_qwenimage import QwenImageCausalConv3d
from PIL import Image

from .edit_pipeline import build_edit_pipeline, edit_pictures
from .edits import (
    CORNERS,
    EDIT_CRITERIA,
    EDIT_KINDS,
    Edit,
    Placed,
    Scene,
    apply,
    check_edit,
    draw,
    edits,
    edits_of,
    move_to,
    place,
    scenes,
)
from .flow_matching import Phase, encode, to_tensor, train_flow, train_vae
from .scenes import COLORS, SHAPES, read
from .threads import use_one_thread


# How often the picture of an instruction shows another edit, or none, and how often it changes something besides.
WRONG_EDIT, DAMAGE = 0.3, 0.1
MAX_TEXT_TOKENS = 20  # of the longest instruction, with four of the picture and eleven of the template


@dataclasses.dataclass(frozen=True)
class EditPhase(Phase):
    """
    A phase of the editor. The language model learns its words in the first and stays as it is then. What becomes of
    each object is settled where there is much noise, so later phases draw more of it.
    """

    pictures: int
    batch_size: int = 64
    mean_logit: float = 1.0
    with_language_model: bool = False


# Right edits teach what instructions mean (87% of the held-out ones met after the second phase); a few wrong ones make
# the editor as unreliable as its data (25%). Twice as many made pictures that are no edit at all.
PHASES = (
    EditPhase(
        1400, 1e-3, noise=0.0, seed=0, pictures=30_000, batch_size=128, mean_logit=0.3, with_language_model=True
    ),
    EditPhase(2500, 1e-3, noise=0.0, seed=1, pictures=16_000),
    EditPhase(200, 2e-4, noise=0.7, seed=2, pictures=6_000),
)


def corrupt(edit: Edit, scene: Scene, rng: np.random.Generator, noise: float = 1.0) -> Edit | None:
    """The edit that is shown for an instruction: another one of its kind with `noise * WRONG_EDIT`, or none at all."""
    if rng.random() >= noise * WRONG_EDIT:
        return edit
    others = [other for other in edits_of(scene, edit.kind) if other != edit]
    choice = rng.integers(len(others) + 1)
    return None if choice == len(others) else others[choice]


def damage(objects: list[Placed], rng: np.random.Generator, noise: float = 1.0) -> list[Placed]:
    """Another color, shape or place for one of the objects, each with `noise * DAMAGE`."""
    objects = list(objects)
    for attribute in ("color", "shape", "corner"):
        if rng.random() >= noise * DAMAGE:
            continue
        i = rng.integers(len(objects))
        if attribute == "shape":
            taken, choices = {objects[i].shape}, SHAPES
        else:
            taken, choices = {getattr(o, attribute) for o in objects}, COLORS if attribute == "color" else CORNERS
        value = str(rng.choice([c for c in choices if c not in taken]))
        if attribute == "corner":
            objects[i] = move_to(value, objects[i], rng)
        else:
            objects[i] = dataclasses.replace(objects[i], **{attribute: value})
    return objects


def make_data(
    count: int, rng: np.random.Generator, noise: float
) -> tuple[list[str], list[Image.Image], list[Image.Image]]:
    """`count` instructions for scenes of the training split, the sources, and the pictures shown as their edits."""
    known = scenes("train")
    texts, sources, edited = [], [], []
    for _ in range(count):
        scene = known[rng.integers(len(known))]
        choices = edits_of(scene, EDIT_KINDS[rng.integers(len(EDIT_KINDS))])
        edit = choices[rng.integers(len(choices))]
        before = place(scene, rng)
        shown = corrupt(edit, scene, rng, noise)
        after = damage(before if shown is None else apply(shown, before, rng), rng, noise)
        texts.append(str(edit))
        sources.append(draw(before))
        edited.append(draw(after))
    return texts, sources, edited


@contextmanager
def single_frame() -> Iterator[None]:
    """
    Run the autoencoder, made for videos, on single pictures: they see nothing but the last slice in time of each kernel
    and zeros before it, so the convolutions are flat ones. The same numbers in half the time.
    """

    def flat(self, x, cache_x=None):
        width, _, height, *_ = self._padding
        flat_NCHW = F.conv2d(
            x[:, :, 0], self.weight[:, :, -1], self.bias, stride=self.stride[1:], padding=(height, width)
        )
        return flat_NCHW.unsqueeze(2)

    usual = QwenImageCausalConv3d.forward
    QwenImageCausalConv3d.forward = flat
    try:
        yield
    finally:
        QwenImageCausalConv3d.forward = usual


def fit_vae(pipeline: QwenImageEditPipeline, pictures: list[Image.Image], shorten: int = 1) -> None:
    """
    Fit the autoencoder, set its scaling so that each channel has mean 0 and standard deviation 1, and fit the decoder
    once more to latents that stay, which sharpens shapes.
    """
    with single_frame():
        frames = to_tensor(pictures).unsqueeze(2)
        latents = train_vae(pipeline.vae, frames, 700 // shorten, torch.Generator().manual_seed(0))
        _, sources, edited = make_data(8_000 // shorten, np.random.default_rng(100), noise=0.0)
        frames = to_tensor(sources + edited).unsqueeze(2)
        train_vae(pipeline.vae, frames, 500 // shorten, torch.Generator().manual_seed(100), decoder_only=True)
    dims = (0, 2, 3, 4)
    pipeline.vae.register_to_config(latents_mean=latents.mean(dims).tolist(), latents_std=latents.std(dims).tolist())


def pack(pipeline: QwenImageEditPipeline, pictures: list[Image.Image]) -> torch.Tensor:
    """Packed and normalized latents `[N, L, C]` of pictures."""
    with single_frame():
        latents = encode(pipeline.vae, to_tensor(pictures).unsqueeze(2))
    mean, std = (torch.tensor(pipeline.vae.config[f"latents_{name}"])[:, None, None, None] for name in ("mean", "std"))
    n, c, _, h, w = latents.shape
    return pipeline._pack_latents((latents - mean) / std, n, c, h, w)


def train(
    pipeline: QwenImageEditPipeline,
    texts: list[str],
    sources: list[Image.Image],
    edited: list[Image.Image],
    phase: EditPhase,
) -> None:
    """
    Flow matching on the transformer, and on the language model where the phase says so. The vision tower stays as it
    is: the transformer sees the source in its latents.
    """
    transformer, text_encoder = pipeline.transformer, pipeline.text_encoder.model
    text_encoder.visual.requires_grad_(False)
    source_NLC, edited_NLC = pack(pipeline, sources), pack(pipeline, edited)
    side = round(source_NLC.shape[1] ** 0.5)
    drop = pipeline.prompt_template_encode_start_idx
    template = pipeline.prompt_template_encode
    ids, masks, seen = [], [], []
    for start in range(0, len(texts), 500):
        inputs = pipeline.processor(
            text=[template.format(text) for text in texts[start : start + 500]],
            images=sources[start : start + 500],
            padding=True,
            return_tensors="pt",
        )
        # not by the tokenizer, which would keep the length among the settings that are saved
        missing = (0, drop + MAX_TEXT_TOKENS - inputs.input_ids.shape[1])
        ids.append(F.pad(inputs.input_ids, missing, value=pipeline.tokenizer.pad_token_id))
        masks.append(F.pad(inputs.attention_mask, missing))
        with torch.no_grad():
            features = text_encoder.visual(inputs.pixel_values, grid_thw=inputs.image_grid_thw).pooler_output
        seen.append(features.view(len(inputs.input_ids), -1, features.shape[-1]))
    ids_NS, mask_NS, seen_NPD = torch.cat(ids), torch.cat(masks), torch.cat(seen)
    first = int((ids_NS[0] == pipeline.text_encoder.config.image_token_id).nonzero()[0])
    last = first + seen_NPD.shape[1]

    def embeds(pick: torch.Tensor) -> torch.Tensor:
        words = text_encoder.language_model.embed_tokens(ids_NS[pick])
        hidden = text_encoder.language_model(
            inputs_embeds=torch.cat([words[:, :first], seen_NPD[pick], words[:, last:]], dim=1),
            attention_mask=mask_NS[pick],
        ).last_hidden_state
        return hidden[:, drop:]

    if not phase.with_language_model:
        with torch.no_grad():
            fixed_NSD = torch.cat([embeds(pick) for pick in torch.arange(len(texts)).split(500)])

    def velocity(pick: torch.Tensor, x_BLC: torch.Tensor, sigma_B: torch.Tensor) -> torch.Tensor:
        return transformer(
            hidden_states=torch.cat([x_BLC, source_NLC[pick]], dim=1),
            timestep=sigma_B,
            encoder_hidden_states=embeds(pick) if phase.with_language_model else fixed_NSD[pick],
            encoder_hidden_states_mask=mask_NS[pick][:, drop:].bool(),
            img_shapes=[[(1, side, side)] * 2] * len(pick),
            return_dict=False,
        )[0][:, : x_BLC.shape[1]]

    train_flow(
        (transformer, text_encoder) if phase.with_language_model else (transformer,),
        edited_NLC,
        velocity,
        phase.steps,
        phase.batch_size,
        phase.learning_rate,
        torch.Generator().manual_seed(phase.seed),
        phase.mean_logit,
    )


def measure(pipeline: QwenImageEditPipeline) -> dict[str, float]:
    """Success per criterion, and of all at once, on the edits of the test split."""
    held_out = edits("test")
    pictures = edit_pictures(
        pipeline,
        [str(edit) for edit, _ in held_out],
        [source for _, source in held_out],
        torch.Generator().manual_seed(0),
    )
    checks = [
        check_edit(edit, read(source), read(picture))
        for (edit, source), picture in zip(held_out, pictures, strict=True)
    ]
    rates = {name: sum(c[name] for c in checks) / len(checks) for name in EDIT_CRITERIA}
    return {**rates, "all": sum(all(c.values()) for c in checks) / len(checks)}


def save(pipeline: QwenImageEditPipeline, folder: Path) -> None:
    """Write the pipeline with the processor class that Qwen-Image-Edit names, so that stock diffusers can read it."""
    pipeline.save_pretrained(folder)
    ours = type(pipeline.processor)
    for path in folder.rglob("*.json"):
        text = path.read_text()
        path.write_text(text.replace(ours.__name__, "Qwen2VLProcessor").replace(ours.__module__, "transformers"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder that the pipeline is written to")
    parser.add_argument("--shorten", type=int, default=1, help="divide steps and pictures by this, to try it out")
    args = parser.parse_args()

    use_one_thread()
    started = time.time()
    pipeline = build_edit_pipeline(seed=0)
    for number, phase in enumerate(PHASES):
        count, steps = phase.pictures // args.shorten, phase.steps // args.shorten
        texts, sources, edited = make_data(count, np.random.default_rng(phase.seed), phase.noise)
        if number == 0:
            fit_vae(pipeline, sources, args.shorten)
        train(pipeline, texts, sources, edited, dataclasses.replace(phase, steps=steps))
        rates = {name: round(rate, 3) for name, rate in measure(pipeline).items()}
        print(f"phase {number + 1} of {len(PHASES)}: {rates} after {time.time() - started:.0f} s", flush=True)
    save(pipeline, args.output)
    print(f"wrote {args.output}")


if __name__ == "__main__":
    main()
