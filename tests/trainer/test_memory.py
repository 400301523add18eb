"""A base that is kept in fewer bits, and encoders that visit the device: smaller, and still the model."""

import copy

import pytest
import torch
from datasets import Dataset
from diffusers import QwenImageEditPipeline
from optional import needs_torchao
from safetensors.torch import load_file
from test_editing import trainer_for as edit_trainer
from test_rpo_trainer import adapter, brightness, config, history, trainer_for
from tiny_pipelines import build_qwen_image, build_sd3
from torch.nn.parallel import DistributedDataParallel

from arr_trl import RPOTrainer
from arr_trl.policies import placement


def stored_bytes(tensor):
    if type(tensor.data) is torch.Tensor:
        return tensor.numel() * tensor.element_size()
    names, _ = tensor.data.__tensor_flatten__()  # a quantized tensor is made of plain ones
    return sum(stored_bytes(getattr(tensor.data, name)) for name in names)


def base_bytes(trainer):
    parameters = trainer.policy.pipeline.transformer.named_parameters()
    return sum(stored_bytes(p) for name, p in parameters if "lora_" not in name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("precision", ["fp8", pytest.param("int8", marks=needs_torchao)])
def test_base_in_8_bits_is_smaller_and_its_adapter_trains(flux_pipeline, tmp_path, precision, dtype):
    flux_pipeline.to(dtype)
    whole = trainer_for(copy.deepcopy(flux_pipeline), tmp_path, max_steps=1)
    whole.train()
    trainer = trainer_for(flux_pipeline, tmp_path, base_precision=precision, gradient_checkpointing=True, max_steps=1)
    before = adapter(trainer)
    trainer.train()
    assert base_bytes(trainer) < 0.85 * base_bytes(whole)
    assert all(value.dtype == torch.float32 for value in adapter(trainer).values())
    # the seed of an adapter starts at zero in B, so that A has no gradient yet
    assert all(not torch.equal(before[name], value) for name, value in adapter(trainer).items() if "lora_B" in name)
    assert history(trainer, "policy/ratio_deviation")[0] < 1e-4
    cosine = torch.nn.functional.cosine_similarity(
        *(torch.cat([v.flatten() for n, v in adapter(t).items() if "lora_B" in n]) for t in (whole, trainer)), dim=0
    )
    assert cosine > 0.8  # the same direction as with the whole base
    trainer.save_model()
    assert load_file(trainer.adapter_folder / "pytorch_lora_weights.safetensors")


@pytest.mark.parametrize("precision", ["fp8", pytest.param("int8", marks=needs_torchao)])
def test_ddp_takes_a_base_in_8_bits(flux_pipeline, tmp_path, precision):
    trainer = trainer_for(flux_pipeline, tmp_path, base_precision=precision)
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        DistributedDataParallel(trainer.model)  # which would send the weights of the first process to the others
    finally:
        torch.distributed.destroy_process_group()


def test_offloaded_encoders_change_no_result(flux_pipeline, tmp_path):
    runs = []
    for offload in (False, True):
        trainer = trainer_for(copy.deepcopy(flux_pipeline), tmp_path, offload_encoders=offload)
        trainer.train()
        runs.append(adapter(trainer))
    assert all(torch.equal(runs[0][name], value) for name, value in runs[1].items())


def test_of_a_rollout_encoders_come_once_however_many_chunks_it_is_drawn_in(flux_pipeline, tmp_path, monkeypatch):
    visits = []
    trainer = trainer_for(
        flux_pipeline, tmp_path, offload_encoders=True, rollout_batch_size=1, sde_window_size=1, max_steps=1
    )
    monkeypatch.setattr(placement, "_load", lambda home, device: visits.append(len(home)))
    trainer.train()
    encoders, vae, chunks = visits[0], len(list(flux_pipeline.vae.parameters())), trainer.args.prompts_per_rollout
    assert encoders != vae
    assert chunks > 2
    assert visits == [encoders] + [vae] * chunks


def test_blocks_that_come_one_after_another_change_no_result(flux_pipeline, tmp_path):
    # where they are kept cannot be seen on a CPU: tests/second_device
    runs = []
    for offload in (False, True):
        trainer = trainer_for(
            copy.deepcopy(flux_pipeline), tmp_path, offload_blocks=offload, gradient_checkpointing=True, beta=0.1,
            eval_dataset=Dataset.from_dict({"prompt": ["two squares"]}), save_strategy="steps", save_steps=1,
        )  # fmt: skip
        trainer.train()
        runs.append((adapter(trainer), trainer.evaluation))
    whole, offloaded = runs
    assert all(torch.equal(whole[0][name], value) for name, value in offloaded[0].items())
    assert whole[1] == offloaded[1]

    resumed = trainer_for(
        copy.deepcopy(flux_pipeline), tmp_path, offload_blocks=True, gradient_checkpointing=True, beta=0.1,
        save_strategy="steps", save_steps=1,
    )  # fmt: skip
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-1"))
    assert all(torch.equal(whole[0][name], value) for name, value in adapter(resumed).items())


def kernels_of_attention(monkeypatch):
    """Which of PyTorch's kernels each call of attention may use: whether the flash one is among them."""
    seen, attend = [], torch.nn.functional.scaled_dot_product_attention

    def noted(*args, **kwargs):
        seen.append(torch.backends.cuda.flash_sdp_enabled())
        return attend(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", noted)
    return seen


def test_attention_kernels_are_the_transformers_own_in_rollout_and_training(flux_pipeline, tmp_path, monkeypatch):
    other = copy.deepcopy(flux_pipeline)
    trainer = trainer_for(flux_pipeline, tmp_path, attn_backend="_native_math", max_steps=1)
    policy, (row,) = trainer.policy, [{"prompt": "a red circle"}]
    policy.encode(trainer.train_dataset.to_list(), 32, 32)  # encoders have kernels of their own
    seen = kernels_of_attention(monkeypatch)
    trainer.train()
    assert seen
    assert not any(seen)
    assert history(trainer, "policy/ratio_deviation")[0] < 1e-6
    seen.clear()
    others = type(policy)(other, max_sequence_length=12)
    noise = others.initial_noise(1, 32, 32, torch.Generator())
    others.velocity(other.transformer, noise, torch.ones(1), policy.encode([row], 32, 32), 3.5)
    assert seen
    assert all(seen)


@pytest.mark.parametrize(("backend", "sentence"), [
    ("flash_attention_7", "attn_backend='flash_attention_7' cannot be used here: Backend flash_attention_7 is not"),
    ("sage", "attn_backend='sage' has no backward"),
])  # fmt: skip
def test_attention_that_is_not_there_or_cannot_be_trained_is_told_before_anything_is_loaded(
    tmp_path, backend, sentence
):
    with pytest.raises(ValueError, match=sentence):
        RPOTrainer(
            model="a/model",
            reward_funcs=brightness,
            args=config(tmp_path, attn_backend=backend),
            train_dataset=Dataset.from_dict({"prompt": ["a"] * 8}),
        )


def test_family_that_calls_attention_itself_has_no_attn_backend(tmp_path):
    with pytest.raises(ValueError, match="attn_backend='native' is nothing that SD3Transformer2DModel takes"):
        trainer_for(build_sd3(), tmp_path, attn_backend="native")


@pytest.mark.parametrize(("settings", "masks"), [
    ({}, False),
    ({"offload_blocks": True, "gradient_checkpointing": True}, True),  # whose every forward copies the base
    ({"offload_blocks": True, "gradient_checkpointing": True, "attn_backend": "_native_flash"}, False),
])  # fmt: skip
def test_padding_is_masked_only_where_forwards_are_dear(flux_pipeline, tmp_path, settings, masks):
    assert trainer_for(flux_pipeline, tmp_path, **settings).policy.masks_padding is masks


@pytest.mark.parametrize(("settings", "sentence"), [
    ({"gradient_checkpointing": False}, "needs gradient_checkpointing=True"),
    ({"gradient_checkpointing": True, "compile_blocks": True}, "Leave it out, or offload_blocks"),
    ({"offload_blocks": False, "base_precision": "fp8", "compile_blocks": True}, "Leave it out, or base_precision"),
])  # fmt: skip
def test_what_offloaded_blocks_do_not_go_with_is_told(tmp_path, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        config(tmp_path, **{"offload_blocks": True, **settings})


@needs_torchao
def test_quantized_blocks_are_not_offloaded(flux_pipeline, tmp_path):
    with pytest.raises(ValueError, match="offload_blocks cannot move weights of class"):
        trainer_for(flux_pipeline, tmp_path, offload_blocks=True, base_precision="int8", gradient_checkpointing=True)


def test_editing_trains_with_all_that_a_small_card_needs(tmp_path):
    pipeline = build_qwen_image(pipeline_class=QwenImageEditPipeline)
    trainer = edit_trainer(
        pipeline, tmp_path, base_precision="fp8", offload_encoders=True, offload_blocks=True,
        gradient_checkpointing=True, guidance_scale=4.0, classifier_free_guidance="off",
    )  # fmt: skip
    trainer.train()
    assert history(trainer, "grad_norm")[0] > 0
