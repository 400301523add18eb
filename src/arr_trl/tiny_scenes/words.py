"""Tokenizers of TinyScenes' Qwen models, built offline: every word of their little languages is one token."""

import json
from collections.abc import Iterable

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import Qwen2Tokenizer


SPECIAL_TOKENS = ("endoftext", "im_start", "im_end", "vision_start", "vision_end", "image_pad", "video_pad")


def qwen_tokenizer(texts: Iterable[str]) -> Qwen2Tokenizer:
    """
    Byte-pair tokenizer with the special tokens of Qwen, in which every word of the texts is one token, and any other text
    falls back to bytes.

    Args:
        texts (`Iterable[str]`): all that its model is told, without special tokens.
    """
    special = [f"<|{name}|>" for name in SPECIAL_TOKENS]
    words = Qwen2Tokenizer().backend_tokenizer
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = words.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=10_000,
        special_tokens=special[:1],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learned.train_from_iterator(texts, trainer)
    model = json.loads(learned.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = Qwen2Tokenizer(vocab=model["vocab"], merges=merges, model_max_length=1024)
    tokenizer.add_special_tokens({"additional_special_tokens": special[1:]})
    return tokenizer
