# /// script
# requires-python = ">=3.10"
# dependencies = ["arr_trl"]
# ///
"""
Train towards a reward function of your own, without a judge. On TinyScenes, on a CPU:

python examples/scripts/own_reward.py \
    --config examples/configs/tiny_scenes_rpo.yaml \
    --model_name_or_path src/arr_trl/tiny_scenes/tiny-flux \
    --dataset_name examples/prompts/tiny_scenes.txt \
    --output_dir outputs/own_reward

On FLUX.1-dev:

python examples/scripts/own_reward.py \
    --config examples/configs/rpo_flux.yaml \
    --dataset_name prompts.jsonl \
    --output_dir outputs/own_reward
"""

import numpy as np
from trl import TrlParser

from arr_trl import RPOConfig, RPOTrainer
from arr_trl.cli.rpo import RPOScriptArguments
from arr_trl.data import load_prompts


def warmth(prompts, completions, log_metric=None, **columns):
    """Red minus blue. Only the order within a prompt counts, so the scale does not matter."""
    means = [np.asarray(image, dtype=float).mean((0, 1)) for image in completions]
    rewards = [float(red - blue) for red, _, blue in means]
    if log_metric is not None:
        log_metric("warmth/mean", sum(rewards) / len(rewards))
    return rewards


def main(script_args: RPOScriptArguments, training_args: RPOConfig) -> None:
    trainer = RPOTrainer(
        model=script_args.model_name_or_path,
        reward_funcs=warmth,
        args=training_args,
        train_dataset=load_prompts(script_args.dataset_name),
    )
    trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
    trainer.save_model()
    trainer.create_model_card()


if __name__ == "__main__":
    main(*TrlParser((RPOScriptArguments, RPOConfig)).parse_args_and_config())
