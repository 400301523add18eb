"""Two processes train groups as one does that has the candidates of both."""

import json

import pytest
import torch
from forked_run import ADAPTER, ForkedRun, train, write_prompts
from safetensors.torch import load_file

from arr_trl import DiffusionNFTTrainer, FlowGRPOTrainer


def uneven(prompts, completions, **columns):
    """Rewards that differ in size from prompt to prompt, so that a deviation of some of them is another's."""
    spread = [1 + int(prompt.rpartition(" ")[2]) for prompt in prompts]
    return [s * image.convert("L").getextrema()[0] for s, image in zip(spread, completions, strict=True)]


@pytest.mark.parametrize(
    ("trainer_class", "settings"),
    [
        (DiffusionNFTTrainer, {"num_train_points": 1, "old_policy_decay": 0.5, "old_policy_ramp": 0.3, "beta": 0.1}),
        pytest.param(
            FlowGRPOTrainer,
            {"beta": 0.1, "epsilon": 0.1, "sde_window_range": [0, 2]},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["nft", "grpo"],
)
def test_two_processes_train_what_one_does(tmp_path, trainer_class, settings):
    files = write_prompts(tmp_path)
    settings = dict(
        trainer_class=trainer_class, reward=uneven, num_generations=3, steps_per_generation=1, max_steps=3, learning_rate=1e-3,
        logging_steps=1, save_steps=3, resume=None, **settings,
    )  # fmt: skip
    log = tmp_path / "log"
    one = ForkedRun(train, tmp_path / "one", files, log=log, per_device_train_batch_size=12, **settings)
    assert one.wait(300) == [0], log.read_text()[-3000:]
    two = ForkedRun(train, tmp_path / "two", files, ranks=2, log=log, per_device_train_batch_size=6, **settings)
    assert two.wait(300) == [0, 0], log.read_text()[-3000:]

    logs = [
        json.loads((tmp_path / name / "checkpoint-3" / "trainer_state.json").read_text())["log_history"]
        for name in ("one", "two")
    ]
    assert len(logs[0]) == 3
    for expected, found in zip(*logs, strict=True):
        for name in ("loss", "grad_norm", "policy/kl", "reward_std", "frac_reward_zero_std", "rollout/decided_rate"):
            assert found[name] == pytest.approx(expected[name], rel=2e-3, abs=1e-6), name
    adapters = [load_file(tmp_path / name / ADAPTER) for name in ("one", "two")]
    for name, value in adapters[0].items():
        torch.testing.assert_close(adapters[1][name], value, atol=2e-4, rtol=1e-3)
