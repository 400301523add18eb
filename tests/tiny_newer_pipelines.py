"""Real pipelines of the families that came after those of tiny_pipelines.py, as small, offline, with random weights."""

import json
import string

import torch
from diffusers import (
    AutoencoderKLQwenImage,
    AutoencoderKLQwenImage21,
    FlowMatchEulerDiscreteScheduler,
    FluxFillPipeline,
    FluxInpaintPipeline,
    FluxTransformer2DModel,
    Krea2Pipeline,
    Krea2Transformer2DModel,
    LongCatImagePipeline,
    LongCatImageTransformer2DModel,
    Lumina2Pipeline,
    Lumina2Transformer2DModel,
    OvisImagePipeline,
    OvisImageTransformer2DModel,
    QwenImage21Pipeline,
    QwenImage21Transformer2DModel,
    QwenImageInpaintPipeline,
    ZImageOmniPipeline,
    ZImageTransformer2DModel,
)
from tiny_pipelines import (
    QWEN3_TEMPLATE,
    QWEN_SPECIAL,
    WORDS,
    autoencoder,
    build_flux,
    build_qwen_image,
    build_z_image,
    finished,
    language_model,
    qwen_tokenizer,
)
from tokenizers import Tokenizer, models, normalizers, trainers
from transformers import (
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizer,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3Model,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLModel,
    Siglip2VisionConfig,
    Siglip2VisionModel,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

from arr_trl.policies.processors import ImageOnlyQwen3VLProcessor
from arr_trl.policies.qwen_image_edit import ImageOnlyProcessor


def qwen3_vl(tokenizer: Qwen2Tokenizer, num_layers: int) -> Qwen3VLConfig:
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in QWEN_SPECIAL}
    text = language_model(tokenizer, num_layers)
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 1, 1], "mrope_interleaved": True}
    return Qwen3VLConfig(
        text_config={**text, "rope_parameters": rope, "bos_token_id": None, "eos_token_id": text["pad_token_id"]},
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": 16,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )


QWEN3_VL_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{% for part in message.content %}{{ part.text }}{% endfor %}"
    "<|im_end|>\n{% endfor %}"
)


def build_qwen_image_2_1(seed: int = 0, sample_sigmas: list[float] | None = None):
    torch.manual_seed(seed)
    tokenizer = qwen_tokenizer()
    images = Qwen2VLImageProcessorPil(patch_size=16, min_pixels=32 * 32, max_pixels=256 * 256)
    return finished(
        QwenImage21Pipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(
                use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02
            ),
            vae=AutoencoderKLQwenImage21(
                base_dim=8,
                decoder_base_dim=8,
                z_dim=4,
                dim_mult=[1, 1, 1, 1, 1],
                num_res_blocks=1,
                latents_mean=[0.1 * i for i in range(4)],
                latents_std=[1.0 + 0.1 * i for i in range(4)],
            ),
            text_encoder=Qwen3VLForConditionalGeneration(qwen3_vl(tokenizer, 2)),
            processor=ImageOnlyQwen3VLProcessor(images, tokenizer, chat_template=QWEN3_VL_TEMPLATE),
            transformer=QwenImage21Transformer2DModel(
                in_channels=4,
                out_channels=4,
                num_layers=2,
                attention_head_dim=16,
                num_attention_heads=2,
                context_in_dim=16,
                axes_dims_rope=(4, 6, 6),
            ),
            sample_sigmas=sample_sigmas,
        )
    )


def build_flux_fill(seed: int = 0):
    components = build_flux(seed).components
    vae, config = components["vae"].config, components["transformer"].config
    pixels = 4 ** (len(vae.block_out_channels) - 1)  # of the mask, behind each latent
    channels = {"in_channels": 4 * (2 * vae.latent_channels + pixels), "out_channels": 4 * vae.latent_channels}
    components["transformer"] = FluxTransformer2DModel.from_config({**config, **channels, "_use_default_values": []})
    for name in ("image_encoder", "feature_extractor"):
        del components[name]
    return finished(FluxFillPipeline(**components))


def build_qwen_image_inpaint(seed: int = 0):
    return finished(QwenImageInpaintPipeline(**build_qwen_image(seed).components))


def build_flux_inpaint(seed: int = 0):
    return finished(FluxInpaintPipeline(**build_flux(seed).components))


