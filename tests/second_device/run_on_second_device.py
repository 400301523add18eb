"""
Trains pipelines of every family on the CPU, on the second device, and there with what a small card needs. Prints as JSON
how far their adapters are apart, the most memory that was in use, and races between streams; and what the device says when
a wait is missing.

python run_on_second_device.py FOLDER
"""

import copy
import gc
import json
import os
import sys
from functools import partial
from pathlib import Path

import second_device


device = second_device.register()  # first: libraries ask torch for an accelerator when they are imported

import torch  # noqa: E402
from datasets import Dataset  # noqa: E402
from diffusers import FluxTransformer2DModel, QwenImageEditPipeline, QwenImageEditPlusPipeline  # noqa: E402


sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "trainer")]

import given_pairs  # noqa: E402
import offloaded_blocks  # noqa: E402
import test_align_prop_trainer  # noqa: E402
import test_diffusion_nft_trainer  # noqa: E402
import test_editing  # noqa: E402
import test_flow_grpo_trainer  # noqa: E402
import test_rpo_trainer  # noqa: E402
import two_streams  # noqa: E402
from oracle import picture  # noqa: E402
from test_rpo_trainer import adapter  # noqa: E402
from tiny_newer_pipelines import (  # noqa: E402
    build_flux_fill,
    build_flux_inpaint,
    build_krea2,
    build_longcat_image,
    build_lumina2,
    build_ovis_image,
    build_qwen_image_2_1,
    build_qwen_image_inpaint,
    build_z_image_omni,
)
from tiny_pipelines import (  # noqa: E402
    build_flux,
    build_flux2,
    build_flux_kontext,
    build_qwen_image,
    build_sd3,
    build_z_image,
)

from arr_trl.policies import placement, policy_class_of  # noqa: E402
from arr_trl.runtime.block_offload import BlockOffload  # noqa: E402
from arr_trl.sampling import denoise  # noqa: E402


def build_deep_flux(num_layers=19, num_single_layers=38):
    """FLUX.1's 19 and 38 blocks, narrow, so that the weights of the blocks are nearly all there is."""
    pipeline = build_flux()
    config = {**pipeline.transformer.config, "num_layers": num_layers, "num_single_layers": num_single_layers}
    pipeline.register_modules(transformer=FluxTransformer2DModel.from_config(config).eval())
    return pipeline


PIPELINES = {
    "flux": build_flux,
    "flux_kontext": build_flux_kontext,
    "flux2": build_flux2,
    "flux2_klein": lambda: build_flux2(klein=True),
    "qwen_image": build_qwen_image,
    "qwen_image_edit": lambda: build_qwen_image(pipeline_class=QwenImageEditPipeline),
    "qwen_image_edit_plus": lambda: build_qwen_image(pipeline_class=QwenImageEditPlusPipeline),
    "sd3": build_sd3,
    "z_image": build_z_image,
    "flux_fill": build_flux_fill,
    "flux_inpaint": build_flux_inpaint,
    "krea2": build_krea2,
    "longcat_image": build_longcat_image,
    "lumina2": build_lumina2,
    "ovis_image": build_ovis_image,
    "qwen_image_2_1": build_qwen_image_2_1,
    "qwen_image_inpaint": build_qwen_image_inpaint,
    "z_image_omni": build_z_image_omni,
    "deep_flux": build_deep_flux,
}
RESIZING = ("flux_kontext", "qwen_image_edit", "qwen_image_edit_plus", "qwen_image_2_1")  # sources, by a setting
EDITING = (*RESIZING, "flux_fill", "flux_inpaint", "qwen_image_inpaint", "z_image_omni")
# tokens of a prompt; LongCat-Image's are its pipeline's
LENGTHS = {"flux": 12, "deep_flux": 12, "flux_fill": 32, "flux_inpaint": 32, "ovis_image": 64, "longcat_image": None}
SMALL_CARD = {"offload_encoders": True, "offload_blocks": True}


