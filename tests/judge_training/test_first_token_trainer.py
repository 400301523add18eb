"""A judge learns its first token, from rows that ask as it will be asked, and is released with its question."""

import json

import pytest
import torch
from peft import LoraConfig
from PIL import Image
from safetensors.torch import load_file
from tiny_judge import build_model, config, pairs, preset
from transformers import AutoModelForImageTextToText, AutoProcessor, TrainerCallback

from arr_trl import PresetJudge
from arr_trl.chat import ChatRequest
from arr_trl.chat.local import LocalChatModel
from arr_trl.judge_training import FirstTokenSFTTrainer, JudgeFacts, answer_rows
from arr_trl.judge_training.judge_release import served_rank
from arr_trl.judge_training.rows import check_labels, check_preset
from arr_trl.judges import JudgeRow
from arr_trl.judges.preset_questions import Pictures, messages_of


TARGETS = r".*language_model.*\.(q|k|v|o|up|down)_proj"
WHY = ["it is", "it is as asked", "yes", "so it is and so"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return build_model(tmp_path_factory.mktemp("judge") / "model")


def trainer_for(model, output_dir, rows=None, callbacks=(), **overrides):
    rows = answer_rows(pairs(4, rationale=WHY), preset()) if rows is None else rows
    return FirstTokenSFTTrainer(
        model,
        args=config(output_dir, **overrides),
        train_dataset=rows,
        processing_class=AutoProcessor.from_pretrained(model),
        peft_config=LoraConfig(r=4, target_modules=TARGETS),
        preset=preset(),
        callbacks=list(callbacks),
    )


def by_hand(model, rows, weight):
    """The loss of each answer from the logits of the model itself, one row at a time."""
    vlm, processor = AutoModelForImageTextToText.from_pretrained(model), AutoProcessor.from_pretrained(model)
    losses = []
    for row in rows:
        asked = f"user:<image>{row['prompt'][0]['content'][1]['text']}</s>assistant:"
        answer = row["completion"][0]["content"][0]["text"]
        prompt = processor(images=row["images"], text=asked, return_tensors="pt")
        target = processor.tokenizer(f"{answer}</s>", return_tensors="pt", add_special_tokens=False)["input_ids"]
        ids = torch.cat([prompt["input_ids"], target], 1)
        with torch.no_grad():
            logits = vlm(input_ids=ids, pixel_values=prompt["pixel_values"]).logits[0].double().log_softmax(-1)
        start = prompt["input_ids"].shape[1]
        ce = [-logits[i - 1, ids[0, i]].item() for i in range(start, ids.shape[1])]
        losses.append(weight * ce[0] + (1 - weight) * sum(ce[1:]) / (len(ce) - 1))
    return losses


def test_the_loss_is_the_mean_over_the_answers_of_a_step_however_they_are_spread(model, tmp_path):
    rows = answer_rows(pairs(4, rationale=WHY), preset()).select(range(5))  # micro-steps of two, two and one
    spread = dict(per_device_train_batch_size=2, gradient_accumulation_steps=3, max_steps=1, learning_rate=0.0)
    trainer = trainer_for(model, tmp_path, rows, first_token_weight=0.3, **spread)
    trainer.train()
    expected = by_hand(model, rows, 0.3)
    assert trainer.state.log_history[0]["loss"] == pytest.approx(sum(expected) / len(expected), rel=1e-5)


def test_a_judge_is_trained_on_the_tokens_that_it_will_be_asked_with(model, tmp_path):
    source = Image.new("RGB", (40, 28), "white")
    words = '{{ image("source") }}Now{{ image("candidate") }}{{ prompt }}?'
    edit = preset(("source", "candidate"), words, task="image-editing")
    rows = answer_rows(pairs(1, source_image=[source]), edit)
    trainer = trainer_for(model, tmp_path, rows)
    batch = next(iter(trainer.get_train_dataloader()))
    shown = {"source": [source], "candidate": pairs(1)[0]["chosen"]}
    request = ChatRequest(messages_of(edit.asks[0], "red", shown, {}, Pictures(edit.image)))
    asked = LocalChatModel(model).inputs_of([request])
    labels, ids = batch["labels"], batch["input_ids"]
    for row in range(2):
        assert ids[row][labels[row] == -100].tolist() == asked["input_ids"][0].tolist()
    answers = {trainer.processing_class.decode(ids[row][labels[row] != -100]).replace(" ", "") for row in range(2)}
    assert answers == {"Y</s>", "N</s>"}
    assert any(torch.equal(batch["pixel_values"][2 * i : 2 * i + 2], asked["pixel_values"]) for i in range(2))


def test_a_trained_judge_tells_what_it_was_shown_and_its_folder_restores_question_and_weights(model, tmp_path):
    facts = JudgeFacts(datasets=["user/pairs"], pairs=4)
    trainer = trainer_for(
        model, tmp_path / "red-judge", max_steps=25, per_device_train_batch_size=4, first_token_weight=0.5
    )
    trainer.facts = facts
    trainer.train()
    assert trainer.state.log_history[-2]["first_token_accuracy"] == 1.0
    trainer.save_model(_internal_call=True)
    trainer.create_model_card()
    folder = tmp_path / "red-judge"
    assert not (folder / "training_args.bin").exists()  # it would hold the token for the Hub

    judge = PresetJudge(folder, LocalChatModel(str(folder)))
    assert judge.preset.weights == str(folder)
    assert judge.preset.asks[0].template == preset().asks[0].template
    pair = pairs(1)[0]
    (verdict,) = judge.compare([JudgeRow("red", (pair["rejected"], pair["chosen"]))])
    assert verdict.winner == 1
    assert verdict.lead < -0.5
    (untrained,) = PresetJudge(preset(), LocalChatModel(model)).compare(
        [JudgeRow("red", (pair["rejected"], pair["chosen"]))]
    )
    assert abs(untrained.lead) < 0.1

    # transformers loads the adapter by itself, and it says the same as merged into its base
    asked = LocalChatModel(str(folder)).inputs_of(
        [
            ChatRequest(
                messages_of(preset().asks[0], "red", {"candidate": pair["chosen"]}, {}, Pictures(preset().image))
            )
        ]
    )
    loaded = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    merged = LocalChatModel(str(folder)).vlm
    with torch.no_grad():
        found, expected = loaded(**asked).logits, merged(**asked).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)

    card = (folder / "README.md").read_text()
    assert "- user/pairs" in card
    assert "--enable-lora --max-lora-rank 8 " in card  # of rank 4: vLLM takes some numbers only
    assert "--max-lora-rank 8 " in judge.preset.serve
    assert "was not measured" in card
    assert model not in card
    assert model not in (folder / "preset.json").read_text()


