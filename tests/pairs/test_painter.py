"""Pictures that are drawn once: the same bytes after a stop, others where anything differs that they follow from."""

import pytest
from PIL import Image
from tiny_newer_pipelines import build_flux_fill
from tiny_pipelines import build_flux

from arr_trl.evaluation.pictures import InferenceSettings
from arr_trl.pairs.painter import Painter, Wanted, edited, opened, seed_of
from arr_trl.policies import FluxPolicy, policy_for


SETTINGS = InferenceSettings(32, 32, num_inference_steps=2)
WANTED = [Wanted(f"a red circle {i}", None, i) for i in range(6)]


@pytest.fixture(scope="module")
def policy(_flux_pipeline):
    return FluxPolicy(_flux_pipeline, max_sequence_length=12)


def painter(folder, policy, settings=SETTINGS, batch_size=4):
    return Painter(policy, folder, settings, batch_size=batch_size, device="cpu")


def test_stopped_within_a_batch_it_ends_with_the_same_files(policy, tmp_path):
    whole = painter(tmp_path / "whole", policy).draw(WANTED)
    told = []
    stopped = painter(tmp_path / "stopped", policy)
    paths = stopped.draw(WANTED, told.append)
    paths[1].unlink()
    paths[5].unlink()
    kept = paths[0].stat().st_mtime_ns
    assert stopped.draw(WANTED) == paths
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in whole]
    assert paths[0].stat().st_mtime_ns == kept
    assert told == [4, 2]


def test_what_is_there_is_not_drawn(policy, tmp_path, monkeypatch):
    one = painter(tmp_path, policy)
    one.draw(WANTED[:2])
    monkeypatch.setattr("arr_trl.pairs.painter.draw", lambda *args: pytest.fail("It was drawn again."))
    assert len({opened(path).tobytes() for path in one.draw(WANTED[:2][::-1])}) == 2


def test_a_picture_has_another_name_where_anything_differs_that_it_follows_from(policy, tmp_path):
    one = painter(tmp_path, policy)
    source = Image.new("RGB", (32, 32))
    names = {
        one.path(WANTED[0]),
        one.path(Wanted("a red circle 0", None, 1)),
        one.path(Wanted("a red circle 00", None, 0)),
        one.path(Wanted("a red circle 0", source, 0)),
        one.path(Wanted("a red circle 0", [source, source], 0)),
        painter(tmp_path, policy, InferenceSettings(32, 32, num_inference_steps=3)).path(WANTED[0]),
        painter(tmp_path, policy, InferenceSettings(32, 32, 2, guidance_scale=1.0)).path(WANTED[0]),
    }
    assert len(names) == 7
    # how many pictures of a prompt an evaluation draws says nothing of one of them
    other = painter(tmp_path, policy, InferenceSettings(32, 32, 2, num_images_per_prompt=5, seed=7))
    assert other.path(WANTED[0]) == one.path(WANTED[0])


def test_seeds_follow_from_the_content_alone():
    assert seed_of(0, 1, "a", None) == seed_of(0, 1, "a", None)
    others = {seed_of(0, 1, "a", None), seed_of(1, 1, "a", None), seed_of(0, 2, "a", None), seed_of(0, 1, "b", None)}
    assert len(others) == 4
    assert all(0 <= seed < 2**31 for seed in others)


def test_a_size_that_the_pipeline_cannot_draw_is_refused(policy, tmp_path):
    with pytest.raises(ValueError, match="height"):
        painter(tmp_path, policy, InferenceSettings(33, 32))
    with pytest.raises(ValueError, match="batch_size=0"):
        painter(tmp_path, policy, batch_size=0)


def test_a_part_is_drawn_anew_and_named_by_its_mask(tmp_path):
    policy = policy_for(build_flux_fill(), max_sequence_length=32)
    one = painter(tmp_path, policy, InferenceSettings(32, 64, num_inference_steps=1), batch_size=2)
    source = Image.new("RGB", (64, 32), "gray")
    rows = [{"prompt": "a", "source_image": source, "mask_image": Image.new("L", (8, 8), level)} for level in (0, 255)]
    wanted = [Wanted("a", *edited(policy, row)[:1], 0, edited(policy, row)[1]) for row in rows]
    assert len({opened(path).tobytes() for path in one.draw(wanted)}) == 2
    # the same pictures have the same names whether or not masks were known of
    plain = painter(tmp_path, FluxPolicy(build_flux(), max_sequence_length=12))
    assert plain.path(Wanted("a", None, 0)) == plain.path(Wanted("a", None, 0, source))
