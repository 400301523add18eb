# /// script
# requires-python = ">=3.10"
# dependencies = ["arr_trl"]
# ///
"""
A subclass that changes the advantage: a pair counts by how far its rewards are apart, in place of +1 and -0.1. On
TinyScenes:

python examples/scripts/margin_advantage.py \
    --config examples/configs/tiny_scenes_rpo.yaml \
    --model_name_or_path src/arr_trl/tiny_scenes/tiny-flux \
    --dataset_name examples/prompts/tiny_scenes.txt \
    --output_dir outputs/margin_advantage
"""

import torch
from trl import TrlParser

from arr_trl import RPOConfig, RPOTrainer
from arr_trl.cli.rpo import RPOScriptArguments
from arr_trl.data import load_prompts
from arr_trl.tiny_scenes import success


class MarginTrainer(RPOTrainer):
    """RPO whose advantage is the reward minus the mean of its prompt."""

    def _compute_advantages(self, rewards_NF: torch.Tensor) -> torch.Tensor:
        rewards_PN = self._combine_rewards(rewards_NF, self.args.num_generations)
        advantages_PN = rewards_PN - rewards_PN.mean(1, keepdim=True)
        # NaN masks a prompt: one that has no reward is NaN already, one whose candidates are level says nothing
        level_P = (rewards_PN == rewards_PN[:, :1]).all(1)
        return torch.where(level_P[:, None], torch.nan, advantages_PN).to(self.accelerator.device)


def criteria_met(prompts, completions, **columns):
    """How many of the four criteria of TinyScenes a picture meets."""
    return [float(sum(check.values())) for check in success(prompts, completions)]


def main(script_args: RPOScriptArguments, training_args: RPOConfig) -> None:
    trainer = MarginTrainer(
        model=script_args.model_name_or_path,
        reward_funcs=criteria_met,
        args=training_args,
        train_dataset=load_prompts(script_args.dataset_name),
    )
    trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
    trainer.save_model()
    trainer.create_model_card()


if __name__ == "__main__":
    main(*TrlParser((RPOScriptArguments, RPOConfig)).parse_args_and_config())
