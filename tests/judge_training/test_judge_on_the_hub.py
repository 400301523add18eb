"""A judge that was pushed is one name, which restores its question and its weights."""

import shutil
from pathlib import Path

import pytest
from tiny_judge import build_model


TRAIN = """
import sys
sys.path.insert(0, tests)
from peft import LoraConfig
from transformers import AutoProcessor
from tiny_judge import config, pairs, preset
from arr_trl import PresetJudge
from arr_trl.chat.local import LocalChatModel
from arr_trl.judge_training import FirstTokenSFTTrainer, answer_rows

args = config(output, max_steps=2, save_strategy="steps", save_steps=1, push_to_hub=True, hub_model_id="user/red-judge")
trainer = FirstTokenSFTTrainer(
    model,
    args=args,
    train_dataset=answer_rows(pairs(4), preset()),
    processing_class=AutoProcessor.from_pretrained(model),
    peft_config=LoraConfig(r=2, target_modules=r".*language_model.*q_proj"),
    preset=preset(),
)
trainer.train()
push = trainer.push_to_hub()
pair = pairs(1)[0]

def ask(place):
    judge = PresetJudge(place, LocalChatModel(place))
    return judge(["red"] * 2, [pair["chosen"], pair["rejected"]], num_generations=2)

result = {"files": sorted(push.files), "here": ask(output), "hub": ask("user/red-judge"), "failure": trainer.push_failure}
"""


@pytest.mark.slow
def test_a_judge_is_pushed_while_it_trains_and_judges_by_the_name_of_its_repository(hub, client, tmp_path):
    model = build_model(tmp_path / "model")
    output = tmp_path / "red-judge"
    found = client.run(TRAIN, tests=str(Path(__file__).parents[1]), model=model, output=str(output))
    assert found["failure"] is None
    assert found["files"] == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "preset.json",
        "red.jinja2",
    ]
    assert found["hub"] == found["here"]
    assert "--judge_preset user/red-judge" in (output / "README.md").read_text()
    shutil.rmtree(output)
