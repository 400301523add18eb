"""A pipeline's scheduler is sampled as the pipeline samples it, or refused before any weights are read."""

import inspect
import json
import re

import diffusers
import pytest
import torch
from datasets import Dataset
from diffusers import FlowMatchEulerDiscreteScheduler as Euler
from tiny_pipelines import build_flux, build_sd3, build_z_image

from arr_trl import RPOConfig, RPOTrainer
from arr_trl.policies import load_policy, policy_for


UNIPC = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
OTHERS = {
    "FlowMatchLCMScheduler": {},
    "FlowMatchHeunDiscreteScheduler": {},
    "UniPCMultistepScheduler": UNIPC,
    "DPMSolverMultistepScheduler": UNIPC,
    "DDIMScheduler": {},
}
SWITCHED = {"stochastic_sampling": True, "invert_sigmas": True, "num_train_timesteps": 500}
HONOURED = [
    {"use_karras_sigmas": True},
    {"use_exponential_sigmas": True},
    {"use_beta_sigmas": True},
    {"shift_terminal": 0.1},
    {"use_dynamic_shifting": True, "time_shift_type": "linear"},
    {"use_dynamic_shifting": False, "shift": 6.0},
    {"use_dynamic_shifting": True, "base_shift": 1.0, "max_shift": 2.0},
]
BUILD = {"flux": build_flux, "sd3": build_sd3, "z_image": build_z_image}


def trainer_for(model, tmp_path):
    args = RPOConfig(
        str(tmp_path / "out"),
        height=32,
        width=32,
        sde_window_size=2,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=1,
        use_cpu=True,
        bf16=False,
        report_to=[],
    )
    return RPOTrainer(
        model, lambda prompts, **_: [0.0] * len(prompts), args, Dataset.from_dict({"prompt": ["a"] * 16})
    )


def drawn_with(pipeline, num_steps):
    """The noise levels that the pipeline's own call uses."""
    pipeline(prompt="a circle", height=32, width=48, num_inference_steps=num_steps, output_type="latent")
    return pipeline.scheduler.sigmas


@pytest.mark.parametrize("name", OTHERS)
def test_scheduler_that_is_not_eulers_is_not_trained_as_if_it_were(flux_pipeline, tmp_path, name):
    flux_pipeline.scheduler = getattr(diffusers, name)(**OTHERS[name])
    with pytest.raises(ValueError) as error:
        trainer_for(flux_pipeline, tmp_path)
    assert f"The scheduler of this FluxPipeline is {name}" in str(error.value)
    (line,) = re.findall("`pipe.scheduler = (.*?)`", str(error.value))
    pipe, names = flux_pipeline, vars(diffusers) | {"FlowMatchEulerDiscreteScheduler": Euler}
    pipe.scheduler = eval(line, names, {"pipe": pipe})  # what the sentence says to do
    assert trainer_for(pipe, tmp_path).policy.sigmas(4, 32, 32)[0] == 1


def test_heun_on_sd3_gives_no_adapter_of_nan():
    pipeline = build_sd3()
    pipeline.scheduler = diffusers.FlowMatchHeunDiscreteScheduler(shift=3.0)
    with pytest.raises(ValueError, match="this StableDiffusion3Pipeline is FlowMatchHeunDiscreteScheduler"):
        policy_for(pipeline)


@pytest.mark.parametrize("setting", SWITCHED)
def test_setting_under_which_euler_steps_are_others_is_refused(flux_pipeline, tmp_path, setting):
    flux_pipeline.scheduler = Euler.from_config(flux_pipeline.scheduler.config, **{setting: SWITCHED[setting]})
    with pytest.raises(ValueError) as error:
        trainer_for(flux_pipeline, tmp_path)
    assert f"has {setting}={SWITCHED[setting]}, with which" in str(error.value)
    (line,) = re.findall("`pipe.scheduler = (.*?)`", str(error.value))
    pipe = flux_pipeline
    pipe.scheduler = eval(line, {"FlowMatchEulerDiscreteScheduler": Euler}, {"pipe": pipe})
    trainer_for(pipe, tmp_path)


