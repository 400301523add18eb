"""TRL's loss, with the settings of GCPO, is that of the paper: as numbers that other code made, and as its gradient in float64."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_judge import build_model, pairs, preset
from transformers import AutoModelForImageTextToText, AutoProcessor

from arr_trl.judge_training import GCPOConfig, GCPOTrainer, question_rows


VECTOR = json.loads((Path(__file__).parent / "judge_vectors.json").read_text())["gcpo"]
SCORES = preset(read={"tag": "score", "low": 0, "high": 10}, scale=(0, 10))
N = 3
# of LoRA's two matrices one begins at 0, and the other would have no gradient
LORA = LoraConfig(r=4, target_modules=r".*language_model.*\.(q|v)_proj", init_lora_weights=False)


def score_of(text):
    return None if len(text) % 3 == 0 else sum(map(ord, text)) % 7


class Watched(GCPOTrainer):
    """Keeps what was written about which row."""

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        texts = [completion[-1]["content"] for completion in completions]
        self.traces = list(zip(inputs, texts, completion_ids_list, strict=True))
        return rewards


@pytest.fixture
def trainer(tmp_path):
    model = build_model(tmp_path / "model")
    # the step is the gradient: plain descent at a rate of 1, in micro-steps that split pairs
    settings = dict(
        output_dir=str(tmp_path), per_device_train_batch_size=4, gradient_accumulation_steps=3, num_generations=N,
        max_completion_length=4, max_steps=1, optim="sgd", learning_rate=1.0, lr_scheduler_type="constant", max_grad_norm=0,
        save_strategy="no", use_cpu=True, bf16=False, report_to=[], disable_tqdm=True, gradient_checkpointing=False,
    )  # fmt: skip
    found = Watched(
        model,
        args=GCPOConfig(**settings),
        train_dataset=question_rows(pairs(2), SCORES),
        processing_class=AutoProcessor.from_pretrained(model),
        peft_config=LORA,
        preset=SCORES,
    )
    found.reward_funcs[0].score = score_of
    return found


def test_the_loss_of_traces_is_the_clipped_one_of_the_paper(trainer, monkeypatch):
    ratios = [*VECTOR["ratios_better"], *VECTOR["ratios_worse"]]
    mask = torch.zeros(len(ratios), max(map(len, ratios)), dtype=torch.long)
    log_ratios = torch.zeros(mask.shape, dtype=torch.float64)
    for row, of_trace in enumerate(ratios):
        mask[row, : len(of_trace)] = 1
        log_ratios[row, : len(of_trace)] = torch.tensor(of_trace, dtype=torch.float64).log()
    answer = (log_ratios, torch.zeros_like(log_ratios), None)
    monkeypatch.setattr(trainer, "_get_per_token_logps_and_entropies", lambda *args, **kwargs: answer)
    monkeypatch.setattr(trainer, "current_gradient_accumulation_steps", 1, raising=False)
    advantages = torch.tensor(VECTOR["advantages_better"] + VECTOR["advantages_worse"], dtype=torch.float64)
    tokens = {"prompt_ids": mask, "prompt_mask": mask, "completion_ids": mask, "completion_mask": mask}
    inputs = tokens | {"advantages": advantages, "old_per_token_logps": torch.zeros_like(log_ratios)}
    assert trainer.args.epsilon == VECTOR["eps"]
    assert trainer.compute_loss(trainer.model, inputs).item() == pytest.approx(VECTOR["loss"], abs=1e-12)
    inputs["old_per_token_logps"] = None
    assert trainer.compute_loss(trainer.model, inputs).item() == pytest.approx(VECTOR["loss_on_policy"], abs=1e-12)


def advantages_of(traces):
    """By the paper's formulas, a pair and a side at a time."""
    found = np.zeros(len(traces))
    scores = [score_of(text) for _, text, _ in traces]
    for pair in {row["pair"] for row, _, _ in traces}:
        better, worse = (
            [i for i, (row, _, _) in enumerate(traces) if row["pair"] == pair and row["side"] == side]
            for side in ("chosen", "rejected")
        )
        for mine, others, sign in ((better, worse, 1), (worse, better, -1)):
            others = [scores[k] for k in others if scores[k] is not None]
            mine = [j for j in mine if scores[j] is not None]
            if len(others) < 2 or len(mine) < 2:
                continue
            rewards = np.array([np.mean([sign * (scores[j] - other) > 0 for other in others]) for j in mine])
            found[mine] = rewards - rewards.mean()
    return found


def test_a_step_is_the_gradient_of_the_objective_of_each_trace_by_itself(trainer):
    start = {name: weight.detach().double() for name, weight in trainer.model.named_parameters()}
    alone = AutoModelForImageTextToText.from_pretrained(trainer.base_model, dtype=torch.float64)
    alone = get_peft_model(alone, LORA)
    alone.load_state_dict(start, strict=False)
    trainer.train()
    processor = trainer.processing_class
    advantages = advantages_of(trainer.traces)
    assert np.count_nonzero(advantages) > 3
    objective = 0.0
    for (row, _, ids), advantage in zip(trainer.traces, advantages, strict=True):
        text = f"user:<image>{row['prompt'][0]['content'][1]['text']}</s>assistant:"
        prompt = processor(images=row["images"], text=text, return_tensors="pt")
        tokens = torch.cat([prompt["input_ids"], torch.tensor([ids])], 1)
        logits = alone(input_ids=tokens, pixel_values=prompt["pixel_values"].double()).logits[0]
        asked = prompt["input_ids"].shape[1]
        of_tokens = logits[asked - 1 : -1].log_softmax(-1)[range(len(ids)), ids]
        objective = objective + advantage * of_tokens.mean() / len(trainer.traces)
    objective.backward()
    after = dict(trainer.model.named_parameters())
    trained = {name: weight for name, weight in alone.named_parameters() if weight.requires_grad}
    expected = torch.cat([weight.grad.flatten() for weight in trained.values()])
    found = torch.cat([(after[name].detach().double() - start[name]).flatten() for name in trained])
    assert expected.norm() > 1e-3
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)
