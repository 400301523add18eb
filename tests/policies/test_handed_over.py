"""What a pipeline carries when it is handed over is trained as it is, or refused with the call that mends it."""

import re

import pytest
import torch
from datasets import Dataset
from diffusers import FirstBlockCacheConfig
from peft import LoraConfig, get_peft_model

from arr_trl import FluxPolicy, RPOConfig, RPOTrainer
from arr_trl.evaluation import Evaluator


def first_is_best(prompts, completions, num_generations, **columns):
    return [float(i % num_generations == 0) for i in range(len(completions))]


def trainer_for(model, tmp_path):
    args = RPOConfig(
        str(tmp_path / "out"),
        height=32,
        width=32,
        max_sequence_length=12 if not isinstance(model, FluxPolicy) else None,
        num_inference_steps=4,
        sde_window_size=2,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=1,
        max_steps=1,
        learning_rate=1e-2,
        use_cpu=True,
        bf16=False,
        report_to=[],
        save_strategy="no",
        gradient_checkpointing=False,
    )
    return RPOTrainer(model, first_is_best, args, Dataset.from_dict({"prompt": ["a red circle", "two squares"] * 4}))


def latents(pipeline):
    return pipeline(
        "a red circle", height=32, width=32, num_inference_steps=2, max_sequence_length=12,
        generator=torch.Generator().manual_seed(0), output_type="latent",
    ).images  # fmt: skip


def mend(pipe, message, number=0):
    """Run what a message says to call."""
    exec(re.findall(r"`(pipe\..*?)`", message)[number], {"pipe": pipe})


def add_style(module, targets):
    module.add_adapter(LoraConfig(r=2, target_modules=targets, init_lora_weights=False), "style")


def style(pipe):
    add_style(pipe.transformer, ["attn.to_q"])


def fuse(pipe):
    style(pipe)
    pipe.fuse_lora()


@pytest.mark.parametrize("handed_over", ["pipeline", "policy"])
def test_loaded_lora_is_not_sampled_as_the_bare_base(flux_pipeline, tmp_path, handed_over):
    bare = latents(flux_pipeline)
    model = flux_pipeline if handed_over == "pipeline" else FluxPolicy(flux_pipeline, 12)
    style(flux_pipeline)
    assert not torch.equal(latents(flux_pipeline), bare)
    with pytest.raises(ValueError, match="The transformer of this FluxPipeline carries the adapter 'style'") as error:
        trainer_for(model, tmp_path)
    mend(flux_pipeline, str(error.value))
    assert torch.equal(latents(flux_pipeline), bare)
    trainer_for(model, tmp_path)
    assert torch.equal(latents(flux_pipeline), bare)


def test_loaded_lora_that_is_switched_off_is_refused_too(flux_pipeline, tmp_path):
    style(flux_pipeline)
    flux_pipeline.disable_lora()
    with pytest.raises(ValueError, match="carries the adapter 'style'"):
        trainer_for(flux_pipeline, tmp_path)


def test_fused_lora_is_not_taken_out_by_training(flux_pipeline, tmp_path):
    fuse(flux_pipeline)
    fused = latents(flux_pipeline)
    with pytest.raises(ValueError, match="has fused the adapter 'style' and kept its layers") as error:
        trainer_for(flux_pipeline, tmp_path)
    mend(flux_pipeline, str(error.value))
    trainer = trainer_for(flux_pipeline, tmp_path)
    torch.testing.assert_close(latents(flux_pipeline), fused, atol=1e-5, rtol=0)
    trainer.train()
    assert (latents(flux_pipeline) - fused).abs().max() > 0.01
    with trainer.model.disable_adapter():  # what it is compared with
        torch.testing.assert_close(latents(flux_pipeline), fused, atol=1e-5, rtol=0)


def test_second_trainer_on_one_pipeline_does_not_start_from_the_bare_base(flux_pipeline, tmp_path):
    bare = latents(flux_pipeline)
    trainer_for(flux_pipeline, tmp_path).train()
    trained = latents(flux_pipeline)
    with pytest.raises(
        ValueError, match="carries the adapter 'default', from a file or from an earlier trainer"
    ) as error:
        trainer_for(flux_pipeline, tmp_path)
    mend(flux_pipeline, str(error.value), number=1)  # fuse first, to go on from what both give
    mend(flux_pipeline, str(error.value))
    trainer_for(flux_pipeline, tmp_path)
    torch.testing.assert_close(latents(flux_pipeline), trained, atol=1e-4, rtol=0)
    assert (trained - bare).abs().max() > 0.01


