"""What is encoded once is not encoded again, by a later run neither, and what encodes otherwise does not take it."""

import copy
from importlib.metadata import version

import pytest
import torch
from diffusers import QwenImageEditPipeline
from oracle import picture
from tiny_pipelines import build_flux2, build_qwen_image, build_sd3, build_z_image

from arr_trl.policies import policy_class_of, policy_for
from arr_trl.policies.cache import EncodingCache, encoders_of


ROWS = [{"prompt": "a red circle"}, {"prompt": "two blue squares of glass"}]
EDITS = [{**row, "source_image": picture(40, 32, i)} for i, row in enumerate(ROWS)]


@pytest.fixture(scope="module", params=["flux", "z_image", "qwen_image_edit"])
def case(request, _flux_pipeline):
    if request.param == "flux":
        return _flux_pipeline, ROWS, {}
    if request.param == "z_image":
        return build_z_image(), ROWS, {}
    return build_qwen_image(pipeline_class=QwenImageEditPipeline), EDITS, {"condition_size": 64}


def policy_on(case, folder, **kwargs):
    policy = policy_class_of(case[0])(case[0], **{**case[2], **kwargs})
    policy.keep_encodings(folder)
    return policy


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_later_run_reads_what_an_earlier_one_encoded(case, tmp_path):
    encoded = policy_on(case, tmp_path).encode(case[1], 32, 32)
    assert len(files(tmp_path)) == 2
    later = policy_on(case, tmp_path)
    later.encode_rows = None  # encoding would fail
    read = later.encode(case[1], 32, 32)
    assert read.keys() == encoded.keys()
    for name, value in encoded.items():
        assert read[name].dtype == value.dtype
        assert torch.equal(read[name], value)


def test_other_settings_other_sizes_and_other_weights_are_encoded_anew(case, tmp_path):
    policy_on(case, tmp_path).encode(case[1], 32, 32)
    policy_on(case, tmp_path).encode(case[1], 32, 48)
    assert len(files(tmp_path)) == 4
    changed = copy.deepcopy(case[0])
    with torch.no_grad():
        for weight in changed.text_encoder.parameters():
            weight += 1
    policy_on((changed, *case[1:]), tmp_path).encode(case[1], 32, 32)
    assert len(files(tmp_path)) == 6
    other = {"condition_size": 96} if case[2] else {"max_sequence_length": 100}
    policy_on(case, tmp_path, **other).encode(case[1], 32, 32)
    assert len(files(tmp_path)) == 8


def test_damaged_file_is_encoded_again_and_replaced(case, tmp_path):
    # each row by itself: alone or beside others it may differ in its last bits, and what is written again is one row
    policy = policy_on(case, tmp_path)
    encoded = [policy.encode([row], 32, 32) for row in case[1]]
    whole = files(tmp_path)[0].read_bytes()
    files(tmp_path)[0].write_bytes(whole[: len(whole) // 2])
    policy = policy_on(case, tmp_path)
    for row, expected in zip(case[1], encoded, strict=True):
        again = policy.encode([row], 32, 32)
        assert all(torch.equal(again[name], value) for name, value in expected.items())
    assert files(tmp_path)[0].read_bytes() == whole


def test_rows_that_left_the_memory_are_read(case, tmp_path):
    policy = policy_on(case, tmp_path, max_cached_prompts=1)
    encoded = [policy.encode([row], 32, 32) for row in case[1]]
    policy.encode_rows = None
    for row, expected in zip(case[1], encoded, strict=True):
        assert all(torch.equal(policy.encode([row], 32, 32)[name], value) for name, value in expected.items())


def test_each_row_of_a_batch_is_kept_under_its_own_key(tmp_path):
    cache = EncodingCache(max_rows=8)
    cache.keep_on_disk(tmp_path, torch.device("cpu"))
    for keys in ("bc", "abca"):  # one of them is there, then
        found = cache.get(
            list(keys), lambda missing, keys=keys: {"x": torch.tensor([[ord(keys[i])] for i in missing])}, 2
        )
        assert [chr(value) for value in found["x"].flatten()] == list(keys)


def test_rows_that_leave_the_memory_leave_it_though_others_of_their_batch_stay():
    cache = EncodingCache(max_rows=1)
    cache.get(["a", "b", "c", "d"], lambda missing: {"prompt_embeds": torch.randn(4, 3, 2)}, 4)
    (row,) = cache._rows.values()
    assert row["prompt_embeds"].untyped_storage().nbytes() == 3 * 2 * 4


def test_new_rows_are_encoded_a_few_at_a_time():
    asked = []

    def encode(missing):
        asked.append(missing)
        return {"x": torch.tensor([[i] for i in missing])}

    found = EncodingCache(max_rows=8).get(list("abacde"), encode, 2)
    assert asked == [[2, 1], [3, 4], [5]]
    assert found["x"].flatten().tolist() == [2, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("library", ["diffusers", "transformers"])
def test_what_another_version_of_a_library_encoded_is_not_taken(case, library, monkeypatch):
    policy = policy_class_of(case[0])(case[0], **case[2])
    what = (policy.pipeline, "policy", {}, policy.device)
    before = encoders_of(*what)
    assert encoders_of(*what) == before
    monkeypatch.setattr("arr_trl.policies.cache.version", lambda name: "0" if name == library else version(name))
    assert encoders_of(*what) != before


@pytest.mark.parametrize("build", [build_qwen_image, build_sd3, build_z_image, lambda: build_flux2(klein=True)])
def test_negative_prompt_is_encoded_once_and_in_no_row(build, tmp_path):
    policy = policy_for(build())
    policy.keep_encodings(tmp_path)
    asked = []
    encode_prompt = policy.pipeline.encode_prompt

    def counted(*args, **kwargs):
        asked.extend(kwargs["prompt"])
        return encode_prompt(*args, **kwargs)

    policy.pipeline.encode_prompt = counted
    encoded = [policy.encode(rows, 32, 32) for rows in ([*ROWS, *ROWS], [{"prompt": "a yellow star"}])]
    assert sorted(asked) == sorted([policy.negative_prompt, *(row["prompt"] for row in ROWS), "a yellow star"])
    assert [len(batch["negative_embeds"]) for batch in encoded] == [4, 1]
    assert not any(name.startswith("negative") for row in policy.cache._rows.values() for name in row)
    policy.to("cpu")
    policy.encode(ROWS, 32, 32)
    assert asked[4:] == [policy.negative_prompt]  # forgotten, unlike the rows on disk
