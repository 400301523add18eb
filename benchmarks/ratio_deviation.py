"""
|ρ - 1| on-policy, for every family: what the training pass computes of the steps that the rollout took, with unchanged
weights, in float32 and bfloat16, in the rollout's batch and one row at a time. Tiny pipelines with random weights, and the
pre-trained one of TinyScenes.

    python benchmarks/ratio_deviation.py
"""

import sys
from pathlib import Path

import diffusers
import torch
import transformers
from diffusers import QwenImageEditPipeline, QwenImageEditPlusPipeline


sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from oracle import on_policy_ratios, picture
from tiny_newer_pipelines import (
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
from tiny_pipelines import build_flux, build_flux2, build_flux_kontext, build_qwen_image, build_sd3, build_z_image

from arr_trl.policies import policy_for
from arr_trl.tiny_scenes import load_pipeline


ROWS = [
    {"prompt": "Make the circle green", "source_image": picture(64, 64, 0), "mask_image": picture(64, 64, 3)},
    {"prompt": "Remove the square", "source_image": picture(96, 64, 1), "mask_image": picture(64, 64, 4)},
    {
        "prompt": "Make the square larger and remove the circle from the picture",
        "source_image": picture(64, 64, 2),
        "mask_image": picture(64, 64, 5),
    },
]
# pipeline, the policy's arguments, guidance scale
FAMILIES = {
    "FLUX.1, TinyScenes": (load_pipeline, {"max_sequence_length": 64}, 3.5),
    "FLUX.1": (build_flux, {"max_sequence_length": 64}, 3.5),
    "FLUX.1-Kontext": (build_flux_kontext, {"max_sequence_length": 64, "condition_size": 64}, 2.5),
    "FLUX.2-dev": (build_flux2, {"max_sequence_length": 160}, 4.0),
    "FLUX.2-klein": (lambda: build_flux2(klein=True), {"max_sequence_length": 64}, 4.0),
    "Qwen-Image": (build_qwen_image, {}, 4.0),
    "Qwen-Image-Edit": (lambda: build_qwen_image(0, QwenImageEditPipeline), {"condition_size": 64}, 4.0),
    "Qwen-Image-Edit-Plus": (lambda: build_qwen_image(0, QwenImageEditPlusPipeline), {"condition_size": 64}, 4.0),
    "SD3.5": (build_sd3, {"max_sequence_length": 64}, 7.0),
    "Z-Image": (build_z_image, {}, 5.0),
    "Qwen-Image-2.1": (build_qwen_image_2_1, {"condition_size": 64, "negative_prompt": " "}, 4.0),
    "FLUX.1-Fill": (build_flux_fill, {"max_sequence_length": 64}, 30.0),
    "FLUX.1, inpainting": (build_flux_inpaint, {"max_sequence_length": 64}, 7.0),
    "Qwen-Image, inpainting": (build_qwen_image_inpaint, {}, 4.0),
    "Z-Image-Omni": (build_z_image_omni, {}, 5.0),
    "Krea-2": (build_krea2, {}, 4.5),
    "LongCat-Image": (build_longcat_image, {}, 4.5),
    "Ovis-Image": (build_ovis_image, {"max_sequence_length": 64}, 5.0),
    "Lumina-Image-2.0": (build_lumina2, {}, 4.0),
}


def main() -> None:
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    print("| family | float32, same batch | float32, row by row | bfloat16, same batch | bfloat16, row by row |")
    print("|---|---|---|---|---|")
    for name, (build, policy_kwargs, guidance_scale) in FAMILIES.items():
        cells = []
        for dtype in (torch.float32, torch.bfloat16):
            pipeline = build().to(dtype=dtype)
            if name == "Z-Image-Omni":
                pipeline.vae.bfloat16()  # in which it encodes pictures
            policy = policy_for(pipeline, **policy_kwargs)
            for row_by_row in (False, True):
                with torch.no_grad():
                    ratios = on_policy_ratios(policy, ROWS, 64, 96, guidance_scale, row_by_row=row_by_row)
                deviation = (ratios - 1).abs().max().item()
                cells.append(f"{deviation:.0e}" if deviation else "0")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
