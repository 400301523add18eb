"""
Real pipelines of every family, built from configurations with random weights: a fraction of a million parameters each,
offline. The schedulers' configurations are the published models' own.
"""

import json
import re

import torch
from diffusers import (
    AuraFlowPipeline,
    AuraFlowTransformer2DModel,
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
    FluxKontextPipeline,
    QwenImageEditPipeline,
    QwenImageEditPlusPipeline,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from arr_trl.policies.qwen_image_edit import ImageOnlyProcessor
from arr_trl.tiny_scenes import build_pipeline


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


def build_flux(seed: int = 0):
    return build_pipeline(seed)


def build_flux_kontext(seed: int = 0):
    return finished(FluxKontextPipeline(**build_pipeline(seed).components))


QWEN3_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
MISTRAL_TEMPLATE = (
    "{% for message in messages %}[{{ message.role }}]{% for part in message.content %}{{ part.text }}{% endfor %}"
    "{% endfor %}"
)


def language_model(tokenizer: Qwen2Tokenizer, num_layers: int) -> dict:
    """Configuration of a text encoder with 16 channels."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": num_layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 8192,
        "pad_token_id": tokenizer.pad_token_id,
    }


def autoencoder(autoencoder_class: type = AutoencoderKL, num_levels: int = 3, **config):
    return autoencoder_class(
        down_block_types=("DownEncoderBlock2D",) * num_levels,
        up_block_types=("UpDecoderBlock2D",) * num_levels,
        block_out_channels=(8, *(16,) * (num_levels - 1)),
        layers_per_block=1,
        norm_num_groups=8,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
        **config,
    )


def build_flux2(seed: int = 0, klein: bool = False, is_distilled: bool = False):
    """FLUX.2-dev, or klein, whose encoders' 9th, 18th and 27th layers are read (dev: 10th, 20th and 30th)."""
    torch.manual_seed(seed)
    tokenizer = qwen_tokenizer()
    tokenizer.chat_template = QWEN3_TEMPLATE if klein else MISTRAL_TEMPLATE
    if klein:
        text_encoder = Qwen3ForCausalLM(Qwen3Config(**language_model(tokenizer, 28)))
    else:
        vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        text_encoder = Mistral3ForConditionalGeneration(
            Mistral3Config(
                text_config={"model_type": "mistral", **language_model(tokenizer, 31)},
                vision_config={"model_type": "pixtral", "head_dim": 8, **vision},
            )
        )
    vae = autoencoder(AutoencoderKLFlux2, latent_channels=4)
    vae.bn.running_mean.normal_()
    vae.bn.running_var.uniform_(0.5, 2.0)
    components = {
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        "vae": vae,
        "text_encoder": text_encoder,
        "tokenizer": tokenizer,
        "transformer": Flux2Transformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=48,
            timestep_guidance_channels=32,
            axes_dims_rope=(4, 4, 4, 4),
            guidance_embeds=not klein,
        ),
    }
    return finished(
        Flux2KleinPipeline(**components, is_distilled=is_distilled) if klein else Flux2Pipeline(**components)
    )


def build_z_image(seed: int = 0):
    torch.manual_seed(seed)
    tokenizer = qwen_tokenizer()
    tokenizer.chat_template = QWEN3_TEMPLATE
    return finished(
        ZImagePipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=autoencoder(latent_channels=16, scaling_factor=0.3611, shift_factor=0.1159),
            text_encoder=Qwen3ForCausalLM(Qwen3Config(**language_model(tokenizer, 3))),
            tokenizer=tokenizer,
            transformer=ZImageTransformer2DModel(
                dim=48,
                n_layers=2,
                n_refiner_layers=1,
                n_heads=2,
                n_kv_heads=2,
                cap_feat_dim=16,
                axes_dims=[8, 8, 8],
                axes_lens=[1024, 64, 64],
            ),
        )
    )


def build_sd3(seed: int = 0, use_dynamic_shifting: bool = False):
    """SD3.5-medium: RMS-normalised queries and keys, a second attention in its first layers."""
    flux = build_pipeline(seed)  # for its tokenizers
    torch.manual_seed(seed)
    clip = CLIPTextConfig(
        vocab_size=len(flux.tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=16,
        max_position_embeddings=flux.tokenizer.model_max_length,
        bos_token_id=flux.tokenizer.bos_token_id,
        eos_token_id=flux.tokenizer.eos_token_id,
        pad_token_id=flux.tokenizer.pad_token_id,
    )
    t5 = T5Config(vocab_size=len(flux.tokenizer_2), d_model=48, d_kv=16, d_ff=32, num_layers=1, num_heads=3)
    return finished(
        StableDiffusion3Pipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=use_dynamic_shifting),
            vae=autoencoder(latent_channels=16, scaling_factor=1.5305, shift_factor=0.0609),
            text_encoder=CLIPTextModelWithProjection(clip),
            tokenizer=flux.tokenizer,
            text_encoder_2=CLIPTextModelWithProjection(clip),
            tokenizer_2=flux.tokenizer,
            text_encoder_3=T5EncoderModel(t5),
            tokenizer_3=flux.tokenizer_2,
            transformer=SD3Transformer2DModel(
                sample_size=32,
                in_channels=16,
                num_layers=2,
                attention_head_dim=16,
                num_attention_heads=2,
                joint_attention_dim=48,
                caption_projection_dim=32,
                pooled_projection_dim=32,
                pos_embed_max_size=96,
                dual_attention_layers=(0,),
                qk_norm="rms_norm",
            ),
        )
    )


def build_aura_flow(seed: int = 0):
    """For the policy that the documentation shows."""
    tokenizer = build_pipeline(seed).tokenizer_2
    torch.manual_seed(seed)
    encoder = UMT5Config(vocab_size=len(tokenizer), d_model=48, d_kv=16, d_ff=32, num_layers=1, num_heads=3)
    return finished(
        AuraFlowPipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(shift=1.73),
            vae=autoencoder(latent_channels=4, scaling_factor=0.13025),
            text_encoder=UMT5EncoderModel(encoder),
            tokenizer=tokenizer,
            transformer=AuraFlowTransformer2DModel(
                sample_size=32,
                num_mmdit_layers=1,
                num_single_dit_layers=1,
                attention_head_dim=16,
                num_attention_heads=2,
                joint_attention_dim=48,
                caption_projection_dim=32,
                pos_embed_max_size=1024,
            ),
        )
    )
