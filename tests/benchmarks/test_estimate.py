"""benchmarks/estimate.py: what it counts without memory is what real tensors take, as many at a time as the code has."""

import sys
from argparse import Namespace
from pathlib import Path

import pytest
from diffusers import QwenImageEditPipeline
from oracle import picture
from tiny_pipelines import build_flux, build_qwen_image

from arr_trl import FluxPolicy, QwenImageEditPolicy
from arr_trl.runtime.counted import Count, kernels_of_gpus


sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import estimate


PROMPTS = [{"prompt": f"{i} circles"} for i in range(24)]


def counted(model, policy, encoders, rows=24):
    """Of networks like those of a small pipeline, on the device without memory."""
    args = Namespace(model=model, rows=rows, text_tokens=32, size=64, tflops=1.0, bandwidth=1.0)
    with kernels_of_gpus():
        return estimate.encoding(args, policy, encoders).peak_bytes


def measured(policy, rows):
    """Bytes of the tensors that are alive at once while rows are really encoded."""
    with Count() as real:
        policy.encode(rows, 64, 64)
    return real.peak_bytes


def test_encoding_prompts_is_counted_as_it_is_done():
    pipeline = build_flux()
    real = [measured(FluxPolicy(pipeline, max_sequence_length=32), PROMPTS[:rows]) for rows in (8, 24)]
    for module in (pipeline.transformer, pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2):
        module.to("meta")
    encoders = pipeline.text_encoder, pipeline.text_encoder_2
    found = [counted("flux", FluxPolicy(pipeline, max_sequence_length=32), encoders, rows) for rows in (8, 24)]
    assert found == pytest.approx(real, rel=0.05)


def test_encoding_a_source_is_counted_as_it_is_done():
    pipeline = build_qwen_image(pipeline_class=QwenImageEditPipeline)
    rows = [{"prompt": "Make the circle green", "source_image": picture(224, 224, i)} for i in range(2)]
    policy = QwenImageEditPolicy(pipeline, condition_size=224, negative_prompt=None)
    real = [measured(policy, rows[:1]), measured(policy, rows)]
    for module in (pipeline.transformer, pipeline.vae, pipeline.text_encoder):
        module.to("meta")
    found = counted("qwen-edit", QwenImageEditPolicy(pipeline, condition_size=224), [pipeline.text_encoder])
    assert found == pytest.approx(real[0], rel=0.1)
