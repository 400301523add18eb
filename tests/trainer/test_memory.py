"""A base that is kept in fewer bits, and encoders that visit the device: smaller, and still the model."""

import copy

import pytest
import torch
from diffusers import QwenImageEditPipeline
from optional import needs_torchao
from safetensors.torch import load_file
from test_editing import trainer_for as edit_trainer
from test_rpo_trainer import adapter, history, trainer_for
from tiny_pipelines import build_qwen_image


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


def test_offloaded_encoders_change_no_result(flux_pipeline, tmp_path):
    runs = []
    for offload in (False, True):
        trainer = trainer_for(copy.deepcopy(flux_pipeline), tmp_path, offload_encoders=offload)
        trainer.train()
        runs.append(adapter(trainer))
    assert all(torch.equal(runs[0][name], value) for name, value in runs[1].items())


def test_editing_trains_with_all_that_a_small_card_needs(tmp_path):
    pipeline = build_qwen_image(pipeline_class=QwenImageEditPipeline)
    trainer = edit_trainer(
        pipeline, tmp_path, base_precision="fp8", offload_encoders=True, gradient_checkpointing=True, guidance_scale=4.0,
        cfg="off",
    )  # fmt: skip
    trainer.train()
    assert history(trainer, "grad_norm")[0] > 0