def test_evaluation_does_not_take_a_trained_network_for_its_base(flux_pipeline, tmp_path):
    trainer = trainer_for(flux_pipeline, tmp_path)
    with pytest.raises(ValueError, match="carries the adapter 'default'"):
        Evaluator(trainer.policy, [], [{"prompt": "a"}], tmp_path / "evaluation", reward_funcs=[first_is_best])


def test_lora_of_a_text_encoder_is_not_left_out_of_the_release(flux_pipeline, tmp_path):
    add_style(flux_pipeline.text_encoder, ["q_proj"])
    with pytest.raises(ValueError, match="The text_encoder of this FluxPipeline carries the adapter 'style'") as error:
        trainer_for(flux_pipeline, tmp_path)
    mend(flux_pipeline, str(error.value))
    trainer_for(flux_pipeline, tmp_path)


@pytest.mark.parametrize("number", [0, 1])
def test_network_wrapped_by_peft_is_refused(flux_pipeline, tmp_path, number):
    flux_pipeline.transformer = get_peft_model(
        flux_pipeline.transformer, LoraConfig(r=2, target_modules=["attn.to_q"])
    )
    with pytest.raises(ValueError, match="The transformer of this FluxPipeline is a PeftModel") as error:
        trainer_for(flux_pipeline, tmp_path)
    pipe = flux_pipeline
    call = [part for part in re.findall(r"`(.*?)`", str(error.value)) if "unload()" in part][number]
    pipe.transformer = eval(call.split(" = ")[-1], {"pipe": pipe})
    trainer_for(pipe, tmp_path)


def test_compiled_network_does_not_put_its_prefix_into_a_release(flux_pipeline, tmp_path):
    flux_pipeline.transformer = torch.compile(flux_pipeline.transformer, backend="eager")
    with pytest.raises(ValueError, match=r"is wrapped by torch\.compile") as error:
        trainer_for(flux_pipeline, tmp_path)
    mend(flux_pipeline, str(error.value))
    trainer = trainer_for(flux_pipeline, tmp_path)
    assert not any("_orig_mod" in name for name, _ in trainer.model.named_parameters())


def test_adapter_on_fused_projections_does_not_stay_untrained(flux_pipeline, tmp_path):
    flux_pipeline.transformer.fuse_qkv_projections()
    with pytest.raises(ValueError, match="computes with fused projections") as error:
        trainer_for(flux_pipeline, tmp_path)
    mend(flux_pipeline, str(error.value))
    trainer = trainer_for(flux_pipeline, tmp_path)
    trainer.train()
    moved = [bool(p.any()) for name, p in trainer.model.named_parameters() if "to_q.lora_B" in name]
    assert moved
    assert all(moved)


def test_cached_network_is_refused_before_the_first_rollout(flux_pipeline, tmp_path):
    flux_pipeline.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.5))
    with pytest.raises(
        ValueError, match="has a cache, which answers with what it computed at an earlier step"
    ) as error:
        trainer_for(flux_pipeline, tmp_path)
    mend(flux_pipeline, str(error.value))
    trainer_for(flux_pipeline, tmp_path).train()


@pytest.mark.parametrize("compute_dtype", [torch.float32, torch.bfloat16])
def test_layerwise_casting_is_told_to_be_base_precision(flux_pipeline, tmp_path, compute_dtype):
    flux_pipeline.transformer.enable_layerwise_casting(torch.float8_e4m3fn, compute_dtype)
    with pytest.raises(ValueError, match=r"has layerwise casting, .* set base_precision='fp8'"):
        trainer_for(flux_pipeline, tmp_path)


@pytest.mark.parametrize("offload", [
    lambda pipe: pipe.enable_model_cpu_offload(device="cpu"),
    lambda pipe: pipe.enable_sequential_cpu_offload(device="cpu"),
    lambda pipe: pipe.enable_group_offload(torch.device("cpu"), offload_type="leaf_level"),
], ids=["model", "sequential", "group"])  # fmt: skip
def test_offloaded_network_is_told_to_be_offload_blocks(flux_pipeline, tmp_path, offload):
    offload(flux_pipeline)
    with pytest.raises(ValueError, match=r"has hooks that move its weights .* set `offload_blocks=True`"):
        trainer_for(flux_pipeline, tmp_path)
