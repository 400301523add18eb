"""HPSv3: a reward head on Qwen2-VL, with transformers alone."""

from collections.abc import Sequence
from importlib.resources import files

import torch
from jinja2 import Template
from safetensors.torch import load_file
from transformers import AutoConfig, AutoTokenizer, Qwen2VLModel
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from ..chat.local import whole_weights
from .clip_scorers import linear_layers, weights_file
from .scorer import ModelScorer


_REWARD = "<|Reward|>"
_IMAGE = "<|image_pad|>"
_PIXELS = 256 * 28 * 28  # every picture is scaled to about as many, as in training


class HPSv3(ModelScorer):
    """
    HPSv3 ([paper](https://huggingface.co/papers/2508.03789)): how well people would like a picture for a prompt. Qwen2-VL
    7B reads the picture and a question about the prompt, and layers on what it makes of the token `<|Reward|>` give a mean
    and a deviation, of which this is the mean: unbounded, mostly from -5 to 15. Some trainers multiply it by .1; here that is
    a matter of `reward_weights`.

    The question is the one that it was trained with, which is its authors' under the MIT licence.

    Args:
        model (`str`, *optional*, defaults to `"MizzenAI/HPSv3"`):
            Repository on the Hub or folder with `HPSv3.safetensors`, or that file.
        base_model (`str`, *optional*, defaults to `"Qwen/Qwen2-VL-7B-Instruct"`):
            Repository or folder of the configuration and the tokenizer.
        dtype (`torch.dtype`, *optional*, defaults to `torch.bfloat16`):
            Precision of the weights; the reward head is in float32.
        **settings:
            `device`, `batch_size` and `offload` of [`~arr_trl.rewards.scorer.ModelScorer`].
    """

    weights = "MizzenAI/HPSv3"
    licence = "MIT"

    def __init__(
        self,
        model: str = "MizzenAI/HPSv3",
        base_model: str = "Qwen/Qwen2-VL-7B-Instruct",
        *,
        dtype: torch.dtype = torch.bfloat16,
        **settings,
    ):
        super().__init__(dtype=dtype, **settings)
        self.model = model
        self.base_model = base_model
        self.__name__ = "hpsv3"

    def _load(self) -> torch.nn.Module:
        path = weights_file(self.model, "HPSv3.safetensors")
        config = AutoConfig.from_pretrained(self.base_model)
        self._tokenizer = AutoTokenizer.from_pretrained(self.base_model, padding_side="right")
        self._tokenizer.add_special_tokens({"additional_special_tokens": [_REWARD]})
        vision = config.vision_config
        self._patch, self._merge, self._frames = (
            vision.patch_size,
            vision.spatial_merge_size,
            vision.temporal_patch_size,
        )
        state = load_file(path)
        backbone = {ours: state[name] for name in state if (ours := _name_in_backbone(name)) is not None}
        # its embedding ends with the reward's token, and Qwen's is padded to more
        config.text_config.vocab_size = len(backbone["language_model.embed_tokens.weight"])
        with whole_weights():
            qwen, found = Qwen2VLModel.from_pretrained(
                None, config=config, state_dict=backbone, dtype=self.dtype, output_loading_info=True
            )
            first, second, third = linear_layers(state, "rm_head.")
        if found["missing_keys"]:  # transformers would go on with random ones
            raise ValueError(f"{path} has no weights called {min(found['missing_keys'])}; it is not HPSv3's.")
        head = torch.nn.Sequential(first, torch.nn.ReLU(), second, torch.nn.ReLU(), third)
        return torch.nn.ModuleDict({"qwen": qwen, "head": head})

    def _size_of(self, height: int, width: int) -> tuple[int, int]:
        return smart_resize(height, width, self._patch * self._merge, _PIXELS, _PIXELS)

    def _score(self, module: torch.nn.Module, prompts: Sequence[str], pixels: list[torch.Tensor]) -> torch.Tensor:
        patches, grids = zip(*map(self._patches, pixels), strict=True)
        words = self._tokenizer(
            [self._question(prompt, grid) for prompt, grid in zip(prompts, grids, strict=True)],
            padding=True,
            return_tensors="pt",
        ).to(pixels[0].device)
        ids = words["input_ids"]
        hidden = module["qwen"](
            input_ids=ids,
            attention_mask=words["attention_mask"],
            mm_token_type_ids=(ids == self._tokenizer.convert_tokens_to_ids(_IMAGE)).int(),
            pixel_values=torch.cat(patches).to(self.dtype),
            image_grid_thw=torch.tensor(grids, device=ids.device),
            use_cache=False,
        ).last_hidden_state
        of_reward = hidden[ids == self._tokenizer.convert_tokens_to_ids(_REWARD)]
        return module["head"](of_reward.float())[:, 0]

    def _patches(self, pixels: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int, int]]:
        """
        A picture `[3, h, w]` as Qwen2-VL's patches `[L, 3·frames·patch²]`, those that are merged next to each other, and how
        many of them there are in time, height and width. A picture is a film of equal frames.
        """
        mean, std = (torch.tensor(of, device=pixels.device).view(3, 1, 1) for of in _COLOURS)
        p, m, rows, columns = self._patch, self._merge, *(side // self._patch for side in pixels.shape[-2:])
        tiles = ((pixels - mean) / std).view(3, rows // m, m, p, columns // m, m, p)
        tiles = tiles.permute(1, 4, 2, 5, 0, 3, 6).reshape(rows * columns, 3, 1, p, p)
        return tiles.expand(-1, -1, self._frames, -1, -1).flatten(1), (1, rows, columns)

    def _question(self, prompt: str, grid: tuple[int, int, int]) -> str:
        # a caption that spells a token of the model's must not become one
        text = _TEMPLATE.render(prompt=prompt.replace("<|", "< |"))
        content = [{"type": "image"}, {"type": "text", "text": text}]
        chat = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        return chat.replace(_IMAGE, _IMAGE * (grid[1] * grid[2] // self._merge**2))


_COLOURS = (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD)
_TEMPLATE = Template(
    (files("arr_trl.rewards") / "vendor/hpsv3/question.jinja2").read_text(encoding="utf-8"), keep_trailing_newline=True
)


def _name_in_backbone(name: str) -> str | None:
    """Names in the file are those of an older transformers: `model.layers` for what is `language_model.layers` today."""
    if name.startswith(("rm_head.", "lm_head.")):
        return None
    name = name.removeprefix("model.")
    return name if name.startswith(("visual.", "language_model.")) else f"language_model.{name}"
