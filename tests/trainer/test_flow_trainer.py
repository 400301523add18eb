"""What a trainer counts."""

import copy

from datasets import Dataset
from test_rpo_trainer import PROMPTS, alternating, trainer_for


def test_resumed_run_has_counted_what_the_uninterrupted_one_has(flux_pipeline, tmp_path):
    def counting(prompts, completions, log_metric, **columns):
        log_metric("judge/calls", 3.0)
        return alternating(prompts, completions)

    counted = []
    for checkpoint in (None, str(tmp_path / "out" / "checkpoint-1")):
        trainer = trainer_for(
            copy.deepcopy(flux_pipeline), tmp_path, counting, max_steps=2, save_strategy="steps", save_steps=1,
            eval_dataset=Dataset.from_dict({"prompt": PROMPTS[:1]}),
        )  # fmt: skip
        trainer.train(resume_from_checkpoint=checkpoint)
        trainer.evaluate()
        counted.append((trainer.evaluation.transformer_forwards, trainer.evaluation.judge_calls))
    assert counted[0] == counted[1]
    assert counted[0][1] == 2 * 3 + 3  # two rollouts and the evaluation
