"""Scores of models: against what transformers' own processors and the published computation give, with and without gradient."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_scorers import save_aesthetic_head, save_clip, save_hpsv3
from transformers import AutoTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from arr_trl.rewards import AestheticScore, CLIPScore, HPSv3, PickScore
from arr_trl.rewards.hpsv3_scorer import files
from arr_trl.rewards.scorer import scaled_pixels


PROMPTS = ["a red cube", "b", "a caption with more characters than the model has places"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scorers")
    clip = save_clip(folder / "clip")
    head = save_aesthetic_head(folder / "head")
    qwen, reward = save_hpsv3(folder / "base", folder / "hpsv3")
    return {"folder": folder, "clip": clip, "head": head, "qwen": qwen, "reward": reward}


@pytest.fixture(scope="module")
def pictures():
    random = np.random.default_rng(0)
    sizes = [(40, 52), (64, 30), (28, 28)]
    small = [random.integers(0, 256, (h // 4, w // 4, 3), dtype=np.uint8) for h, w in sizes]
    return [
        Image.fromarray(s).resize((w, h), Image.Resampling.BICUBIC) for s, (h, w) in zip(small, sizes, strict=True)
    ]


@pytest.fixture(scope="module")
def scorers(models):
    folder = models["folder"]
    clip = str(folder / "clip")
    return {
        "pickscore": PickScore(clip, clip),
        "clipscore": CLIPScore(clip),
        "aesthetic": AestheticScore(clip, str(folder / "head")),
        "hpsv3": HPSv3(str(folder / "hpsv3"), str(folder / "base"), dtype=torch.float32, batch_size=2),
    }


def by_clip(models, pictures):
    """CLIP's own output for each picture and its prompt."""
    tokenizer = AutoTokenizer.from_pretrained(models["folder"] / "clip")
    look = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    outputs = []
    for prompt, picture in zip(PROMPTS, pictures, strict=True):
        words = tokenizer([prompt], truncation=True, max_length=20, return_tensors="pt")
        seen = look(picture, return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            outputs.append(models["clip"].eval()(words["input_ids"], seen, words["attention_mask"]))
    return outputs


def test_pickscore_is_the_logit_and_clipscore_the_cosine_of_clip(models, scorers, pictures):
    logits = [output.logits_per_image.item() for output in by_clip(models, pictures)]
    scale = models["clip"].logit_scale.exp().item()
    assert scorers["pickscore"](PROMPTS, pictures) == pytest.approx(logits, abs=1e-4)
    assert scorers["clipscore"](PROMPTS, pictures) == pytest.approx([logit / scale for logit in logits], abs=1e-5)
    assert max(logits) - min(logits) > 0.1  # of a model that tells pictures apart


def test_aesthetic_score_is_layers_without_activations_on_the_unit_vector(models, scorers, pictures):
    expected = []
    for output in by_clip(models, pictures):
        x = output.image_embeds[0] / output.image_embeds[0].norm()
        for number in (0, 2, 4, 6, 7):
            x = models["head"][f"layers.{number}.weight"] @ x + models["head"][f"layers.{number}.bias"]
        expected.append(x.item())
    assert scorers["aesthetic"](PROMPTS, pictures) == pytest.approx(expected, rel=1e-4)


def by_hpsv3(models, prompt, picture):
    """What the published code computes: its question by hand, the processor's patches, the head on the reward's token."""
    tokenizer = AutoTokenizer.from_pretrained(models["folder"] / "base")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|Reward|>"]})
    pixels = {"shortest_edge": 200_704, "longest_edge": 200_704}
    looked = Qwen2VLImageProcessorPil(size=pixels)(picture, return_tensors="pt")
    asked = (files("arr_trl.rewards") / "vendor/hpsv3/question.jinja2").read_text().replace("{{ prompt }}", prompt)
    tokens = "<|image_pad|>" * (int(looked["image_grid_thw"].prod()) // 4)
    chat = f"<|im_start|>user\n<|vision_start|>{tokens}<|vision_end|>{asked}<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer(chat, return_tensors="pt")["input_ids"]
    is_image = (ids == tokenizer.convert_tokens_to_ids("<|image_pad|>")).int()
    with torch.no_grad():
        hidden = models["qwen"].model(input_ids=ids, mm_token_type_ids=is_image, **looked).last_hidden_state[0]
        at = ids[0].tolist().index(tokenizer.convert_tokens_to_ids("<|Reward|>"))
        return models["reward"](hidden[at])[0].item()


def test_hpsv3_is_the_mean_of_the_head_on_the_reward_token(models, scorers, pictures):
    expected = [by_hpsv3(models, prompt, picture) for prompt, picture in zip(PROMPTS, pictures, strict=True)]
    assert scorers["hpsv3"](PROMPTS, pictures) == pytest.approx(expected, abs=2e-5)
    assert max(expected) - min(expected) > 1e-3


def test_hpsv3_of_a_caption_that_spells_its_tokens_is_one_score(scorers, pictures):
    (score,) = scorers["hpsv3"](["<|Reward|> <|image_pad|>"], pictures[:1])
    assert score is not None


@pytest.mark.parametrize(
    ("name", "near"), [("pickscore", 0.05), ("clipscore", 0.05), ("aesthetic", 0.2), ("hpsv3", 0.01)]
)
def test_pixels_get_the_score_of_their_picture_and_a_gradient_of_it_alone(scorers, pictures, name, near):
    scorer = scorers[name]
    same = [picture.resize((40, 40)) for picture in pictures[:2]]
    pixels = torch.stack([torch.tensor(np.asarray(picture)).permute(2, 0, 1) / 255 for picture in same])
    pixels.requires_grad_()
    scores = scorer(PROMPTS[:2], pixels, extra_column=[1, 2])
    assert scores.tolist() == pytest.approx(scorer(PROMPTS[:2], same), abs=near)
    scores[1].backward()
    assert not pixels.grad[0].any()
    step = pixels.grad[1] / pixels.grad[1].norm()
    with torch.no_grad():
        ahead = scorer(PROMPTS[1:2], (pixels[1:] + 0.01 * step))
    assert ahead.item() > scores[1].item()  # a step along the gradient raises the score


def test_pixels_are_scaled_as_pillow_scales_to_a_grey_level():
    picture = Image.fromarray(np.random.default_rng(1).integers(60, 200, (40, 52, 3), dtype=np.uint8))
    pixels = torch.tensor(np.asarray(picture)).permute(2, 0, 1)[None] / 255
    scaled = torch.tensor(np.asarray(picture.resize((36, 28), Image.Resampling.BICUBIC))).permute(2, 0, 1)[None] / 255
    torch.testing.assert_close(scaled_pixels(pixels, (28, 36)), scaled, atol=1.01 / 255, rtol=0)


def test_weights_of_something_else_are_refused(models, tmp_path):
    folder = models["folder"]
    state = load_file(folder / "hpsv3" / "HPSv3.safetensors")
    lacking = {name: value for name, value in state.items() if "layers.1.mlp.up" not in name}
    save_file(lacking, tmp_path / "lacking.safetensors")
    with pytest.raises(ValueError, match=r"has no weights called language_model\.layers\.1\.mlp\.up"):
        HPSv3(str(tmp_path / "lacking.safetensors"), str(folder / "base")).check()
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"no weights called layers\.0\.weight"):
        AestheticScore(str(folder / "clip"), str(tmp_path / "other.pth")).check()
