# /// script
# requires-python = ">=3.10"
# dependencies = ["arr_trl"]
# ///
"""
A judge, a deterministic check and a preference for plain backgrounds, weighed against each other. On TinyScenes:

python examples/scripts/several_rewards.py \
    --config examples/configs/tiny_scenes_rpo.yaml \
    --model_name_or_path src/arr_trl/tiny_scenes/tiny-flux \
    --dataset_name examples/prompts/tiny_scenes.txt \
    --output_dir outputs/several_rewards

With a server as judge, replace `TinyScenesJudge()` by its model's name and pass `base_url`.
"""

import numpy as np
from trl import TrlParser

from arr_trl import RPOConfig, RPOTrainer, RubricJudge
from arr_trl.cli.rpo import RPOScriptArguments
from arr_trl.data import load_prompts
from arr_trl.tiny_scenes import TinyScenesJudge, success


def nothing_stray(prompts, completions, **columns):
    """A check that needs no judge: 1 when there are two objects and nothing else."""
    return [float(check["count"]) for check in success(prompts, completions)]


def plain_border(prompts, completions, **columns):
    """How even the outermost pixels are; `None` for a picture too small to have any."""
    rewards = []
    for image in completions:
        pixels = np.asarray(image.convert("L"), dtype=float)
        edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        rewards.append(None if min(pixels.shape) < 8 else -float(edge.std()))
    return rewards


def main(script_args: RPOScriptArguments, training_args: RPOConfig) -> None:
    # the judge's 1 and 0 first, the check where the judge ties, the border where both do
    training_args.reward_weights = [1.0, 0.5, 0.001]
    trainer = RPOTrainer(
        model=script_args.model_name_or_path,
        reward_funcs=[RubricJudge(script_args.rubric[0], TinyScenesJudge()), nothing_stray, plain_border],
        args=training_args,
        train_dataset=load_prompts(script_args.dataset_name),
    )
    trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
    trainer.save_model()
    trainer.create_model_card()


if __name__ == "__main__":
    main(*TrlParser((RPOScriptArguments, RPOConfig)).parse_args_and_config())
