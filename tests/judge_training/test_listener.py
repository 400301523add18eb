"""A trace is rewarded for what a listener, who is not told its answer, concludes from it."""

import json
import math
from pathlib import Path

import pytest
from peft import LoraConfig
from tiny_judge import build_model, pairs, preset
from transformers import AutoProcessor
from trl import GRPOConfig, GRPOTrainer

from arr_trl.chat import ChatFailure, ChatReply
from arr_trl.judge_training import LISTENER_WEIGHTS, JudgeTrainer, choice_rows, listener_rewards


VECTOR = json.loads((Path(__file__).parent / "judge_vectors.json").read_text())["listener"]
QUESTION = preset(
    ("first", "second"),
    '{{ image("first") }}{{ image("second") }}Which is {{ prompt }}?',
    read={"winner": {"Image 1": 0, "Image 2": 1}},
    kind="pairwise",
    combine="winner",
)


class Listener:
    """Says 1 with the probability that it was given, or nothing."""

    def __init__(self, probability):
        self.probability, self.requests = probability, []

    def complete(self, requests, on_reply=None):
        self.requests += requests
        p = self.probability
        if p is None:
            return [ChatReply(failure=ChatFailure("timeout", "It took too long.")) for _ in requests]
        return [ChatReply(choice_logprobs={"1": math.log(0.9 * p), "2": math.log(0.9 * (1 - p))}) for _ in requests]


def rewards_of(listener, traces, winner):
    prompts = [[{"role": "user", "content": [{"type": "text", "text": "Which is red?"}]}]] * len(traces)
    given = {"prompts": prompts, "completions": traces, "winner": [winner] * len(traces)}
    return [reward(**given) for reward in listener_rewards(QUESTION, listener)]


def test_a_trace_has_what_format_answer_and_listener_are_worth():
    found = rewards_of(Listener(VECTOR["listener_probability"]), ["It is redder. <answer>Image 1</answer>"], 0)
    assert found == [[VECTOR["format"]], [VECTOR["accuracy"]], [pytest.approx(VECTOR["listener_probability"])]]
    total = sum(weight * value for weight, (value,) in zip(LISTENER_WEIGHTS, found, strict=True))
    assert total == pytest.approx(VECTOR["reward"])


def test_a_listener_hears_the_reasons_and_not_the_answer():
    listener = Listener(0.62)
    found = rewards_of(listener, ["The left one glows.<answer>Image 1</answer>", "Well."], 1)
    assert found[0] == [1, 0]
    assert found[1] == [0, None]  # an answer that is not there is not wrong
    assert found[2] == [pytest.approx(0.38)] * 2
    asked = [part["text"] for m in listener.requests[0].messages for part in m["content"]]
    assert asked[:2] == ["Which is red?", "The left one glows.<answer>…</answer>"]
    assert listener.requests[0].choices == ("1", "2")


def test_a_listener_that_does_not_answer_gives_no_reward():
    assert rewards_of(Listener(None), ["<answer>Image 2</answer>"], 1) == [[1], [1], [None]]


def test_the_preferred_picture_stands_where_the_row_says_it_does():
    rows = choice_rows(pairs(8), QUESTION)
    assert {row["winner"] for row in rows} == {0, 1}
    for row in rows:
        red, _, blue = row["images"][row["winner"]].getpixel((0, 0))
        assert red > blue
        assert [part["type"] for part in row["prompt"][0]["content"]] == ["image", "image", "text"]


@pytest.mark.parametrize("other", [preset(), preset(read={"tag": "score", "low": 0, "high": 1})])
def test_a_question_without_a_hidden_winner_is_refused(other):
    with pytest.raises(ValueError, match="no question about two pictures whose answer is a winner"):
        choice_rows(pairs(1), other)


class ListenerTrainer(JudgeTrainer, GRPOTrainer):
    pass


def test_trls_trainer_learns_from_a_listener_who_is_shown_the_pictures(tmp_path):
    model, listener = build_model(tmp_path / "model"), Listener(0.7)
    settings = dict(
        output_dir=str(tmp_path), per_device_train_batch_size=4, num_generations=2, max_completion_length=3, max_steps=1,
        save_strategy="no", use_cpu=True, bf16=False, report_to=[], disable_tqdm=True, gradient_checkpointing=False,
        logging_steps=1,
    )  # fmt: skip
    trainer = ListenerTrainer(
        model,
        preset=QUESTION,
        args=GRPOConfig(reward_weights=list(LISTENER_WEIGHTS), **settings),
        reward_funcs=listener_rewards(QUESTION, listener),
        train_dataset=choice_rows(pairs(4), QUESTION),
        processing_class=AutoProcessor.from_pretrained(model),
        peft_config=LoraConfig(r=2, target_modules=r".*language_model.*q_proj"),
    )
    trainer.train()
    logged = trainer.state.log_history[0]
    assert logged["rewards/format_reward/mean"] == 0
    assert 0.3 <= logged["rewards/listener_reward/mean"] <= 0.7
    parts = listener.requests[0].messages[0]["content"]
    assert [part["image"].size for part in parts if part["type"] == "image"] == [(28, 28)] * 2
