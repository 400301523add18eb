"""Scorers on CLIP: PickScore, CLIPScore and the aesthetic predictor of LAION, with transformers alone."""

from collections.abc import Sequence
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from transformers import AutoTokenizer, CLIPModel
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from ..chat.local import whole_weights
from .scorer import ModelScorer


class _CLIPScorer(ModelScorer):
    """
    Args:
        model (`str`): a CLIP model, by its repository on the Hub or as a folder.
        **settings: see [`~arr_trl.rewards.scorer.ModelScorer`].
    """

    def __init__(self, model: str, **settings):
        super().__init__(**settings)
        self.model = model
        self._side: int | None = None

    def _load(self) -> torch.nn.Module:
        with whole_weights():
            clip = CLIPModel.from_pretrained(self.model, dtype=self.dtype)
        self._side = clip.config.vision_config.image_size
        return clip

    def _size_of(self, height: int, width: int) -> tuple[int, int]:
        # the shorter side becomes that of the model, the longer one is cut off as in transformers' image processor
        short = min(height, width)
        return int(height * self._side / short), int(width * self._side / short)

    def _seen(self, pixels: list[torch.Tensor]) -> torch.Tensor:
        """What the model looks at, `[B, 3, side, side]`: the middle of each picture, in its colours."""
        side, seen = self._side, []
        for picture in pixels:
            top, left = (picture.shape[-2] - side) // 2, (picture.shape[-1] - side) // 2
            seen.append(picture[:, top : top + side, left : left + side])
        mean, std = (torch.tensor(of, device=seen[0].device).view(3, 1, 1) for of in _COLOURS)
        return ((torch.stack(seen) - mean) / std).to(self.dtype)


_COLOURS = (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD)


