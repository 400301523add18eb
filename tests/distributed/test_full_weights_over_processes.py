"""Two processes train all weights as one does on the same global batch: whole in each of them, and sharded."""

import json
from pathlib import Path

import pytest
from diffusers import FluxTransformer2DModel
from test_parity import CHECKPOINTS, PROMPTS_PER_STEP, history, train, two_processes, two_sharded_processes

from arr_trl.release import read_transformer
from arr_trl.shipped import place_of


# an average and a reference beside the weights; with the default seed all first pairs are ties
FULL = ("--use_peft", "false", "--ema_decay", "0.5", "--learning_rate", "1e-4", "--seed", "1", *CHECKPOINTS)
TRANSFORMER = Path("ARR-tiny-flux", "transformer")


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    return train(tmp_path_factory.mktemp("full") / "one", 2 * PROMPTS_PER_STEP, *FULL)


def assert_same_run(one: Path, two: Path) -> None:
    for expected, found in zip(history(one), history(two), strict=True):
        assert found["loss"] == pytest.approx(expected["loss"], abs=1e-6)
        assert found["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-4)
        assert found["policy/kl"] == pytest.approx(expected["policy/kl"], rel=1e-2)
    assert history(one)[-1]["policy/kl"] > 0
    results = [json.loads((folder / "results.json").read_text()) for folder in (one, two)]
    for name in ("prompts", "base", "trained", "win_rate"):
        assert results[0][name] == results[1][name], name
    base = FluxTransformer2DModel.from_pretrained(place_of("tiny_scenes"), subfolder="transformer").state_dict()
    for place in (TRANSFORMER, Path("checkpoint-2", "transformer")):
        expected, found = (read_transformer(folder / place) for folder in (one, two))
        assert expected.keys() == found.keys() == base.keys()
        # AdamW makes whole steps where a gradient is nothing but rounding, so not weight by weight
        apart = sum((found[name] - weight).square().sum() for name, weight in expected.items())
        moved = sum((base[name] - weight).square().sum() for name, weight in expected.items())
        assert apart < 1e-6 * moved
        assert moved > 0


@pytest.mark.slow
def test_two_processes_train_all_weights_as_one_does(one_process, tmp_path):
    assert_same_run(one_process, two_processes(tmp_path / "ddp", "ddp", *FULL))


@pytest.mark.slow
@pytest.mark.usefixtures("own_extensions")
def test_deepspeed_trains_all_weights_as_one_process_does(one_process, tmp_path):
    pytest.importorskip("deepspeed")
    assert_same_run(one_process, two_processes(tmp_path / "zero2", "zero2", *FULL))


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    return two_sharded_processes(tmp_path_factory.mktemp("full") / "two", *FULL)


@pytest.mark.slow
def test_fsdp2_trains_all_weights_as_one_process_does(one_process, sharded):
    assert_same_run(one_process, sharded)
    for rank in range(2):
        assert json.loads((sharded / f"share_{rank}.json").read_text()) == {"base": 0.5}


@pytest.mark.slow
def test_run_under_fsdp2_goes_on_in_one_process_and_the_other_way_round(one_process, sharded, tmp_path):
    checkpoint = ("--resume_from_checkpoint", str(sharded / "checkpoint-1"))
    assert_same_run(one_process, train(tmp_path / "one", 2 * PROMPTS_PER_STEP, *FULL, *checkpoint))
    checkpoint = ("--resume_from_checkpoint", str(one_process / "checkpoint-1"))
    assert_same_run(one_process, two_sharded_processes(tmp_path / "two", *FULL, *checkpoint))
