"""Going on from an adapter: where training begins, what the penalty holds on to, and what is released."""

import copy

import pytest
import torch
from datasets import Dataset
from diffusers import FluxPipeline
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from test_rpo_trainer import PROMPTS, alternating, config, history

from arr_trl import RPOTrainer
from arr_trl.release import save_adapter
from arr_trl.trainer import CheckpointError


@pytest.fixture
def start(flux_pipeline, tmp_path):
    """Folder of an adapter that is some way from its base."""
    model = get_peft_model(
        copy.deepcopy(flux_pipeline.transformer),
        LoraConfig(r=2, lora_alpha=4, target_modules=["attn.to_q", "ff.net.2"]),
    )
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    save_adapter(model, tmp_path / "start", FluxPipeline)
    return tmp_path / "start"


def trainer_for(pipeline, tmp_path, start, name="adapter_model.safetensors", reward=alternating, **overrides):
    return RPOTrainer(
        model=copy.deepcopy(pipeline),
        reward_funcs=reward,
        args=config(tmp_path, adapter_path=str(start / name), beta=0.1, adapter_subfolder="ARR-two", **overrides),
        train_dataset=Dataset.from_dict({"prompt": PROMPTS}),
    )


def weights(folder):
    return load_file(folder / "adapter_model.safetensors")


def released(trainer):
    trainer.save_model()
    return weights(trainer.adapter_folder)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "pytorch_lora_weights.safetensors", ""])
def test_training_begins_at_the_adapter(flux_pipeline, tmp_path, start, name):
    found = released(trainer_for(flux_pipeline, tmp_path, start, name))
    assert found.keys() == weights(start).keys()
    scale = 2 if name.startswith("pytorch_lora") else 1  # in the weights there, which have alpha = r
    for key, value in weights(start).items():
        assert torch.equal(found[key], scale * value if ".lora_B." in key else value)


def test_penalty_holds_on_to_what_was_chosen(flux_pipeline, tmp_path, start):
    runs = {}
    for reference in ("base", "adapter"):
        trainer = trainer_for(flux_pipeline, tmp_path, start, reference=reference, max_steps=3)
        trainer.train()
        runs[reference] = history(trainer, "policy/kl")
    assert runs["base"][0] > 0
    assert runs["adapter"][0] == 0.0
    assert all(value > 0 for value in runs["adapter"][1:])


def test_reference_adapter_stays_and_only_the_trained_one_moves(flux_pipeline, tmp_path, start):
    trainer = trainer_for(flux_pipeline, tmp_path, start, reference="adapter", gradient_checkpointing=True)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    for name, after in trainer.model.named_parameters():
        assert torch.equal(before[name], after) == (".default." not in name), name
        assert after.requires_grad == (".default." in name), name


def test_released_adapter_is_complete_and_alone(flux_pipeline, tmp_path, start):
    trainer = trainer_for(flux_pipeline, tmp_path, start, reference="adapter", eval_steps=1)
    trainer.train()
    found = released(trainer)
    assert found.keys() == weights(start).keys()
    stock = copy.deepcopy(flux_pipeline)
    stock.load_lora_weights(str(tmp_path / "out"), subfolder="ARR-two", weight_name="pytorch_lora_weights.safetensors")

    def picture(pipeline):
        return pipeline(
            PROMPTS[0], height=32, width=32, num_inference_steps=2, max_sequence_length=12, output_type="latent",
            generator=torch.Generator().manual_seed(0),
        ).images  # fmt: skip

    torch.testing.assert_close(picture(stock), picture(trainer.policy.pipeline), atol=1e-5, rtol=0)


@pytest.mark.parametrize("reference", ["base", "adapter"])
def test_resumed_run_equals_the_uninterrupted_one(flux_pipeline, tmp_path, start, reference):
    settings = dict(reference=reference, max_steps=4, save_strategy="steps", save_steps=2)
    whole = trainer_for(flux_pipeline, tmp_path, start, **settings)
    whole.train()
    resumed = trainer_for(flux_pipeline, tmp_path, start, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))
    parameters = dict(resumed.model.named_parameters())
    assert all(torch.equal(parameters[name], p) for name, p in whole.model.named_parameters())
    assert history(whole, "policy/kl")[-1] == history(resumed, "policy/kl")[-1]


def test_checkpoint_of_a_run_that_began_at_another_adapter_is_refused(flux_pipeline, tmp_path, start):
    trainer_for(flux_pipeline, tmp_path, start, "", max_steps=1, save_strategy="steps", save_steps=1).train()
    other = start.rename(tmp_path / "other")
    with pytest.raises(CheckpointError, match="with adapter_path=start, and this run has adapter_path=other"):
        trainer_for(flux_pipeline, tmp_path, other, "", resume_from_checkpoint="true")


def test_evaluation_compares_with_the_base(flux_pipeline, tmp_path, start):
    compared = []

    def remember(completions, **columns):
        compared.append(completions)
        return alternating(completions=completions, **columns)

    for reference in ("adapter", "base"):
        trainer = trainer_for(flux_pipeline, tmp_path, start, reward=remember, reference=reference)
        trainer.evaluate(Dataset.from_dict({"prompt": PROMPTS[:1]}))
    (base, trained), (base_alone, _) = compared
    assert base == base_alone
    assert base != trained


def test_contradictions_are_refused(flux_pipeline, tmp_path, start):
    with pytest.raises(ValueError, match="reference='adapter' needs `adapter_path`"):
        config(tmp_path, reference="adapter")
    with pytest.raises(ValueError, match="leave `peft_config` out"):
        RPOTrainer(
            model=flux_pipeline,
            reward_funcs=alternating,
            args=config(tmp_path, adapter_path=str(start)),
            train_dataset=Dataset.from_dict({"prompt": PROMPTS}),
            peft_config=LoraConfig(r=2),
        )
