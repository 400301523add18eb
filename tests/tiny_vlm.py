"""A tiny LLaVA with random weights and an offline tokenizer: a real image-text-to-text model of a few hundred kB."""

from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)


SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<image>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}:"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}</s>{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)


def build_vlm(folder: Path | str, seed: int = 0, says: str | None = None) -> None:
    """Save model and processor, one token per character, to `folder`; a model that `says` something answers with that alone."""
    words = [] if says is None else [says]
    vocab = {token: i for i, token in enumerate([*SPECIAL, *map(chr, range(10, 127)), *words])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), behavior="isolated")
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
        clean_up_tokenization_spaces=False,
    )
    images = CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    processor = LlavaProcessor(
        image_processor=images,
        tokenizer=fast,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )
    torch.manual_seed(seed)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=28,
            patch_size=14,
        ),
        text_config=LlamaConfig(
            vocab_size=len(vocab),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=8192,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        ),
        image_token_index=4,
        vision_feature_layer=-2,
    )
    model = LlavaForConditionalGeneration(config)
    for parameter in model.parameters():  # far enough from uniform that choices differ
        parameter.data.mul_(3.0)
    if says is not None:
        _make_it_say(model, prompt_ends=vocab[":"], said=vocab[says], end=2)
    model.generation_config.eos_token_id = 2
    model.generation_config.pad_token_id = 0
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


@torch.no_grad()
def _make_it_say(model: LlavaForConditionalGeneration, prompt_ends: int, said: int, end: int) -> None:
    """Whatever stands before: after the last token of every prompt comes what is said, and then the end."""
    for layer in model.model.language_model.layers:  # what a token is sees nothing of the others
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    model.model.language_model.norm.weight.fill_(1.0)
    embeddings, head = model.model.language_model.embed_tokens.weight, model.lm_head.weight
    head.zero_()
    for axis, (token, follows) in enumerate(((prompt_ends, said), (said, end))):
        embeddings[token] = torch.nn.functional.one_hot(torch.tensor(axis), embeddings.shape[1]).float()
        head[follows] = 50.0 * embeddings[token]
