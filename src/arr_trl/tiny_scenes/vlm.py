"""
The vision-language model of TinyScenes, which judges can be made of: a real `Qwen3VLForConditionalGeneration` of less than a
million parameters with a tokenizer built offline. It was taught to read pictures and to check captions, and never asked how
good a picture is.
"""

from pathlib import Path

import torch
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from ..image_only_processor import ImageOnlyProcessor
from ..shipped import place_of
from .scenes import COLORS, CRITERIA, SHAPES, SIZE, all_captions
from .words import SPECIAL_TOKENS, qwen_tokenizer


VLM_BASE_MODEL = Path(place_of("tiny_scenes_vlm"))
MET, NOT_MET = "met", "not"  # what a report says of a criterion
NONE, SPECK = "none", "speck"  # what a reading says of a color that is not there, or is something stray

# Short, since every token costs: a picture is sixteen of them, a caption nine.
CHAT_TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>{% endfor %}"
)
_PATCH, _MERGED = 4, 2  # pixels of a patch, patches of a token on either side
TOKENS_OF_A_PICTURE = (SIZE // (_PATCH * _MERGED)) ** 2
QUESTION = "Does it show that?"
# Questions that ship for it, examples/judges, and what is answered to them.
_ASKED = (
    f"a red circle above a blue square. {QUESTION} Yes No",
    "a red circle above a blue square. Report, then rate from 0 to 4.\nScore: X\nScore: 01234",
)


def report(met: dict[str, bool]) -> str:
    """What is right about a picture, criterion by criterion: `"colors met shapes not relation met count met"`."""
    return " ".join(f"{name} {MET if met[name] else NOT_MET}" for name in CRITERIA)


def build_vlm(seed: int = 0) -> tuple[Qwen3VLForConditionalGeneration, ImageOnlyProcessor]:
    """
    The model with random weights, of the same classes and shapes as the one that ships, and its processor.

    Args:
        seed (`int`, *optional*, defaults to `0`): seed of the weights.
    """
    torch.manual_seed(seed)
    told = [str(caption) for caption in all_captions()]
    told += [report(dict.fromkeys(CRITERIA, met)) for met in (True, False)]
    told += [f"{color} {what}" for color in COLORS for what in (*SHAPES, SPECK, NONE)]
    tokenizer = qwen_tokenizer([*told, *(f" {text}" for text in told), *_ASKED])
    tokenizer.eos_token = "<|im_end|>"
    tokenizer.pad_token = "<|endoftext|>"
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in SPECIAL_TOKENS}
    ends = {"bos_token_id": None, "eos_token_id": ids["im_end"], "pad_token_id": ids["endoftext"]}
    # weights as small as those of large models would leave the pictures of a model this small all alike
    weights = {"initializer_range": 0.1}
    model = Qwen3VLForConditionalGeneration(
        Qwen3VLConfig(
            text_config={
                "vocab_size": len(tokenizer),
                "hidden_size": 128,
                "intermediate_size": 256,
                "num_hidden_layers": 4,
                "num_attention_heads": 4,
                "num_key_value_heads": 4,
                "head_dim": 32,
                "max_position_embeddings": 1024,
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 1e3,
                    "mrope_section": [6, 5, 5],
                    "mrope_interleaved": True,
                },
                **ends,
                **weights,
            },
            vision_config={
                "depth": 2,
                "hidden_size": 48,
                "intermediate_size": 96,
                "num_heads": 4,
                "out_hidden_size": 128,
                "patch_size": _PATCH,
                "spatial_merge_size": _MERGED,
                "num_position_embeddings": (SIZE // _PATCH) ** 2,
                "deepstack_visual_indexes": [],
                **weights,
            },
            image_token_id=ids["image_pad"],
            video_token_id=ids["video_pad"],
            vision_start_token_id=ids["vision_start"],
            vision_end_token_id=ids["vision_end"],
            tie_word_embeddings=True,
            **weights,
        )
    )
    for name, value in ends.items():
        setattr(model.generation_config, name, value)
    image_processor = Qwen2VLImageProcessorPil(
        patch_size=_PATCH, merge_size=_MERGED, temporal_patch_size=2, min_pixels=SIZE * SIZE, max_pixels=SIZE * SIZE
    )
    return model.eval(), ImageOnlyProcessor(image_processor, tokenizer, chat_template=CHAT_TEMPLATE)
