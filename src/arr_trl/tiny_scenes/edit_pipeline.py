"""
The editor of TinyScenes: a real `QwenImageEditPipeline` with about two million parameters in its transformer and a
tokenizer built offline. `load_edit_pipeline` gives the pre-trained one that ships with the package,
`build_edit_pipeline` an untrained one.
"""

import re
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImageEditPipeline,
    QwenImageTransformer2DModel,
)
from PIL import Image
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from ..image_only_processor import ImageOnlyProcessor
from ..policies.qwen_image_edit import QwenImageEditPolicy
from ..sampling import denoise
from ..shipped import place_of
from .edits import all_instructions
from .scenes import SIZE
from .words import SPECIAL_TOKENS, qwen_tokenizer


EDIT_BASE_MODEL = Path(place_of("tiny_scenes_edit"))
# Side of the sources in pixels; the pipeline's own is 1024.
CONDITION_SIZE = SIZE


def load_edit_pipeline(path: str | Path = EDIT_BASE_MODEL) -> QwenImageEditPipeline:
    """The pre-trained TinyScenes editor, in float32 on the CPU."""
    pipeline = QwenImageEditPolicy.load_pipeline(str(path), dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def edit_pictures(
    pipeline: QwenImageEditPipeline,
    prompts: list[str],
    sources: list[Image.Image],
    generator: torch.Generator | None = None,
    num_inference_steps: int = 8,
) -> list[Image.Image]:
    """
    Edit pictures of TinyScenes. The pipeline's own call would enlarge every source to a megapixel first, which the
    editor has never seen; the policy leaves them at 32 pixels, as training does.

    Args:
        pipeline ([`~diffusers.QwenImageEditPipeline`]): the editor, with an adapter or without.
        prompts (`list[str]`): instructions.
        sources (`list[PIL.Image.Image]`): one 32x32 picture for each.
        generator (`torch.Generator`, *optional*): draws the initial noise.
        num_inference_steps (`int`, *optional*, defaults to `8`): denoising steps.

    Returns:
        `list[PIL.Image.Image]`: one 32x32 picture for each instruction.
    """
    policy = QwenImageEditPolicy(pipeline, condition_size=CONDITION_SIZE, negative_prompt=None)
    rows = [{"prompt": p, "source_image": source} for p, source in zip(prompts, sources, strict=True)]
    noise = policy.initial_noise(len(rows), SIZE, SIZE, generator)
    sigmas = policy.sigmas(num_inference_steps, SIZE, SIZE)
    latents = denoise(policy, pipeline.transformer, noise, sigmas, policy.encode(rows, SIZE, SIZE), guidance_scale=1.0)
    return policy.decode(latents, SIZE, SIZE)


def build_edit_pipeline(seed: int = 0) -> QwenImageEditPipeline:
    """A TinyScenes editor with random weights: the same classes and shapes as the pre-trained one."""
    torch.manual_seed(seed)
    tokenizer = _tokenizer()
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in SPECIAL_TOKENS}
    # one token of the language model is a square of 16 pixels, so a scene has four
    image_processor = Qwen2VLImageProcessorPil(
        patch_size=8, merge_size=2, temporal_patch_size=2, min_pixels=SIZE * SIZE, max_pixels=SIZE * SIZE
    )
    text_encoder = Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            text_config={
                "vocab_size": len(tokenizer),
                "hidden_size": 64,
                "intermediate_size": 128,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "max_position_embeddings": 1024,
                "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 6, 6]},
                "bos_token_id": ids["endoftext"],
                "eos_token_id": ids["endoftext"],
                "pad_token_id": ids["endoftext"],
            },
            vision_config={
                "depth": 1,
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_heads": 2,
                "out_hidden_size": 64,
                "patch_size": 8,
                "window_size": 32,
                "fullatt_block_indexes": [0],
            },
            image_token_id=ids["image_pad"],
            video_token_id=ids["video_pad"],
            vision_start_token_id=ids["vision_start"],
            vision_end_token_id=ids["vision_end"],
            tie_word_embeddings=True,
        )
    )
    pipeline = QwenImageEditPipeline(
        # the scheduler's configuration is Qwen-Image-Edit's own
        scheduler=FlowMatchEulerDiscreteScheduler(
            num_train_timesteps=1000,
            shift=1.0,
            use_dynamic_shifting=True,
            base_shift=0.5,
            max_shift=0.9,
            base_image_seq_len=256,
            max_image_seq_len=8192,
            shift_terminal=0.02,
        ),
        vae=AutoencoderKLQwenImage(
            base_dim=12,
            z_dim=16,
            dim_mult=[1, 2, 2],
            num_res_blocks=1,
            temperal_downsample=[False, True],
            latents_mean=[0.0] * 16,
            latents_std=[1.0] * 16,
        ),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        processor=ImageOnlyProcessor(image_processor, tokenizer),
        transformer=QwenImageTransformer2DModel(
            in_channels=64,
            out_channels=16,
            num_layers=3,
            attention_head_dim=32,
            num_attention_heads=4,
            joint_attention_dim=64,
            axes_dims_rope=(8, 12, 12),
        ),
    )
    for model in (pipeline.vae, pipeline.text_encoder, pipeline.transformer):
        model.eval()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _tokenizer() -> Qwen2Tokenizer:
    """
    One in which every word of the grammar and of the pipeline's template is a token. The pipeline drops the first 64 tokens,
    the length of its system message in the vocabulary of Qwen; that message is as long here.
    """
    template = QwenImageEditPipeline(*[None] * 6).prompt_template_encode
    return qwen_tokenizer([*re.split(r"<\|\w+\|>|{}", template), *all_instructions()])
