"""Rubric Policy Optimization: candidates are sampled, compared by reward functions, and the preferred ones reinforced."""

import torch

from ..objectives import rpo_advantages
from .rpo_config import RPOConfig
from .trajectory_trainer import TrajectoryTrainer


class RPOTrainer(TrajectoryTrainer):
    """
    Trainer for Rubric Policy Optimization (RPO), proposed in [Auto-Rubric as
    Reward](https://huggingface.co/papers/2605.08354), for the flow-matching pipelines of diffusers.

    Example:

    ```python
    from arr_trl import RPOConfig, RPOTrainer, Rubric, RubricJudge
    from datasets import load_dataset

    judge = RubricJudge(
        rubric=Rubric.load("rubric.json"), model="Qwen/Qwen3-VL-8B-Instruct", base_url="http://localhost:8000/v1"
    )
    trainer = RPOTrainer(
        model="black-forest-labs/FLUX.1-dev",
        reward_funcs=judge,
        args=RPOConfig(output_dir="ARR-FLUX.1-dev"),
        train_dataset=load_dataset("json", data_files="prompts.jsonl", split="train"),
    )
    trainer.train()
    ```

    Args:
        model (`str`, [`~diffusers.DiffusionPipeline`] or [`FlowPolicy`]):
            What is trained: a model id on the Hub, a local folder, a pipeline, or a policy for one.
        reward_funcs (`RewardFunc` or `list[RewardFunc]`):
            One or more callables `f(prompts, completions, **columns) -> list[float | None]` in TRL's protocol, sync or
            async. `completions` are PIL images, the candidates of a prompt adjacent; the other columns of the dataset
            come as keyword arguments, with `num_generations`, `trainer_state`, `log_extra` and `log_metric`. Only the
            order of the rewards within a prompt counts. `None` means that there is no answer: the function is left out
            for that prompt, and a prompt that no function answered is masked.
        args ([`RPOConfig`], *optional*):
            Configuration. If `None`, a default one is used.
        train_dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`]):
            Rows with a `prompt` column of text. Pipelines that edit pictures need a `source_image` column, with a
            picture of any kind that [`~arr_trl.data.load_image`] takes, or a list of them for several references.
            Other columns pass through to the reward functions.
        eval_dataset ([`~datasets.Dataset`], *optional*):
            Rows on which the trained model is compared with the base, under fixed noise.
        eval_funcs (`Callable` or `list[Callable]`, *optional*):
            Ground truths, called like reward functions; each returns one `dict[str, bool]` per image, the criteria it
            checked. Reported as success rates of base and trained.
        peft_config ([`~peft.LoraConfig`], *optional*):
            The adapter. Defaults to LoRA of rank 16 and alpha 32. Without `target_modules` those of the family's
            published adapter are taken. Not with `adapter_path`, whose adapter has a configuration of its own.
        callbacks (`list` of [`~transformers.TrainerCallback`], *optional*):
            Callbacks to customise the training loop.
        optimizers (`tuple`, *optional*, defaults to `(None, None)`):
            Optimizer and learning-rate scheduler.
        watch_funcs (`RewardFunc` or `list[RewardFunc]`, *optional*):
            Called like reward functions on a share of the rollouts (`watch_every`) and on every evaluation, and never
            rewarding: a second judge or a scorer, by which it is seen when the reward is gamed.
    """

    _tag_names = ["arr_trl", "rpo"]
    _name = "RPO"
    _paper = {
        "title": "Auto-Rubric as Reward: From Implicit Preference to Explicit Generative Criteria",
        "id": "2605.08354",
    }

    _config_class = RPOConfig

    args: RPOConfig

    def _compute_advantages(self, rewards_NF: torch.Tensor) -> torch.Tensor:
        return rpo_advantages(
            self._combine_rewards(rewards_NF, self.args.num_generations),
            self.args.positive_reward,
            self.args.negative_reward,
            self.args.center_rewards,
        ).to(self.accelerator.device)
