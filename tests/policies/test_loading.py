"""Arguments and files of a pipeline are read before its weights are: what is wrong with them is told in a sentence."""

import inspect
import json
import re
import shutil

import pytest
import torch
from datasets import Dataset
from diffusers import DiffusionPipeline, FluxPipeline
from tiny_pipelines import build_sd3

from arr_trl import RPOConfig, RPOTrainer
from arr_trl.policies import FluxPolicy, loading, policy_for
from arr_trl.tiny_scenes import BASE_MODEL, load_pipeline


def first_is_best(prompts, completions, num_generations, **columns):
    return [float(i % num_generations == 0) for i in range(len(completions))]


def trainer_for(model, tmp_path, init_kwargs=None, **overrides):
    settings = dict(
        output_dir=str(tmp_path / "out"),
        model_init_kwargs=init_kwargs,
        height=32,
        width=32,
        num_inference_steps=4,
        sde_window_size=2,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=1,
        max_steps=1,
        use_cpu=True,
        bf16=False,
        report_to=[],
    )
    return RPOTrainer(
        model, first_is_best, RPOConfig(**settings | overrides), Dataset.from_dict({"prompt": ["a circle"] * 16})
    )


@pytest.fixture
def no_weights(saved_flux_pipeline):
    """A folder from which nothing can be loaded: whoever reads weights ends in an error of another kind."""
    for weights in saved_flux_pipeline.rglob("*.safetensors"):
        weights.unlink()
    return saved_flux_pipeline


def without(folder, *components):
    """As `save_pretrained` writes an index where these are `None`."""
    path = folder / "model_index.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {name: [None, None] for name in components}))


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("init_kwargs", [
    {"dtype": "bfloat16"}, {"dtype": "torch.bfloat16"}, {"torch_dtype": "bfloat16"}, {"torch_dtype": torch.bfloat16},
    {"dtype": {"transformer": "bfloat16"}}, {"dtype": {"default": "torch.bfloat16"}}, '{"dtype": "bfloat16"}',
    {"dtype": "bfloat16", "torch_dtype": torch.bfloat16},
], ids=str)  # fmt: skip
def test_precision_from_yaml_or_json_is_not_float32(tmp_path, init_kwargs, bf16):
    policy = trainer_for(str(BASE_MODEL), tmp_path, init_kwargs, bf16=bf16).policy
    assert policy.dtype == torch.bfloat16
    alone = init_kwargs == {"dtype": {"transformer": "bfloat16"}}
    assert policy.pipeline.vae.dtype == (torch.float32 if alone else torch.bfloat16)


