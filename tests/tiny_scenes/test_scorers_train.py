"""
A scorer that sees in pictures what the embedded judge sees, behind the server of the examples and in an ensemble. It puts
candidates in the order in which the judge puts them, so what training makes of it has to be the same, bit for bit.
"""

import importlib.util
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from peft import LoraConfig

from arr_trl import RPOConfig, RPOTrainer, RubricJudge
from arr_trl.judges import EnsembleJudge, ScorerJudge
from arr_trl.rewards import HTTPScorer
from arr_trl.tiny_scenes import TinyScenesJudge, load_pipeline, prompts, success
from arr_trl.tiny_scenes.judge import zero_shot_rubric


SERVER = Path(__file__).parents[2] / "examples" / "servers" / "scorer_server.py"


@contextmanager
def scorer():
    """The number of criteria that each picture meets, on a scale of hundreds, from a server."""
    spec = importlib.util.spec_from_file_location("scorer_server", SERVER)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)

    def score(images, asked, sources, metadata):
        return [100 * sum(met.values()) for met in success(asked, images)]

    server = example.make_server(score)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield HTTPScorer(f"http://127.0.0.1:{server.server_port}/score", name="criteria")
    finally:
        server.shutdown()
        server.server_close()


def trained(reward, folder):
    """The adapter after two steps, and what was logged."""
    trainer = RPOTrainer(
        model=load_pipeline(),
        reward_funcs=reward,
        args=RPOConfig(
            output_dir=str(folder), height=32, width=32, num_inference_steps=4, sde_window_size=1, sde_window_range=(0, 2),
            per_device_train_batch_size=32, gradient_accumulation_steps=1, learning_rate=6e-4, max_steps=2, logging_steps=1,
            save_strategy="no", use_cpu=True, bf16=False, report_to="none", disable_tqdm=True, max_sequence_length=12,
        ),
        train_dataset=prompts("train[:64]"),
        peft_config=LoraConfig(r=4, lora_alpha=8),
    )  # fmt: skip
    trainer.train()
    adapter = {name: p.detach().clone() for name, p in trainer.model.named_parameters() if "lora_" in name}
    return adapter, trainer.state.log_history


@pytest.mark.slow
def test_a_scorer_and_an_ensemble_with_it_train_the_adapter_that_a_rubric_trains(tmp_path):
    judge = RubricJudge(zero_shot_rubric(), TinyScenesJudge())
    expected, _ = trained(judge, tmp_path / "rubric")
    assert any(p.abs().max() > 0 for name, p in expected.items() if "lora_B" in name)  # it moved
    with scorer() as criteria:
        ensemble = EnsembleJudge([judge, ScorerJudge(criteria)], rule="weighted_scores", weights=[2.0, 1.0])
        for kind, reward in {"scorer": criteria, "ensemble": ensemble}.items():
            found, logs = trained(reward, tmp_path / kind)
            assert all(torch.equal(p, found[name]) for name, p in expected.items()), kind
    assert 0 < logs[0]["judge/score/criteria"] <= 400
    assert 0 <= logs[0]["judge/score/rubric_judge"] <= 1
