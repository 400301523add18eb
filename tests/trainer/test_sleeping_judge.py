"""A judge on the GPU that trains, which sleeps while candidates are drawn."""

from types import SimpleNamespace

import pytest
from openai_server import Answer, OpenAIServer
from test_diffusion_nft_trainer import build

from arr_trl.chat import HTTPChatModel
from arr_trl.judges import RubricJudge
from arr_trl.rubrics import Criterion, Rubric
from arr_trl.trainer import checks


RUBRIC = Rubric(name="one", criteria=[Criterion(text="It is there.")])


def answers(number, body):
    return Answer("OK", body=b"" if not body else None, top_logprobs=[("1", -0.2), ("2", -1.8)] if body else None)


def judge_at(url):
    return RubricJudge(RUBRIC, HTTPChatModel("m", base_url=url, sleep=True), mode="choice")


def test_a_rollout_is_drawn_whole_before_its_judge_is_woken(flux_pipeline, tmp_path, monkeypatch):
    with OpenAIServer(respond=answers) as server:
        trainer = build(flux_pipeline, tmp_path, judge_at(server.url), num_generations=2, rollout_batch_size=1)
        assert (server.paths[0], server.paths[-1]) == (
            "/wake_up",
            "/sleep?level=1",
        )  # checked before anything is loaded
        server.paths.clear()
        decode = trainer.policy.decode
        monkeypatch.setattr(trainer.policy, "decode", lambda *a: server.paths.append("drawn") or decode(*a))
        trainer.train()
        chat = [path for path in server.paths if path.endswith("completions")]
        assert server.paths == [*["drawn"] * 3, "/wake_up", *chat, "/sleep?level=1"]
        assert len(chat) == 6


def test_several_processes_would_put_it_to_sleep_under_each_other(monkeypatch):
    for name in ("check_inherited", "check_prompts", "undecoded"):
        monkeypatch.setattr(checks, name, lambda first, *others: first)
    args, dataset = SimpleNamespace(world_size=2, reward_weights=None), SimpleNamespace(column_names=["prompt"])
    judge = judge_at("http://localhost:1/v1")
    with pytest.raises(ValueError, match="A judge that sleeps is for one process; 2 would"):
        checks.check_arguments("Trainer", args, [judge], ["judge"], [], [], dataset, None, None)