class Fail(TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 3:
            raise ValueError("the disk is gone")


def test_a_run_that_broke_goes_on_to_the_same_adapter_and_the_same_log(model, tmp_path):
    often = dict(max_steps=5, save_strategy="steps", save_steps=2, logging_steps=2)
    whole = trainer_for(model, tmp_path / "whole", **often)
    whole.train()
    with pytest.raises(ValueError, match="the disk is gone"):
        trainer_for(model, tmp_path / "broken", callbacks=[Fail()], **often).train()
    trainer_for(model, tmp_path / "broken", **often).train(resume_from_checkpoint=True)
    weights = [load_file(tmp_path / run / "checkpoint-5" / "adapter_model.safetensors") for run in ("whole", "broken")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    logs = [
        json.loads((tmp_path / run / "checkpoint-5" / "trainer_state.json").read_text())["log_history"]
        for run in ("whole", "broken")
    ]
    assert logs[0] == logs[1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "reference"}, "one question about one candidate"),
        ({"task": "image-editing"}, "no `source_image`"),
    ],
)
def test_a_preset_that_pairs_say_nothing_about_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        check_preset(preset().model_copy(update=changes), pairs(1))


def test_the_rank_that_a_server_is_told_is_one_that_it_takes():
    assert [served_rank(rank) for rank in (1, 8, 32, 48, 300)] == [8, 8, 32, 64, 320]


def test_labels_of_several_tokens_are_refused(model):
    with pytest.raises(ValueError, match="'Yes' of the preset is-it is not one token"):
        check_labels(preset(labels=("Yes", "No")), AutoProcessor.from_pretrained(model))


def test_a_judge_without_an_adapter_is_refused(model, tmp_path):
    with pytest.raises(ValueError, match="give a `peft_config`"):
        FirstTokenSFTTrainer(
            model,
            args=config(tmp_path),
            train_dataset=answer_rows(pairs(1), preset()),
            processing_class=AutoProcessor.from_pretrained(model),
            preset=preset(),
        )
