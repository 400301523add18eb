"""Tiny models of the classes that scorers are made of, with random weights, in folders like their repositories."""

import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPModel,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)


CHARACTERS = [*map(chr, range(32, 127)), "\n"]
QWEN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def save_tokenizer(folder, special, template=None, **names):
    """One token for each character."""
    tokenizer = Tokenizer(models.WordLevel({t: i for i, t in enumerate([*special, *CHARACTERS])}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), behavior="isolated")
    tokenizer.add_special_tokens(special)
    if template is None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", special.index("<s>")), ("</s>", special.index("</s>"))]
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", clean_up_tokenization_spaces=False, **names
    )
    fast.chat_template = template
    fast.save_pretrained(folder)
    return fast


def save_clip(folder):
    special = ["<pad>", "<s>", "</s>", "<unk>"]
    save_tokenizer(folder, special, pad_token="<pad>", bos_token="<s>", eos_token="</s>", model_max_length=20)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    words = {
        "vocab_size": len(special) + len(CHARACTERS),
        "max_position_embeddings": 20,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    torch.manual_seed(0)
    looks = {"image_size": 28, "patch_size": 14}
    clip = CLIPModel(CLIPConfig(text_config=small | words, vision_config=small | looks, projection_dim=12))
    for parameter in clip.parameters():  # far enough from each other that scores differ
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    clip.save_pretrained(folder)
    return clip


def save_aesthetic_head(folder):
    """Layers and dropout as in the published file, narrower."""
    torch.manual_seed(1)
    widths = {0: (12, 10), 2: (10, 8), 4: (8, 6), 6: (6, 4), 7: (4, 1)}
    state = {}
    for number, (wide, narrow) in widths.items():
        state[f"layers.{number}.weight"] = 0.5 * torch.randn(narrow, wide)
        state[f"layers.{number}.bias"] = torch.randn(narrow)
    folder.mkdir()
    torch.save(state, folder / "aesthetic-model.pth")
    return state


def save_hpsv3(base, folder):
    """The base as Qwen publishes it, and the file of the tuned model under the names of an older transformers."""
    special = ["<pad>", "<unk>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|image_pad|>", "<|vision_end|>"]
    tokenizer = save_tokenizer(base, special, QWEN_TEMPLATE, pad_token="<pad>")
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": len(tokenizer) + 9,  # padded, as that of Qwen is
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 8192,
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0},
        },
        vision_config={"depth": 2, "embed_dim": 16, "num_heads": 2, "hidden_size": 32, "mlp_ratio": 2},
        image_token_id=special.index("<|image_pad|>"),
        video_token_id=len(tokenizer) + 5,
        vision_start_token_id=special.index("<|vision_start|>"),
        vision_end_token_id=special.index("<|vision_end|>"),
    )
    config.save_pretrained(base)
    torch.manual_seed(2)
    qwen = Qwen2VLForConditionalGeneration(config)
    qwen.resize_token_embeddings(len(tokenizer) + 1)
    head = torch.nn.Sequential(
        torch.nn.Linear(32, 24),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.05),
        torch.nn.Linear(24, 16),
        torch.nn.ReLU(),
        torch.nn.Linear(16, 2),
    )
    for parameter in [*qwen.parameters(), *head.parameters()]:
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    state = {name.replace("model.language_model.", "model."): value for name, value in qwen.state_dict().items()}
    state = {name.replace("model.visual.", "visual."): value for name, value in state.items()}
    folder.mkdir()
    state |= {f"rm_head.{name}": value for name, value in head.state_dict().items()}
    save_file({name: value.clone().contiguous() for name, value in state.items()}, folder / "HPSv3.safetensors")
    return qwen.eval(), head.eval()
