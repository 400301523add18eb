"""
Two processes pass back the gradient that one does with the pictures of both, though the network is gone through several
times before one backward.
"""

import json

import pytest
import torch
from forked_run import ADAPTER, ForkedRun, train, write_prompts
from safetensors.torch import load_file

from arr_trl import AlignPropTrainer


def by_prompt(prompts, pixels, **columns):
    """A reward that differs in size from prompt to prompt."""
    sizes = torch.tensor([1.0 + int(prompt.rpartition(" ")[2]) for prompt in prompts])
    return sizes * (pixels * torch.linspace(-1, 1, pixels.shape[-1])).mean((1, 2, 3))


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"backprop_steps": 3, "gradient_checkpointing": True},
        {"backprop_strategy": "random", "backprop_steps": 2, "detach_inputs": True},
        {"backprop_strategy": "leap", "gradient_checkpointing": True},
    ],
    ids=["last", "random", "leap"],
)
def test_two_processes_train_what_one_does(tmp_path, settings):
    files = write_prompts(tmp_path)
    settings = dict(
        trainer_class=AlignPropTrainer, reward=by_prompt, num_inference_steps=4, max_steps=3, learning_rate=1e-3, beta=0.1,
        logging_steps=1, save_steps=3, resume=None, **settings,
    )  # fmt: skip
    log = tmp_path / "log"
    one = ForkedRun(train, tmp_path / "one", files, log=log, per_device_train_batch_size=4, **settings)
    assert one.wait(600) == [0], log.read_text()[-3000:]
    two = ForkedRun(train, tmp_path / "two", files, ranks=2, log=log, per_device_train_batch_size=2, **settings)
    assert two.wait(600) == [0, 0], log.read_text()[-3000:]

    logs = [
        json.loads((tmp_path / name / "checkpoint-3" / "trainer_state.json").read_text())["log_history"]
        for name in ("one", "two")
    ]
    assert len(logs[0]) == 3
    for expected, found in zip(*logs, strict=True):
        for name in ("loss", "grad_norm", "policy/kl", "reward", "policy/reward_grad_norm", "pictures/saturation"):
            assert found[name] == pytest.approx(expected[name], rel=2e-3, abs=1e-6), name
    assert logs[0][-1]["policy/kl"] > 0
    adapters = [load_file(tmp_path / name / ADAPTER) for name in ("one", "two")]
    for name, value in adapters[0].items():
        torch.testing.assert_close(adapters[1][name], value, atol=2e-4, rtol=1e-3)