@pytest.mark.parametrize(("bf16", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_precision_that_nobody_gives_is_that_of_training(tmp_path, bf16, dtype):
    assert trainer_for(str(BASE_MODEL), tmp_path, {"dtype": None}, bf16=bf16).policy.dtype == dtype


@pytest.mark.parametrize("init_kwargs", [
    {"dtype": "float16"}, {"torch_dtype": "torch.float16"}, {"dtype": {"transformer": "float16"}},
    {"dtype": {"vae": "float32", "default": torch.float16}},
], ids=str)  # fmt: skip
def test_float16_is_refused_however_it_is_written(no_weights, tmp_path, init_kwargs):
    with pytest.raises(ValueError, match="The transformer is in float16"):
        trainer_for(str(no_weights), tmp_path, init_kwargs)


@pytest.mark.parametrize(("init_kwargs", "message"), [
    ({"dtype": "auto"}, "dtype='auto' is no precision that a pipeline computes in; use bfloat16, float16 or float32."),
    ({"dtype": "bf16"}, "dtype='bf16' is no precision"),
    ({"dtype": 16}, "dtype=16 is no precision"),
    ({"torch_dtype": "int8"}, "dtype='int8' is no precision"),
    ({"dtype": "float8_e4m3fn"}, "`base_precision` keeps the weights in 8 bits."),
    ({"dtype": "bfloat16", "torch_dtype": "float32"},
     "dtype='bfloat16' and torch_dtype='float32' are two names of one thing; leave one out."),
    ({"dtype": {"transfomer": "bfloat16"}}, "`dtype` names 'transfomer', and the components of FluxPipeline are "),
    ({"revison": "main"}, "`revison` is no argument of FluxPipeline.from_pretrained, which would ignore it; did you mean `revision`?"),
    ({"low_cpu_mem_usge": True}, "did you mean `low_cpu_mem_usage`?"),
    ({"text_encoder2": None}, "did you mean `text_encoder_2`?"),
    ({"qqq": 1}, "its components are scheduler, vae, text_encoder"),
    ({"vae": "madebyollin/vae"}, "vae='madebyollin/vae' has to be an object of diffusers or transformers"),
    ({"scheduler": {"shift": 3}}, "load it in Python, and pass it or the pipeline."),
    ({"quantization_config": {"quant_backend": "bitsandbytes_4bit"}}, "load it in Python, or set `base_precision`."),
    ({"text_encoder_2": None}, "This FluxPipeline has no text_encoder_2, and without it no prompt can be drawn"),
])  # fmt: skip
def test_wrong_argument_is_told_before_weights_are_read(no_weights, tmp_path, init_kwargs, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        trainer_for(str(no_weights), tmp_path, init_kwargs)


def test_arguments_that_from_pretrained_takes_are_those_of_the_installed_diffusers():
    taken = re.findall(r'kwargs\.pop\("(\w+)"', inspect.getsource(DiffusionPipeline.from_pretrained.__func__))
    assert sorted(set(taken)) == sorted(loading.FROM_PRETRAINED)


def test_argument_that_is_right_reaches_from_pretrained(saved_flux_pipeline, tmp_path):
    vae = load_pipeline().vae
    trainer = trainer_for(str(saved_flux_pipeline), tmp_path, {"vae": vae, "use_safetensors": True})
    assert trainer.policy.pipeline.vae is vae


@pytest.mark.parametrize(
    "components", [("text_encoder_2",), ("text_encoder_2", "tokenizer_2"), ("vae",), ("scheduler",)]
)
def test_component_that_is_none_is_told_before_weights_are_read(no_weights, tmp_path, components):
    without(no_weights, *components)
    message = f"This FluxPipeline has no {', '.join(components)}, and without it no prompt can be drawn"
    with pytest.raises(ValueError, match=message):
        trainer_for(str(no_weights), tmp_path)


def test_component_that_the_index_does_not_name_is_told(no_weights, tmp_path):
    path = no_weights / "model_index.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "text_encoder"}))
    with pytest.raises(ValueError, match="This FluxPipeline has no text_encoder, and"):
        trainer_for(str(no_weights), tmp_path)


def test_pipeline_without_an_encoder_is_told_before_the_first_rollout(tmp_path):
    pipeline = FluxPipeline.from_pretrained(BASE_MODEL, text_encoder_2=None)
    with pytest.raises(ValueError, match="This FluxPipeline has no text_encoder_2, and"):
        trainer_for(pipeline, tmp_path)
    with pytest.raises(ValueError, match="This FluxPipeline has no text_encoder_2, and"):
        FluxPolicy(pipeline)


def test_sd3_saved_without_t5_is_loaded_without_it(tmp_path):
    pipeline = build_sd3()
    pipeline.text_encoder_3 = pipeline.tokenizer_3 = None
    pipeline.save_pretrained(tmp_path / "sd3")
    without(tmp_path / "sd3", "text_encoder_3", "tokenizer_3")
    policy = trainer_for(str(tmp_path / "sd3"), tmp_path, max_sequence_length=48).policy
    assert policy.pipeline.text_encoder_3 is None
    ours, theirs = (p.encode([{"prompt": "a circle"}], 32, 32)["prompt_embeds"] for p in (policy, policy_for(pipeline, max_sequence_length=48)))  # fmt: skip
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", ["flux1-dev.safetensors", "flux1-dev.gguf", "flux/model_index.json"])
def test_single_file_is_told_how_to_be_loaded(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"{}")
    with pytest.raises(
        ValueError, match=r"is a single file, and a model is a folder .* with the `from_single_file` of"
    ):
        trainer_for(str(path), tmp_path)


@pytest.mark.parametrize("name", ["user/flux/flux1-dev.safetensors", "https://hub/user/flux/flux1-dev.safetensors"])
def test_single_file_that_is_elsewhere_is_told_too(tmp_path, name):
    with pytest.raises(ValueError, match="is a single file"):
        trainer_for(name, tmp_path)


@pytest.mark.parametrize("handed_over", ["folder", "pipeline"])
def test_snapshot_of_the_cache_is_released_under_the_name_of_its_repository(
    saved_flux_pipeline, tmp_path, handed_over
):
    snapshot = tmp_path / "hub" / "models--user--tiny-flux" / "snapshots" / "0123456789abcdef"
    snapshot.parent.mkdir(parents=True)
    shutil.move(saved_flux_pipeline, snapshot)
    link = tmp_path / "link"
    link.symlink_to(snapshot)
    model = str(link) if handed_over == "folder" else FluxPipeline.from_pretrained(snapshot)
    trainer = trainer_for(model, tmp_path)
    assert trainer.base_model == "user/tiny-flux"
    trainer.save_model()
    trainer.create_model_card()
    folder = tmp_path / "out" / "ARR-tiny-flux"
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "user/tiny-flux"
    card = (tmp_path / "out" / "README.md").read_text()
    assert "base_model:\n- user/tiny-flux\n" in card
    assert "0123456789abcdef" not in card


def test_snapshot_of_a_distilled_model_is_known_as_one(saved_flux_pipeline, tmp_path):
    snapshot = tmp_path / "models--user--flux-turbo" / "snapshots" / "0123456789abcdef"
    snapshot.parent.mkdir(parents=True)
    shutil.move(saved_flux_pipeline, snapshot)
    assert FluxPolicy(FluxPipeline.from_pretrained(snapshot)).distilled


@pytest.mark.parametrize("path", ["models--user--flux", "runs/snapshots/step-1", "runs--a/snapshots/x"])
def test_other_folder_keeps_its_name(saved_flux_pipeline, tmp_path, path):
    folder = tmp_path / path
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(saved_flux_pipeline, folder)
    assert trainer_for(str(folder), tmp_path).base_model == str(folder)
