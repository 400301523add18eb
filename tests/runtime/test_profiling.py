"""A profiled run leaves a trace and a table whose shares add up."""

import copy
import gzip
import json
import re

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig

from arr_trl import RPOConfig, RPOTrainer


def first_wins(prompts, completions, **columns):
    return [float(i % 2 == 0) for i in range(len(completions))]


def build(pipeline, tmp_path, **overrides):
    args = RPOConfig(
        output_dir=str(tmp_path / "out"), height=32, width=32, max_sequence_length=12, num_inference_steps=2,
        per_device_train_batch_size=4, gradient_accumulation_steps=1, use_cpu=True, report_to=[],
        save_strategy="no", disable_tqdm=True, **{"max_steps": 3, "bf16": False, "gradient_checkpointing": False, **overrides},
    )  # fmt: skip
    prompts = Dataset.from_dict({"prompt": [f"a red circle {i}" for i in range(8)]})
    return RPOTrainer(
        pipeline,
        first_wins,
        args,
        prompts,
        eval_dataset=None if args.eval_strategy == "no" else prompts,
        peft_config=LoraConfig(r=2, lora_alpha=4),
    )


def test_profile_leaves_a_trace_and_shares_that_add_up(flux_pipeline, tmp_path):
    build(flux_pipeline, tmp_path, profile=True).train()
    table = (tmp_path / "out" / "profile" / "shares.md").read_text()
    shares = dict(re.findall(r"^\| (\S+) \| [\d.]+ \| (\d+)% \|$", table, re.MULTILINE))
    assert shares.keys() == {"rollout/sample", "rollout/decode", "rollout/reward", "training"}
    assert 97 <= sum(map(int, shares.values())) <= 103
    trace = json.loads(gzip.decompress((tmp_path / "out" / "profile" / "trace.json.gz").read_bytes()))
    assert sum(event.get("name") == "rollout/sample" for event in trace["traceEvents"]) == 2


def test_run_of_one_step_is_profiled(flux_pipeline, tmp_path):
    build(flux_pipeline, tmp_path, profile=True, max_steps=1).train()
    assert (tmp_path / "out" / "profile" / "shares.md").is_file()


@pytest.mark.parametrize("asked", [False, True])
def test_blocks_are_compiled_only_when_asked(flux_pipeline, tmp_path, asked):
    build(flux_pipeline, tmp_path, compile_blocks=asked)
    blocks = [*flux_pipeline.transformer.transformer_blocks, *flux_pipeline.transformer.single_transformer_blocks]
    assert all((block._compiled_call_impl is not None) == asked for block in blocks)


@pytest.mark.slow
def test_compiled_blocks_change_no_result(flux_pipeline, tmp_path):
    adapters = []
    for compiled in (False, True):
        trainer = build(copy.deepcopy(flux_pipeline), tmp_path, compile_blocks=compiled)
        trainer.train()
        adapters.append({name: p.detach() for name, p in trainer.model.named_parameters() if "lora_" in name})
    for name, expected in adapters[0].items():
        torch.testing.assert_close(adapters[1][name], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_every_shape_of_a_run_with_evaluations_is_compiled(flux_pipeline, tmp_path):
    trainer = build(
        flux_pipeline.to(torch.bfloat16), tmp_path, bf16=True, compile_blocks=True, gradient_checkpointing=True,
        eval_strategy="steps", eval_steps=1, eval_num_inference_steps=2, per_device_eval_batch_size=3, eval_height=48,
    )  # fmt: skip
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        trainer.train()