def edits(instructions, sizes):
    """Rows of pictures to edit, with masks of them for whom they are of use."""
    pictures = [{"source_image": picture(*size, i), "mask_image": picture(*size, 9)} for i, size in enumerate(sizes)]
    return [{"prompt": text, **given} for text, given in zip(instructions, pictures, strict=True)]


def train(name, pipeline, folder, on_device, **settings):
    gc.collect()
    before = device.memory_allocated()
    device.reset_peak_memory_stats()
    copies, beside = device.copies(), device.copies_beside_kernels()
    if name in EDITING:
        trainer_for = test_editing.trainer_for
        settings |= {"condition_size": 64 if name in RESIZING else None, "max_sequence_length": LENGTHS.get(name)}
        settings["dataset"] = Dataset.from_list(edits(test_editing.INSTRUCTIONS, [(64, 64)] * 4))
    else:
        trainer_for = test_rpo_trainer.trainer_for
        settings["max_sequence_length"] = LENGTHS.get(name, 128)
    trainer = trainer_for(
        copy.deepcopy(pipeline),
        folder,
        per_device_train_batch_size=4,
        max_steps=2,
        gradient_checkpointing=True,
        use_cpu=not on_device,
        eval_dataset=None,
        **settings,
    )
    trainer.train()
    peak = device.max_memory_allocated() - before  # the next line copies all weights
    return {
        "adapter": {name: value.cpu() for name, value in adapter(trainer).items()},
        "devices": sorted({p.device.type for p in trainer.model.parameters()}),
        "peak": peak,
        "copies": device.copies() - copies,
        "copies_beside_kernels": device.copies_beside_kernels() - beside,
        "races": device.take_violations(),
    }


def largest_difference(run, other):
    return max((run["adapter"][key] - value).abs().max().item() for key, value in other["adapter"].items())


def host_waits_per_step(name, pipeline):
    """How often a denoising step makes the host wait, with prompts and sources of different lengths in a batch."""
    kwargs = {"condition_size": 64} if name in RESIZING else {}
    policy = policy_class_of(pipeline)(copy.deepcopy(pipeline), **kwargs).to("hpu")
    prompts = ("a red circle", "two blue squares of", "one")
    rows = edits(prompts, [(96, 64), (64, 64), (96, 64)]) if name in EDITING else [{"prompt": p} for p in prompts]
    with torch.no_grad():
        conditioning = policy.encode(rows, 64, 64)
        noise = policy.initial_noise(3, 64, 64, [torch.Generator().manual_seed(i) for i in range(3)])
        waits = []
        for steps in (2, 2, 6):  # what is cached in the first run does not count
            sigmas = policy.sigmas(steps, 64, 64).to("hpu")
            before = device.host_waits()
            denoise(policy, policy.pipeline.transformer, noise, sigmas, conditioning, 4.0)
            waits.append(device.host_waits() - before)
    return (waits[2] - waits[1]) / 4


def encoders_moved(name):
    """
    How many times the size of the encoders goes to the device for rows together, known, and one by one; and whether they
    say the same where there is no room for all of them.
    """
    kwargs = {"condition_size": 64} if name in EDITING else {}
    policy = policy_class_of(pipeline := PIPELINES[name]())(pipeline, **kwargs).to("hpu", offload_encoders=True)
    encoders = [policy.pipeline.components[n] for n in policy._left if n != "vae" or policy.editing]
    size = sum(p.numel() * p.element_size() for encoder in encoders for p in encoder.parameters())
    rows = [{"prompt": prompt} for prompt in ("a red circle", "two blue squares", "one", "a star")]
    if name in EDITING:
        rows = [row | {"source_image": picture(64, 64, i)} for i, row in enumerate(rows)]
    moved = {}
    for way, calls in {"together": [rows], "known": [rows], "one by one": [[row] for row in rows]}.items():
        if way == "one by one":
            policy.cache.clear()
        before = device.copied_to_device()
        for some in calls:
            policy.encode(some, 64, 64)
        moved[way] = (device.copied_to_device() - before) / size
    whole = policy.encode(rows, 64, 64)
    policy.cache.clear()
    has_room, placement._has_room = placement._has_room, lambda size, device: False
    layers = policy.encode(rows, 64, 64)
    placement._has_room = has_room
    moved["layer by layer is the same"] = all(torch.equal(whole[n].cpu(), layers[n].cpu()) for n in whole)
    return moved