class _PromptScorer(_CLIPScorer):
    """The cosine of picture and prompt in CLIP's space, on some scale."""

    def __init__(self, model: str, tokenizer: str, **settings):
        super().__init__(model, **settings)
        self.tokenizer = tokenizer

    def _load(self) -> torch.nn.Module:
        self._tokenize = AutoTokenizer.from_pretrained(self.tokenizer)
        return super()._load()

    def _score(self, module: CLIPModel, prompts: Sequence[str], pixels: list[torch.Tensor]) -> torch.Tensor:
        length = module.config.text_config.max_position_embeddings
        words = self._tokenize(list(prompts), padding=True, truncation=True, max_length=length, return_tensors="pt")
        seen = self._seen(pixels)
        # not `get_image_features`, whose result is a tensor or an output with several by the version of transformers
        found = module(pixel_values=seen, **{name: words[name].to(seen.device) for name in _WORDS})
        cosines = torch.nn.functional.cosine_similarity(found.image_embeds.float(), found.text_embeds.float())
        return self._scaled(module, cosines)

    def _scaled(self, module: CLIPModel, cosines: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


_WORDS = ("input_ids", "attention_mask")


class PickScore(_PromptScorer):
    """
    PickScore ([paper](https://huggingface.co/papers/2305.01569)): how well people would like a picture for a prompt. CLIP
    ViT-H/14, tuned on choices of users: the cosine times the model's own scale of about 100, and so about 16 to 26. Some
    trainers divide it by 26; here that is a matter of `reward_weights`.

    Args:
        model (`str`, *optional*, defaults to `"yuvalkirstain/PickScore_v1"`):
            Repository on the Hub, or folder.
        tokenizer (`str`, *optional*, defaults to `"laion/CLIP-ViT-H-14-laion2B-s32B-b79K"`):
            Repository or folder of the tokenizer, of which the first 77 tokens of a prompt are read.
        **settings:
            `device`, `dtype`, `batch_size` and `offload` of [`~arr_trl.rewards.scorer.ModelScorer`].

    Example:
    ```python
    >>> score = PickScore(device="cuda")
    >>> score(["a red cube"], [image])
    [21.3]
    ```
    """

    weights = "yuvalkirstain/PickScore_v1"

    def __init__(
        self,
        model: str = "yuvalkirstain/PickScore_v1",
        tokenizer: str = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        **settings,
    ):
        super().__init__(model, tokenizer, **settings)
        self.__name__ = "pickscore"

    def _scaled(self, module: CLIPModel, cosines: torch.Tensor) -> torch.Tensor:
        return module.logit_scale.float().exp() * cosines


class CLIPScore(_PromptScorer):
    """
    The cosine of picture and prompt in the space of CLIP ViT-L/14 ([paper](https://huggingface.co/papers/2104.08718)),
    about .1 to .35. The scales in use differ: a hundredth of the logit is the cosine, and so is this; others take a
    thirtieth. Weights that were tuned for one are wrong for another.

    Args:
        model (`str`, *optional*, defaults to `"openai/clip-vit-large-patch14"`):
            Repository on the Hub, or folder.
        **settings:
            `device`, `dtype`, `batch_size` and `offload` of [`~arr_trl.rewards.scorer.ModelScorer`].
    """

    weights = "openai/clip-vit-large-patch14"

    def __init__(self, model: str = "openai/clip-vit-large-patch14", **settings):
        super().__init__(model, model, **settings)
        self.__name__ = "clipscore"

    def _scaled(self, module: CLIPModel, cosines: torch.Tensor) -> torch.Tensor:
        return cosines


class AestheticScore(_CLIPScorer):
    """
    The aesthetic predictor of LAION: what people would give a picture from 1 to 10, whatever was asked for. Layers without
    activations on the picture's unit vector in the space of CLIP ViT-L/14. It does not see the prompt, so what is trained
    on it alone forgets the prompt.

    Args:
        model (`str`, *optional*, defaults to `"openai/clip-vit-large-patch14"`):
            Repository on the Hub of the CLIP model, or folder.
        head (`str`, *optional*, defaults to `"trl-lib/ddpo-aesthetic-predictor"`):
            Repository or folder with `aesthetic-model.pth`, the weights of the layers, or that file.
        **settings:
            `device`, `dtype`, `batch_size` and `offload` of [`~arr_trl.rewards.scorer.ModelScorer`].
    """

    weights = "trl-lib/ddpo-aesthetic-predictor"

    def __init__(
        self,
        model: str = "openai/clip-vit-large-patch14",
        head: str = "trl-lib/ddpo-aesthetic-predictor",
        **settings,
    ):
        super().__init__(model, **settings)
        self.head = head
        self.__name__ = "aesthetic"

    def _load(self) -> torch.nn.Module:
        path = weights_file(self.head, "aesthetic-model.pth")
        with whole_weights():
            layers = linear_layers(torch.load(path, map_location="cpu", weights_only=True), "layers.")
        # the text half of CLIP is not needed
        clip = super()._load()
        return torch.nn.ModuleDict(
            {"vision": clip.vision_model, "projection": clip.visual_projection, "layers": torch.nn.Sequential(*layers)}
        )

    def _score(self, module: torch.nn.Module, prompts: Sequence[str], pixels: list[torch.Tensor]) -> torch.Tensor:
        embeds = module["projection"](module["vision"](pixel_values=self._seen(pixels)).pooler_output)
        return module["layers"](torch.nn.functional.normalize(embeds.float(), dim=-1)).squeeze(-1)


def weights_file(where: str, name: str) -> str:
    """A file of a repository on the Hub, or of a folder; or `where` itself if it is a file."""
    if Path(where).is_file():
        return where
    return str(Path(where) / name) if Path(where).is_dir() else hf_hub_download(where, name)


def linear_layers(state: dict[str, torch.Tensor], prefix: str) -> list[torch.nn.Linear]:
    """
    The linear layers of a `Sequential` in float32, from its weights alone; whatever has none, dropout and activations, is
    not among them.

    Raises:
        `ValueError`: when there are none.
    """
    numbers = sorted({int(name.removeprefix(prefix).split(".")[0]) for name in state if name.startswith(prefix)})
    if not numbers:
        raise ValueError(f"There are no weights called {prefix}0.weight and so on; the file is of another model.")
    layers = []
    for number in numbers:
        weight, bias = state[f"{prefix}{number}.weight"], state[f"{prefix}{number}.bias"]
        layer = torch.nn.Linear(weight.shape[1], weight.shape[0])
        layer.load_state_dict({"weight": weight.float(), "bias": bias.float()})
        layers.append(layer)
    return layers
