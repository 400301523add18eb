"""Encoders that live in the host's memory, and how often they are copied to the device."""

import pytest
import torch
from diffusers import QwenImageEditPipeline, QwenImageEditPlusPipeline
from oracle import picture
from tiny_pipelines import build_flux, build_flux_kontext, build_qwen_image

from arr_trl.policies import placement, policy_for


PROMPTS = ("a red circle", "two blue squares", "one", "a star")
FAMILIES = {
    "flux": build_flux,
    "kontext": build_flux_kontext,
    "qwen": build_qwen_image,
    "qwen edit": lambda: build_qwen_image(pipeline_class=QwenImageEditPipeline),
    "qwen edit plus": lambda: build_qwen_image(pipeline_class=QwenImageEditPlusPipeline),
}


@pytest.fixture
def loaded(monkeypatch):
    """Bytes of each copy to the device."""
    copies, load = [], placement._load
    monkeypatch.setattr(
        placement,
        "_load",
        lambda home, device: copies.append(sum(d.nbytes for d in home.values())) or load(home, device),
    )
    return copies


def size_of(*modules):
    return sum(t.nbytes for module in modules for t in (*module.parameters(), *module.buffers()))


def encoders_of(policy):
    names = [name for name in policy._left if name != "vae" or policy.editing]
    return [policy.pipeline.components[name] for name in names]


@pytest.mark.parametrize("family", FAMILIES)
def test_encoders_come_once_for_all_rows_that_are_new_and_for_what_guidance_leads_away_from(family, loaded):
    kwargs = {"condition_size": 64} if family not in ("flux", "qwen") else {}
    policy = policy_for(FAMILIES[family](), **kwargs).to("cpu", offload_encoders=True)
    rows = [{"prompt": prompt, "source_image": picture(64, 64, i)} for i, prompt in enumerate(PROMPTS)]
    policy.encode(rows, 64, 64)
    assert loaded == [size_of(*encoders_of(policy))]
    policy.encode(rows[:2], 64, 64)  # which are known
    assert len(loaded) == 1


def test_where_there_is_no_room_for_encoders_each_layer_comes_for_its_forward(flux_pipeline, loaded, monkeypatch):
    policy = policy_for(flux_pipeline, max_sequence_length=12)
    rows = [{"prompt": prompt} for prompt in PROMPTS]
    expected = policy.encode(rows, 32, 32)
    latents = policy.initial_noise(1, 32, 32, torch.Generator().manual_seed(0))
    drawn = policy.decode(latents, 32, 32)[0].tobytes()
    monkeypatch.setattr(placement, "_has_room", lambda size, device: False)
    policy.to("cpu", offload_encoders=True)
    found = policy.encode(rows, 32, 32)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert policy.decode(latents, 32, 32)[0].tobytes() == drawn
    assert len(loaded) > 20
    assert max(loaded) < size_of(*encoders_of(policy)) / 2