@pytest.mark.parametrize("place", ["index", "settings", "argument"])
def test_scheduler_of_a_folder_is_refused_before_weights_are_read(saved_flux_pipeline, place):
    for weights in saved_flux_pipeline.rglob("*.safetensors"):
        weights.unlink()
    init_kwargs, found = {}, "is UniPCMultistepScheduler"
    if place == "index":
        path = saved_flux_pipeline / "model_index.json"
        content = json.loads(path.read_text())
        content["scheduler"][1] = "UniPCMultistepScheduler"
        path.write_text(json.dumps(content))
    elif place == "settings":
        path, found = saved_flux_pipeline / "scheduler/scheduler_config.json", "has stochastic_sampling=True"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"stochastic_sampling": True}))
    else:
        init_kwargs = {"scheduler": diffusers.UniPCMultistepScheduler(**UNIPC)}
    with pytest.raises(ValueError, match=f"The scheduler of this FluxPipeline {found}"):
        load_policy(str(saved_flux_pipeline), {"height": 32}, **init_kwargs)


@pytest.mark.parametrize("family", BUILD)
@pytest.mark.parametrize("settings", HONOURED, ids=lambda settings: "+".join(settings))
def test_settings_of_the_scheduler_count_as_in_the_pipeline(family, settings):
    pipeline = BUILD[family]()
    plain = policy_for(pipeline).sigmas(4, 32, 48)
    pipeline.scheduler = Euler.from_config(pipeline.scheduler.config, **settings)
    sigmas = policy_for(pipeline).sigmas(4, 32, 48)
    torch.testing.assert_close(sigmas, drawn_with(pipeline, 4), atol=0, rtol=0)
    assert not torch.equal(sigmas, plain)


@pytest.mark.parametrize("family", BUILD)
def test_shift_set_at_run_time_is_not_dropped(family):
    pipeline = BUILD[family]()
    pipeline.scheduler = Euler.from_config(pipeline.scheduler.config, use_dynamic_shifting=False, shift=1.0)
    plain = policy_for(pipeline).sigmas(4, 32, 48)
    pipeline.scheduler.set_shift(6.0)
    sigmas = policy_for(pipeline).sigmas(4, 32, 48)
    assert torch.equal(sigmas, drawn_with(pipeline, 4))
    assert (sigmas[1:-2] > plain[1:-2] + 0.1).all()


def test_smallest_noise_level_set_at_run_time_is_not_dropped():
    pipeline = build_sd3()  # whose levels are those between the scheduler's largest and smallest
    pipeline.scheduler.sigma_min = 0.25
    sigmas = policy_for(pipeline).sigmas(4, 32, 48)
    assert torch.equal(sigmas, drawn_with(pipeline, 4))
    assert sigmas[-2] > 0.25


def test_steps_of_a_subclass_with_levels_of_its_own_are_trained_at_those_levels(flux_pipeline):
    class Halving(Euler):
        def set_timesteps(self, num_inference_steps=None, device=None, sigmas=None, mu=None, timesteps=None):
            self.sigmas = torch.tensor([2.0**-i for i in range(len(sigmas))] + [0.0])

    class OtherSteps(Euler):
        def step(self, *args, **kwargs):
            return super().step(*args, **kwargs)

    flux_pipeline.scheduler = Halving.from_config(flux_pipeline.scheduler.config)
    assert policy_for(flux_pipeline).sigmas(3, 32, 32).tolist() == [1, 0.5, 0.25, 0]
    flux_pipeline.scheduler = OtherSteps.from_config(flux_pipeline.scheduler.config)
    with pytest.raises(ValueError, match="is OtherSteps"):
        policy_for(flux_pipeline)


@pytest.mark.parametrize("levels", [
    [1.0, 0.5, 0.5, 0.0], [0.0, 0.5, 0.7, 1.0], [1.0, 0.6, 0.3, 0.1], [1.0, 0.5, 0.0], [1.0, float("nan"), 0.5, 0.0],
    [1.0, 0.6, 0.3, 0.1, 0.0],
])  # fmt: skip
def test_levels_that_do_not_fall_to_zero_are_not_sampled(flux_pipeline, levels):
    class Levels(Euler):
        def set_timesteps(self, *args, **kwargs):
            self.sigmas = torch.tensor(levels)

    flux_pipeline.scheduler = Levels.from_config(flux_pipeline.scheduler.config)
    with pytest.raises(
        ValueError, match=r"For 3 steps Levels gives the noise levels .*need 4 that fall strictly to 0"
    ):
        policy_for(flux_pipeline).sigmas(3, 32, 32)


def test_every_setting_of_the_scheduler_is_looked_at():
    """Those of the next version of diffusers have to be honoured or refused too."""
    looked_at = {"shift", *SWITCHED, *(name for settings in HONOURED for name in settings)}
    of_resolution = {"base_image_seq_len", "max_image_seq_len"}  # read by the pipelines; see resolution_shift
    assert set(inspect.signature(Euler).parameters) == looked_at | of_resolution
