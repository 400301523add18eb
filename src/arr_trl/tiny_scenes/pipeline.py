"""
The generator of TinyScenes: a real `FluxPipeline` of about two million parameters, with its tokenizers built offline.
`load_pipeline` gives the pre-trained one that ships with the package, `build_pipeline` an untrained one.
"""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

from ..policies.bars import one_bar
from ..shipped import place_of
from .scenes import COLORS, RELATIONS, SHAPES


BASE_MODEL = Path(place_of("tiny_scenes"))
# Captions have at most nine tokens. FLUX does not mask padding, so this length is part of the model: pass it as
# `max_sequence_length` wherever the pipeline is called.
MAX_SEQUENCE_LENGTH = 12

_WORDS = ("a", "an", *COLORS, *SHAPES, *dict.fromkeys(" ".join(RELATIONS).split()))


def load_pipeline(path: str | Path = BASE_MODEL) -> FluxPipeline:
    """The pre-trained TinyScenes pipeline, in float32 on the CPU."""
    with one_bar():
        pipeline = FluxPipeline.from_pretrained(path, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def build_pipeline(seed: int = 0) -> FluxPipeline:
    """A TinyScenes pipeline with random weights: the same classes and shapes as the pre-trained one."""
    torch.manual_seed(seed)
    tokenizer, tokenizer_2 = _clip_tokenizer(), _t5_tokenizer()
    clip_config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    t5_config = T5Config(
        vocab_size=len(tokenizer_2),
        d_model=96,
        d_kv=32,
        d_ff=128,
        num_layers=2,
        num_heads=3,
        feed_forward_proj="gated-gelu",
        relative_attention_num_buckets=16,
        relative_attention_max_distance=32,
        dropout_rate=0.0,
        pad_token_id=tokenizer_2.pad_token_id,
        eos_token_id=tokenizer_2.eos_token_id,
    )
    pipeline = FluxPipeline(
        # the scheduler's configuration is FLUX.1-dev's own
        scheduler=FlowMatchEulerDiscreteScheduler(
            num_train_timesteps=1000,
            shift=3.0,
            use_dynamic_shifting=True,
            base_shift=0.5,
            max_shift=1.15,
            base_image_seq_len=256,
            max_image_seq_len=4096,
        ),
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(16, 24, 32),
            layers_per_block=1,
            latent_channels=16,
            norm_num_groups=8,
            mid_block_add_attention=False,
            use_quant_conv=False,
            use_post_quant_conv=False,
            sample_size=32,
            shift_factor=0.0,
        ),
        text_encoder=CLIPTextModel(clip_config),
        tokenizer=tokenizer,
        text_encoder_2=T5EncoderModel(t5_config),
        tokenizer_2=tokenizer_2,
        transformer=FluxTransformer2DModel(
            in_channels=64,
            num_layers=2,
            num_single_layers=2,
            attention_head_dim=32,
            num_attention_heads=4,
            joint_attention_dim=96,
            pooled_projection_dim=64,
            axes_dims_rope=(8, 12, 12),
            guidance_embeds=True,
        ),
    )
    for model in (pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2, pipeline.transformer):
        model.eval()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _clip_tokenizer() -> CLIPTokenizer:
    """Byte-pair tokenizer in which every word of the grammar is one token and any other text falls back to letters."""
    letters = [chr(c) for c in range(33, 127)]
    vocab = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{c}</w>" for c in letters)]
    merges = []
    for word in _WORDS:
        pieces = [*word[:-1], f"{word[-1]}</w>"]
        while len(pieces) > 1:
            merges.append((pieces[0], pieces[1]))
            pieces = [pieces[0] + pieces[1], *pieces[2:]]
            vocab.append(pieces[0])
    vocab = {token: i for i, token in enumerate(dict.fromkeys(vocab))}
    return CLIPTokenizer(vocab=vocab, merges=list(dict.fromkeys(merges)), model_max_length=16)


def _t5_tokenizer() -> T5Tokenizer:
    """Unigram tokenizer in which every word of the grammar is one token and any other text falls back to letters."""
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -5.0)]
    vocab += [(f"▁{word}", -1.0) for word in _WORDS if len(word) > 1] + [("▁a", -1.0)]
    vocab += [(chr(c), -8.0) for c in range(33, 127)]
    return T5Tokenizer(vocab=vocab, extra_ids=0, model_max_length=MAX_SEQUENCE_LENGTH)
