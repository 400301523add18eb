"""A run that leaves the numbers ends there, with what it had, instead of a release of NaN and exit 0."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from tiny_pipelines import build_pipeline
from transformers import TrainerCallback

from arr_trl import RPOConfig, RPOTrainer
from arr_trl.cli.main import main


def brightness(prompts, completions, **columns):
    return [float(np.asarray(image).mean()) for image in completions]


def trainer_for(tmp_path, pipeline=None, callbacks=(), trainer_class=RPOTrainer, **overrides):
    settings = dict(
        output_dir=str(tmp_path / "out"), height=32, width=32, max_sequence_length=12, num_inference_steps=4,
        sde_window_size=1, per_device_train_batch_size=8, gradient_accumulation_steps=1, learning_rate=1e-3, max_steps=4,
        save_steps=100, logging_steps=1, bf16=False, use_cpu=True, report_to=[], disable_tqdm=True,
        adapter_subfolder="ARR-tiny",
    )  # fmt: skip
    return trainer_class(
        model=pipeline or build_pipeline(seed=0),
        reward_funcs=brightness,
        args=RPOConfig(**{**settings, **overrides}),
        train_dataset=Dataset.from_dict({"prompt": ["a red circle", "a blue square", "a cat", "a dog"] * 4}),
        callbacks=list(callbacks),
    )


def adapter_of(checkpoint):
    return load_file(checkpoint / "adapter_model.safetensors")


class BreakAt(TrainerCallback):
    """Does something to the model when a step begins."""

    def __init__(self, step, act):
        self.step, self.act = step, act

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step == self.step:
            self.act(model)


def nan_gradients(model):
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.register_hook(lambda gradient: gradient * torch.nan)


def test_gradient_that_is_no_number_stops_before_the_optimizers_step(tmp_path):
    trainer = trainer_for(tmp_path, callbacks=[BreakAt(2, nan_gradients)])
    with pytest.raises(FloatingPointError, match=r"loss or gradient norm of step 3 are not finite .* Lower"):
        trainer.train()
    # what was trained until then is kept, though no checkpoint was due
    weights = adapter_of(tmp_path / "out" / "checkpoint-2")
    assert all(weight.isfinite().all() for weight in weights.values())
    assert any(weight.abs().sum() > 0 for name, weight in weights.items() if "lora_B" in name)
    for name, parameter in trainer.model.named_parameters():
        if parameter.requires_grad:
            saved = weights[name.replace(".default", "")]
            assert torch.equal(parameter.detach(), saved), "the optimizer has moved the weights"


def test_loss_that_is_no_number_is_told_where_gradients_are_clipped_away(tmp_path):
    # a noise level next to 0: the log-probability divides by it
    trainer = trainer_for(tmp_path, noise_level=1e-25)
    with pytest.raises(FloatingPointError, match="of step 1 are not finite"):
        trainer.train()
    assert not list((tmp_path / "out").glob("checkpoint-*"))  # nothing was trained


def test_loss_that_is_no_number_is_told_though_its_gradient_is_one_and_the_next_loss_too(tmp_path):
    losses = []

    class OddLoss(RPOTrainer):
        def compute_loss(self, *args, **kwargs):
            losses.append(super().compute_loss(*args, **kwargs))
            return losses[-1] + (torch.inf if len(losses) == 1 else 0.0)

    settings = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    trainer = trainer_for(tmp_path, trainer_class=OddLoss, **settings)
    with pytest.raises(FloatingPointError, match="loss or gradient norm of step 1 are not finite"):
        trainer.train()
    assert len(losses) == 2


def test_rate_that_throws_the_weights_away_is_told_when_the_next_candidates_are_drawn(tmp_path):
    trainer = trainer_for(tmp_path, learning_rate=1e30, lr_scheduler_type="constant")
    with pytest.raises(FloatingPointError, match=r"The latents of step 2 are not finite"):
        trainer.train()


def infinite_encoder(pipeline):
    encode = pipeline.encode_prompt

    def encode_prompt(*args, **kwargs):
        embeds, *others = encode(*args, **kwargs)
        return embeds * torch.inf, *others

    pipeline.encode_prompt = encode_prompt
    return pipeline


def nan_autoencoder(pipeline):
    with torch.no_grad():
        pipeline.vae.decoder.conv_out.bias.fill_(torch.nan)
    return pipeline


@pytest.mark.parametrize(("broken", "sentence"), [
    (infinite_encoder, "The latents of step 1 are not finite"),
    (nan_autoencoder, "The pictures that the autoencoder of FluxPipeline makes are not finite"),
])  # fmt: skip
def test_what_breaks_before_the_loss_is_named(tmp_path, broken, sentence):
    with pytest.raises(FloatingPointError, match=sentence):
        trainer_for(tmp_path, broken(build_pipeline(seed=0))).train()


def test_weights_that_are_no_numbers_are_not_released(tmp_path):
    trainer = trainer_for(tmp_path, max_steps=1)
    trainer.train()
    with torch.no_grad():
        next(p for p in trainer.model.parameters() if p.requires_grad).fill_(torch.inf)
    for write in (trainer.save_model, lambda: trainer._save_checkpoint(trainer.model, None)):
        with pytest.raises(FloatingPointError, match="trained weights of step 1 are not finite"):
            write()
    assert not trainer.adapter_folder.exists()


def test_command_ends_with_status_1_one_sentence_and_no_release(tmp_path, capsys):
    status = main([
        "rpo", "--model_name_or_path", "tiny_scenes", "--dataset_name", "tiny_scenes", "--judge_model", "tiny_scenes",
        "--rubric", "examples/rubrics/tiny_scenes.json", "--output_dir", str(tmp_path / "out"), "--max_steps", "3",
        "--height", "32", "--width", "32", "--max_sequence_length", "12", "--num_inference_steps", "4",
        "--sde_window_size", "1", "--per_device_train_batch_size", "8", "--gradient_accumulation_steps", "1",
        "--noise_level", "1e-25", "--use_cpu", "true", "--bf16", "false", "--report_to", "none",
    ])  # fmt: skip
    assert status == 1
    (sentence,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("arr-trl:"))
    assert "are not finite numbers" in sentence
    assert not list((tmp_path / "out").rglob("*.safetensors"))