def build_krea2(seed: int = 0, is_distilled: bool = False):
    torch.manual_seed(seed)
    tokenizer = qwen_tokenizer()
    return finished(
        Krea2Pipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(
                use_dynamic_shifting=True,
                base_shift=0.5,
                max_shift=1.15,
                base_image_seq_len=256,
                max_image_seq_len=6400,
            ),
            vae=AutoencoderKLQwenImage(
                base_dim=8,
                z_dim=4,
                dim_mult=[1, 2, 2],
                num_res_blocks=1,
                temperal_downsample=[False, True],
                latents_mean=[0.1 * i for i in range(4)],
                latents_std=[1.0 + 0.1 * i for i in range(4)],
            ),
            text_encoder=Qwen3VLModel(qwen3_vl(tokenizer, 3)),
            tokenizer=tokenizer,
            transformer=Krea2Transformer2DModel(
                in_channels=16,
                num_layers=2,
                attention_head_dim=16,
                num_attention_heads=2,
                num_key_value_heads=1,
                intermediate_size=32,
                timestep_embed_dim=16,
                text_hidden_dim=16,
                num_text_layers=2,
                text_num_attention_heads=2,
                text_num_key_value_heads=2,
                text_intermediate_size=32,
                num_layerwise_text_blocks=1,
                num_refiner_text_blocks=1,
                axes_dims_rope=(4, 6, 6),
            ),
            text_encoder_select_layers=(1, 3),
            is_distilled=is_distilled,
        )
    )


def build_z_image_omni(seed: int = 0):
    base = build_z_image(seed)
    torch.manual_seed(seed)
    vision = Siglip2VisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_patches=16
    )
    config = {**base.transformer.config, "siglip_feat_dim": 16, "_use_default_values": []}
    components = {
        **base.components,
        "vae": base.vae.bfloat16(),  # in which the pipeline encodes pictures
        "transformer": ZImageTransformer2DModel.from_config(config),
        "siglip": Siglip2VisionModel(vision),
        "siglip_processor": Siglip2ImageProcessorPil(max_num_patches=16),
    }
    return finished(ZImageOmniPipeline(**components))


def build_longcat_image(seed: int = 0):
    base = build_qwen_image(seed)
    torch.manual_seed(seed)
    pipeline = LongCatImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=autoencoder(latent_channels=16, scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=base.text_encoder,
        tokenizer=base.tokenizer,
        text_processor=ImageOnlyProcessor(Qwen2VLImageProcessorPil(), base.tokenizer),
        transformer=LongCatImageTransformer2DModel(
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            axes_dims_rope=[4, 6, 6],
        ),
    )
    pipeline.tokenizer_max_length = 48
    return finished(pipeline)


def build_ovis_image(seed: int = 0):
    torch.manual_seed(seed)
    tokenizer = qwen_tokenizer()
    tokenizer.chat_template = QWEN3_TEMPLATE
    return finished(
        OvisImagePipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
            vae=autoencoder(latent_channels=16, scaling_factor=0.3611, shift_factor=0.1159),
            text_encoder=Qwen3Model(Qwen3Config(**language_model(tokenizer, 2))),
            tokenizer=tokenizer,
            transformer=OvisImageTransformer2DModel(
                num_layers=1,
                num_single_layers=1,
                attention_head_dim=16,
                num_attention_heads=2,
                joint_attention_dim=16,
                axes_dims_rope=(4, 6, 6),
            ),
        )
    )


def gemma_tokenizer() -> GemmaTokenizer:
    """In which the system prompt of Lumina is a handful of tokens."""
    learned = Tokenizer(models.BPE())
    learned.normalizer = normalizers.Replace(" ", "▁")
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    alphabet = [character for character in string.printable if character != " "]
    trainer = trainers.BpeTrainer(
        vocab_size=2000, initial_alphabet=["▁", *alphabet], special_tokens=special, show_progress=False
    )
    learned.train_from_iterator([Lumina2Pipeline(*[None] * 5).system_prompt, *WORDS.split()], trainer)
    model = json.loads(learned.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    return GemmaTokenizer(vocab=model["vocab"], merges=merges, add_bos_token=True)


def build_lumina2(seed: int = 0, use_dynamic_shifting: bool = False):
    torch.manual_seed(seed)
    tokenizer = gemma_tokenizer()
    return finished(
        Lumina2Pipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(shift=6.0, use_dynamic_shifting=use_dynamic_shifting),
            vae=autoencoder(num_levels=4, latent_channels=16, scaling_factor=0.3611, shift_factor=0.1159),
            text_encoder=Gemma2Model(Gemma2Config(**language_model(tokenizer, 3))),
            tokenizer=tokenizer,
            transformer=Lumina2Transformer2DModel(
                in_channels=16,
                hidden_size=48,
                num_layers=2,
                num_refiner_layers=1,
                num_attention_heads=2,
                num_kv_heads=1,
                multiple_of=16,
                axes_dim_rope=(8, 8, 8),
                axes_lens=(300, 64, 64),
                cap_feat_dim=16,
            ),
        )
    )
