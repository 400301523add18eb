"""
Real pipelines of every family, built from configurations with random weights: a fraction of a million parameters each,
offline. The schedulers' configurations are the published models' own.
"""

import json
import re

import torch
from diffusers import (
    AutoencoderKLQwenImage,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    QwenImageEditPipeline,
    QwenImageEditPlusPipeline,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from arr_trl.policies.qwen_image_edit import ImageOnlyProcessor


QWEN_SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
    "<|video_pad|>",
]  # fmt: skip
WORDS = "Make the circle green and larger. Remove a square from the picture"


def qwen_tokenizer() -> Qwen2Tokenizer:
    """
    Byte-pair tokenizer in which every word of the pipelines' templates is one token, as in Qwen's: the pipelines drop a
    fixed number of tokens, the length of their system messages.
    """
    templates = [cls(*[None] * n).prompt_template_encode for cls, n in (
        (QwenImagePipeline, 5), (QwenImageEditPipeline, 6), (QwenImageEditPlusPipeline, 6)
    )]  # fmt: skip
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = Qwen2Tokenizer().backend_tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=10_000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    texts = [text for template in templates for text in re.split(r"<\|\w+\|>|{}", template)]
    learned.train_from_iterator([*texts, WORDS, "Picture 1: "], trainer)
    model = json.loads(learned.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = Qwen2Tokenizer(vocab=model["vocab"], merges=merges, model_max_length=8192)
    tokenizer.add_special_tokens({"additional_special_tokens": QWEN_SPECIAL[1:]})
    return tokenizer


def finished(pipeline: DiffusionPipeline) -> DiffusionPipeline:
    for component in pipeline.components.values():
        if isinstance(component, torch.nn.Module):
            component.eval()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def build_qwen_image(seed: int = 0, pipeline_class: type[DiffusionPipeline] = QwenImagePipeline, **transformer):
    """Any of the three pipelines of Qwen-Image; `transformer` changes the configuration of the transformer."""
    torch.manual_seed(seed)
    tokenizer = qwen_tokenizer()
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in QWEN_SPECIAL}
    text_encoder = Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            text_config={
                "vocab_size": len(tokenizer),
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "max_position_embeddings": 8192,
                "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
                "bos_token_id": ids["<|endoftext|>"],
                "eos_token_id": ids["<|endoftext|>"],
                "pad_token_id": ids["<|endoftext|>"],
            },
            vision_config={
                "depth": 2,
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_heads": 2,
                "out_hidden_size": 32,
                "fullatt_block_indexes": [1],
            },
            image_token_id=ids["<|image_pad|>"],
            video_token_id=ids["<|video_pad|>"],
            vision_start_token_id=ids["<|vision_start|>"],
            vision_end_token_id=ids["<|vision_end|>"],
        )
    )
    components = {
        "scheduler": FlowMatchEulerDiscreteScheduler(
            shift=1.0,
            use_dynamic_shifting=True,
            base_shift=0.5,
            max_shift=0.9,
            base_image_seq_len=256,
            max_image_seq_len=8192,
            shift_terminal=0.02,
        ),
        "vae": AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=16,
            dim_mult=[1, 2, 2],
            num_res_blocks=1,
            temperal_downsample=[False, True],
            latents_mean=[0.1 * i for i in range(16)],
            latents_std=[1.0 + 0.1 * i for i in range(16)],
        ),
        "text_encoder": text_encoder,
        "tokenizer": tokenizer,
        "transformer": QwenImageTransformer2DModel(
            **{
                "in_channels": 64,
                "out_channels": 16,
                "num_layers": 2,
                "attention_head_dim": 16,
                "num_attention_heads": 3,
                "joint_attention_dim": 32,
                "axes_dims_rope": (4, 6, 6),
                **transformer,
            }
        ),
    }
    if pipeline_class is not QwenImagePipeline:
        image_processor = Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=128 * 128)
        components["processor"] = ImageOnlyProcessor(image_processor, tokenizer)
    return finished(pipeline_class(**components))
