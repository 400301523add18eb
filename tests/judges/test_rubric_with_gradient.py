"""A rubric as a reward with a gradient: its value is the judge's, its gradient a finite difference."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_pipelines import QWEN_SPECIAL, qwen_tokenizer
from tiny_vlm import build_vlm
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from arr_trl.chat.local import LocalChatModel
from arr_trl.chat.with_gradient import choice_logprobs, patches_of
from arr_trl.judges import JudgeRow, RubricJudge
from arr_trl.judges.with_gradient import RubricReward
from arr_trl.policies.qwen_image_edit import ImageOnlyProcessor
from arr_trl.rewards.pixels import as_pixels
from arr_trl.rewards.with_gradient import asks_for_base_pixels
from arr_trl.rubrics import Criterion, Rubric


TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
RUBRIC = Rubric(name="r", criteria=[Criterion(text="The picture is bright.")])


@pytest.fixture(scope="module", params=["qwen2.5", pytest.param("qwen3", marks=pytest.mark.slow)])
def model(request):
    tokenizer = qwen_tokenizer()
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in QWEN_SPECIAL}
    text = dict(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=8192,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
        bos_token_id=ids["<|endoftext|>"], eos_token_id=ids["<|endoftext|>"], pad_token_id=ids["<|endoftext|>"],
    )  # fmt: skip
    vision = dict(depth=2, hidden_size=32, intermediate_size=64, num_heads=2, out_hidden_size=32)
    tokens = dict(
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
    )  # fmt: skip
    torch.manual_seed(0)
    if request.param == "qwen2.5":
        side = 14
        config = Qwen2_5_VLConfig(text_config=text, vision_config={**vision, "fullatt_block_indexes": [1]}, **tokens)
        vlm = Qwen2_5_VLForConditionalGeneration(config)
    else:
        side = 16
        vision |= {"deepstack_visual_indexes": [0], "num_position_embeddings": 64}
        vlm = Qwen3VLForConditionalGeneration(Qwen3VLConfig(text_config=text, vision_config=vision, **tokens))
    for parameter in vlm.parameters():  # far enough from uniform that pictures matter
        parameter.data.mul_(3.0)
    with torch.no_grad():  # and that it answers with one of the numbers, whichever way it leans
        vlm.lm_head.weight.zero_()
        row = 0.5 * torch.randn(32)
        vlm.lm_head.weight[tokenizer.encode("1")[0]] = row
        vlm.lm_head.weight[tokenizer.encode("2")[0]] = 0.03 * torch.randn(32) - row
    images = Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=128 * 128, patch_size=side)
    processor = ImageOnlyProcessor(images, tokenizer, chat_template=TEMPLATE)
    return LocalChatModel(vlm, processor)


def pictures(side):
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (side, 2 * side, 3), np.uint8)) for _ in range(2)]


def whole(model):
    """A side of pictures that are not resized."""
    return 4 * model.processor.image_processor.patch_size


@pytest.mark.parametrize("resized", [False, True])
def test_value_is_what_the_judge_says_in_each_order(model, resized):
    images = pictures(50 if resized else whole(model))
    judge = RubricJudge(RUBRIC, model, mode="choice", tie_margin=0.0)
    reward = RubricReward(RUBRIC, model)
    pixels, base = (as_pixels([image], torch.device("cpu")) for image in images)
    expected = []
    for order in ((0, 1), (1, 0)):
        row = JudgeRow("a lamp", tuple(images))
        (reply,) = model.complete([judge.request(row, order)])
        probability = judge.mode.read(reply, order, RUBRIC).probabilities[0]
        expected.append(math.log(probability))
        assert reward._logprob(row, pixels[0], order).item() == pytest.approx(expected[-1], abs=1e-4)
    assert abs(expected[0] - expected[1]) > 1e-3
    assert reward(["a lamp"], pixels, base).item() == pytest.approx(sum(expected) / 2, abs=1e-4)


def test_patches_are_those_of_the_processor(model):
    processor = model.processor.image_processor
    for side, most in ((whole(model), 1e-5), (50, 0.05)):  # its resize rounds to whole grey levels
        (image, _) = pictures(side)
        smooth = image.resize((6, 3)).resize(image.size, Image.Resampling.BICUBIC)
        made = processor([smooth], return_tensors="pt")
        patches = patches_of(as_pixels([smooth], "cpu")[0], made["image_grid_thw"][0, 1:].tolist(), processor)
        torch.testing.assert_close(patches, made["pixel_values"], atol=most, rtol=0)


def test_gradient_is_the_finite_difference_of_the_judge(model):
    reward = RubricReward(RUBRIC, model)
    images = [image.point(lambda v: 20 + v // 2) for image in pictures(whole(model))]
    pixels, base = (as_pixels([image], torch.device("cpu")) for image in images)
    pixels.requires_grad_()
    value = reward(["a lamp"], pixels, base)
    (gradient,) = torch.autograd.grad(value.sum(), pixels)
    # by whole grey levels, which are the judge's pictures, in few places, since the network bends
    few = torch.rand(gradient.shape, generator=torch.Generator().manual_seed(0)) < 0.01
    step = gradient.sign() * few / 255
    with torch.no_grad():
        up, down = (reward(["a lamp"], pixels + sign * step, base).item() for sign in (1, -1))
    assert (up - down) / 2 == pytest.approx((gradient * step).sum().item(), rel=0.02)


def test_only_the_picture_that_is_trained_has_a_gradient_and_sources_have_none(model):
    images = pictures(whole(model))
    pixels = as_pixels(images, "cpu").requires_grad_()
    row = JudgeRow("make it green", (images[0], images[1]), images[1])
    request = RubricReward(RUBRIC.model_copy(update={"task": "image-editing"}), model).judge.request(row, (1, 0))
    logprobs = choice_logprobs(model, request, [None, None, pixels[0]])
    logprobs["1"].backward()
    assert pixels.grad[0].abs().max() > 0
    assert pixels.grad[1].abs().max() == 0
    assert asks_for_base_pixels(RubricReward(RUBRIC, model))


def test_a_mask_is_shown_and_has_no_gradient(model):
    images = pictures(whole(model))
    rubric = RUBRIC.model_copy(update={"task": "image-editing"})
    reward = RubricReward(rubric, model, order="fixed")
    pixels = as_pixels(images, "cpu")
    mask = Image.new("L", images[0].size, 0)
    mask.paste(255, (0, 0, 20, 20))
    values = [
        reward(["a"], pixels[:1], pixels[1:], source_image=[images[1]], **columns).item()
        for columns in ({}, {"mask_image": [mask]})
    ]
    assert values[0] != values[1]
    row = JudgeRow("a", tuple(images), images[1], columns={"mask_image": mask})
    (reply,) = model.complete([reward.judge.request(row, (0, 1))])
    expected = reward.judge.mode.read(reply, (0, 1), rubric).probabilities[0]
    assert values[1] == pytest.approx(math.log(expected), abs=1e-4)


def test_model_with_another_image_processor_is_refused(tmp_path):
    build_vlm(tmp_path)
    with pytest.raises(ValueError, match=r"go through CLIPImageProcessor.*Qwen2.5-VL and Qwen3-VL alone"):
        RubricReward(RUBRIC, str(tmp_path))