def host_waits_of_micro_steps(kind, pipeline, folder):
    """How often each micro-step makes the host wait from when it has its batch, or noise, until its backward is done."""
    settings = dict(use_cpu=False, beta=0.1, gradient_accumulation_steps=2, logging_steps=2, max_steps=2)
    build = {
        "rpo": test_rpo_trainer.trainer_for,
        "grpo": test_flow_grpo_trainer.build,
        "nft": test_diffusion_nft_trainer.build,
        "dpo": given_pairs.build,
        "align_prop": partial(test_align_prop_trainer.build, reward=brightness),
    }
    trainer = build[kind](copy.deepcopy(pipeline), folder, **settings)
    began, waits = [], []

    def after(owner, name, do):
        method = getattr(owner, name)

        def called(*inputs, **kwargs):
            output = method(*inputs, **kwargs)
            do()
            return output

        setattr(owner, name, called)

    draws = kind == "align_prop"  # in the micro-step itself, and looks at its pictures when all is under way
    begins = (trainer.policy, "initial_noise") if draws else (trainer, "_prepare_inputs")
    after(*begins, lambda: began.append(device.host_waits()))
    ends = (trainer.accelerator, "backward") if draws else (trainer, "training_step")
    after(*ends, lambda: waits.append(device.host_waits() - began[-1]))
    trainer.train()
    return waits


def brightness(prompts, pixels, **columns):
    return pixels.mean((1, 2, 3))


def main(folder: Path, families: list[str]) -> None:
    figures = {}
    for name in families:
        build = PIPELINES[name]
        torch.manual_seed(0)
        pipeline = build()
        os.environ.pop("ACCELERATE_TORCH_DEVICE", None)
        on_cpu = train(name, pipeline, folder / name / "cpu", on_device=False)
        os.environ["ACCELERATE_TORCH_DEVICE"] = "hpu"
        whole = train(name, pipeline, folder / name / "whole", on_device=True)
        small_card = train(name, pipeline, folder / name / "small_card", on_device=True, **SMALL_CARD)
        figures[name] = {
            "devices": whole["devices"] + small_card["devices"],
            "whole_against_cpu": largest_difference(whole, on_cpu),
            "small_card_against_whole": largest_difference(small_card, whole),
            "host_waits_per_step": host_waits_per_step(name, pipeline),
            "peak_whole": whole["peak"],
            "peak_small_card": small_card["peak"],
            "copies": small_card["copies"],
            "copies_beside_kernels": small_card["copies_beside_kernels"],
            "races": whole["races"] | small_card["races"],
        }
    figures["host_waits_of_micro_steps"] = {
        kind: host_waits_of_micro_steps(kind, build_flux(), folder / kind)
        for kind in ("rpo", "grpo", "nft", "dpo", "align_prop")
    }
    moving = ("flux", "qwen_image_edit", "qwen_image_edit_plus")
    figures["encoders_moved"] = {name: encoders_moved(name) for name in moving}
    figures["two_streams"] = two_streams.run(device)
    few_blocks = build_deep_flux(3, 4)
    figures["offloaded_blocks"] = {
        "whole": offloaded_blocks.run(few_blocks, device, BlockOffload),
        "fp8": offloaded_blocks.run(few_blocks, device, BlockOffload, "fp8"),
    }
    for name, line in offloaded_blocks.LINES.items():
        figures["offloaded_blocks"][name] = offloaded_blocks.run(few_blocks, device, offloaded_blocks.without(line))
    print(json.dumps(figures))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
