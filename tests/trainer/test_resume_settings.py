import json
import shutil

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import save_file

from arr_trl.runtime.checkpoints import CheckpointError, check_settings
from arr_trl.trainer import RPOConfig
from arr_trl.trainer.resume_settings import fixed_settings, identity_of


def write_base(folder, weight=0.0, shift=3.0, version="0.39"):
    for part in ("transformer", "scheduler"):
        (folder / part).mkdir(parents=True)
    (folder / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    (folder / "scheduler/scheduler_config.json").write_text(
        json.dumps({"shift": shift, "_diffusers_version": version})
    )
    weights = torch.zeros(10_000)
    weights[5_000:6_000] = weight
    save_file({"weight": weights}, folder / "transformer/model.safetensors")
    return folder


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint of a run on `first/flux` that began at `first/adapter.safetensors`."""
    base = write_base(tmp_path / "first/flux")
    shutil.copy(base / "transformer/model.safetensors", tmp_path / "first/adapter.safetensors")
    (tmp_path / "checkpoint-1").mkdir()
    settings = settings_with(tmp_path, base, adapter_path=str(tmp_path / "first/adapter.safetensors"))
    (tmp_path / "checkpoint-1/checkpoint.json").write_text(json.dumps({"settings": settings}))
    return tmp_path / "checkpoint-1"


def settings_with(tmp_path, base, **options):
    args = RPOConfig(output_dir=str(tmp_path / "out"), use_cpu=True, bf16=False, report_to="none", **options)
    return fixed_settings(args, LoraConfig(), identity_of(args, str(base)))


def test_run_goes_on_from_the_same_files_elsewhere(tmp_path, checkpoint):
    shutil.copytree(tmp_path / "first", tmp_path / "moved")
    (tmp_path / "moved/flux/README.md").write_text("a note")
    moved = settings_with(tmp_path, tmp_path / "moved/flux", adapter_path=str(tmp_path / "moved/adapter.safetensors"))
    check_settings(checkpoint, moved)
    # with another version of diffusers
    again = write_base(tmp_path / "again/flux", version="0.40")
    check_settings(
        checkpoint, settings_with(tmp_path, again, adapter_path=str(tmp_path / "first/adapter.safetensors"))
    )


@pytest.mark.parametrize("changed", [{"weight": 1e-3}, {"shift": 1.0}])
def test_another_base_of_the_same_name_is_refused(tmp_path, checkpoint, changed):
    other = write_base(tmp_path / "second/flux", **changed)
    with pytest.raises(CheckpointError, match="content of base_model="):
        check_settings(
            checkpoint, settings_with(tmp_path, other, adapter_path=str(tmp_path / "first/adapter.safetensors"))
        )


def test_another_adapter_file_of_the_same_name_is_refused(tmp_path, checkpoint):
    (tmp_path / "second").mkdir()
    save_file({"weight": torch.ones(10_000)}, tmp_path / "second/adapter.safetensors")
    other = settings_with(tmp_path, tmp_path / "first/flux", adapter_path=str(tmp_path / "second/adapter.safetensors"))
    with pytest.raises(CheckpointError, match="content of adapter_path="):
        check_settings(checkpoint, other)


def test_another_revision_is_refused(tmp_path):
    (tmp_path / "checkpoint-1").mkdir()
    first = settings_with(tmp_path, "user/flux", model_init_kwargs={"revision": "v1"})
    (tmp_path / "checkpoint-1/checkpoint.json").write_text(json.dumps({"settings": first}))
    with pytest.raises(CheckpointError, match=r"revision=v1, and this run has model_init_kwargs.revision=v2"):
        check_settings(
            tmp_path / "checkpoint-1", settings_with(tmp_path, "user/flux", model_init_kwargs={"revision": "v2"})
        )


def test_release_over_the_adapter_that_a_run_started_from_does_not_hinder_it(tmp_path):
    (tmp_path / "out").mkdir()
    adapter, base = tmp_path / "out/adapter.safetensors", write_base(tmp_path / "flux")
    save_file({"weight": torch.zeros(4)}, adapter)
    before = settings_with(tmp_path, base, adapter_path=str(adapter))
    save_file({"weight": torch.ones(4)}, adapter)
    assert settings_with(tmp_path, base, adapter_path=str(adapter)) == before
