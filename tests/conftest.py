"""Tiny real pipelines, built once per worker, with random weights: what is tested is never how well they draw."""

import copy

import pytest

from arr_trl.tiny_scenes import build_pipeline


@pytest.fixture(scope="session")
def _flux_pipeline():
    return build_pipeline(seed=0)


@pytest.fixture
def flux_pipeline(_flux_pipeline):
    """A `FluxPipeline` with random weights that a test may change."""
    return copy.deepcopy(_flux_pipeline)


@pytest.fixture
def saved_flux_pipeline(flux_pipeline, tmp_path):
    """Folder of a saved `FluxPipeline` with random weights."""
    flux_pipeline.save_pretrained(tmp_path / "tiny-flux")
    return tmp_path / "tiny-flux"
