"""What the trainer asks its judges before it loads anything, and what it says of them afterwards."""

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from PIL import Image

from arr_trl import RPOConfig, RPOTrainer, RubricJudge
from arr_trl.chat import ChatFailure, ChatReply
from arr_trl.judges import EnsembleJudge
from arr_trl.rubrics import Criterion, Rubric
from arr_trl.tiny_scenes import TinyScenesJudge
from arr_trl.tiny_scenes.judge import zero_shot_rubric
from arr_trl.tiny_scenes.scenes import captions


CAPTIONS = captions("train")[:4]
EDITING = Rubric(name="edits", criteria=[Criterion(text="The rest is as it was.")], task="image-editing")


def judge_of(rubric):
    return RubricJudge(rubric=rubric, model=TinyScenesJudge())


def trainer_for(model, reward_funcs, tmp_path, dataset=None, eval_dataset=None, **settings):
    return RPOTrainer(
        model=model,
        reward_funcs=reward_funcs,
        args=RPOConfig(
            output_dir=str(tmp_path / "out"),
            height=32,
            width=32,
            max_sequence_length=12,
            num_inference_steps=4,
            eval_num_inference_steps=2,
            sde_window_size=2,
            per_device_train_batch_size=8,
            gradient_accumulation_steps=1,
            max_steps=1,
            bf16=False,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            gradient_checkpointing=False,
            disable_tqdm=True,
            **settings,
        ),
        train_dataset=Dataset.from_dict({"prompt": CAPTIONS}) if dataset is None else dataset,
        eval_dataset=eval_dataset,
        peft_config=LoraConfig(r=2, lora_alpha=4),
    )


@pytest.mark.parametrize(
    "judge", [judge_of(EDITING), EnsembleJudge([judge_of(zero_shot_rubric()), judge_of(EDITING)])]
)
@pytest.mark.parametrize("streamed", [False, True])
def test_an_editing_rubric_on_rows_without_source_image_is_refused_before_loading(tmp_path, judge, streamed):
    rows = Dataset.from_dict({"prompt": CAPTIONS})
    rows = rows.to_iterable_dataset() if streamed else rows
    with pytest.raises(
        ValueError, match="rubric edits is for image editing, and the rows have no `source_image`, only"
    ):
        trainer_for("no/such-model", judge, tmp_path, rows)


def test_an_editing_rubric_takes_rows_with_source_images():
    judge_of(EDITING).check_first_row([{"prompt": "a", "source_image": Image.new("RGB", (8, 8))}])
    judge_of(zero_shot_rubric()).check_first_row([{"prompt": "a"}])
    judge_of("auto").check_first_row([{"prompt": "a"}])


class TakesOnePicture(TinyScenesJudge):
    def complete(self, requests, on_reply=None):
        return [ChatReply(failure=ChatFailure("bad_request", "At most 1 image(s) may be provided."))] * len(requests)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_judge_that_takes_too_few_pictures_is_found_before_loading(tmp_path, streamed):
    judge = RubricJudge(zero_shot_rubric(), TakesOnePicture())
    with pytest.raises(ValueError, match=r"At most 1 image\(s\) may be provided\. .*, about 4 pictures"):
        trainer_for("no/such-model", judge, tmp_path, num_generations=4)
    pictures = [[Image.new("RGB", (8, 8))] * 3] * 4
    rows = Dataset.from_list([{"prompt": p, "source_image": s} for p, s in zip(CAPTIONS, pictures, strict=True)])
    with pytest.raises(ValueError, match="about 5 pictures"):
        trainer_for(
            "no/such-model",
            RubricJudge(EDITING, TakesOnePicture()),
            tmp_path,
            rows.to_iterable_dataset() if streamed else rows,
        )


def test_the_win_rate_beside_other_rewards_is_the_judge_s(flux_pipeline, tmp_path):
    def for_the_base(prompts, completions, **columns):  # the pairs of an evaluation are (base, trained)
        return [100.0, 0.0] * (len(completions) // 2)

    rows = Dataset.from_dict({"prompt": CAPTIONS})
    trainer = trainer_for(flux_pipeline, [judge_of(zero_shot_rubric()), for_the_base], tmp_path, eval_dataset=rows)
    metrics = trainer.evaluate()
    # the adapter is still the base: the judge sees the same picture twice
    assert (metrics["eval_win_rate"], metrics["eval_tie_rate"]) == (0.5, 1.0)


def test_the_card_names_every_judge_of_an_ensemble_and_its_rubric(flux_pipeline, tmp_path):
    class Other(TinyScenesJudge):
        model = "another-judge"

    count = Rubric(name="count", criteria=[Criterion(text="There are exactly two objects.")])
    ensemble = EnsembleJudge([judge_of(zero_shot_rubric()), RubricJudge(rubric=count, model=Other())])
    trainer = trainer_for(flux_pipeline, ensemble, tmp_path)
    trainer.train()
    trainer.create_model_card()
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Judge: `tiny_scenes, another-judge`" in card
    assert zero_shot_rubric().render() in card
    assert count.render() in card


def test_judge_on_the_device_that_samples_is_told(flux_pipeline, tmp_path, monkeypatch):
    judge = EnsembleJudge([judge_of(zero_shot_rubric()), judge_of(zero_shot_rubric())])
    trainer = trainer_for(flux_pipeline, judge, tmp_path, sde_window_range=[0, 2], logging_steps=1)
    metrics = trainer._metrics["train"]
    sampled = trainer._sample(trainer._usable(list(range(trainer.args.prompts_per_rollout))))
    trainer._score(sampled)  # by no model of this process
    assert "judge/on_sampling_device" not in metrics
    for devices, expected in ((["cpu"], 1), (["cuda:7"], 0)):
        monkeypatch.setattr(type(judge.judges[1]), "devices", devices)
        trainer._log_rollout(sampled, torch.ones(len(sampled.images), 1), torch.ones(len(sampled.rows), 2))
        assert metrics["judge/on_sampling_device"].pop() == expected
