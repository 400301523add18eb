"""What TRL's trainers of language models lack to train a judge: whole checkpoints, and a release that restores it."""

import os
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from ..folders import replacing_files
from ..judges import Preset, save_preset
from ..release import Push
from ..runtime import ResumableTrainer
from ..runtime.checkpoints import fixed_fields
from ..runtime.process_state import state_file
from ..runtime.sharding import name_blocks
from ..trainer.resume_settings import identity_of_model, lora_settings
from .judge_card import JudgeFacts, write_judge_card
from .judge_release import WEIGHT_FILES, push_judge, question_of, save_weights


class JudgeTrainer(ResumableTrainer):
    """
    A mixin for TRL's trainers of language models, named before them: checkpoints and pushes of [`ResumableTrainer`], and a
    release of adapter, question and card that `--judge_preset` takes.

    Args:
        preset ([`~arr_trl.judges.Preset`]):
            The question that is trained on, which goes into the release.
        name (`str`, *optional*):
            Name of the judge; that of `output_dir` by default.
        facts ([`JudgeFacts`], *optional*):
            What the card says of the data and of what was measured.
        args ([`~transformers.TrainingArguments`]):
            The configuration.
        *positional, **kwargs:
            As of the trainer that it is mixed into; its model has to get an adapter.

    Raises:
        `ValueError`: when there would be no adapter.
    """

    def __init__(
        self,
        *positional: Any,
        args: TrainingArguments,
        preset: Preset,
        name: str | None = None,
        facts: JudgeFacts | None = None,
        **kwargs: Any,
    ):
        self.preset, self.facts = preset, facts or JudgeFacts()
        self._carries_loss = False  # of steps before a checkpoint, which were not logged yet
        self._name_of_judge = name
        self._check_repositories(args)
        super().__init__(*positional, args=args, **kwargs)
        if "default" not in getattr(self.model, "peft_config", {}):
            raise ValueError("A judge is trained as an adapter of its model; give a `peft_config`.")
        self._identity = identity_of_model("base_model", self.base_model, args.output_dir)  # it reads files

    @property
    def judge_name(self) -> str:
        """What the judge is called."""
        return self._name_of_judge or Path(self.args.output_dir).absolute().name

    @property
    def base_model(self) -> str:
        """What the adapter belongs to."""
        return self.model.peft_config["default"].base_model_name_or_path

    def card_settings(self) -> dict[str, Any]:
        """Settings that the card names."""
        args, lora = self.args, self.model.peft_config["default"]
        names = (
            "learning_rate",
            "num_train_epochs",
            "per_device_train_batch_size",
            "gradient_accumulation_steps",
            "seed",
        )
        return {name: getattr(args, name) for name in names} | {"lora_r": lora.r, "lora_alpha": lora.lora_alpha}

    def _send_telemetry(self) -> None:
        # TRL's tells Hugging Face of every run; ours sends nothing
        return

    def _prepare_for_training(self, *args, **kwargs):
        if self.accelerator.is_fsdp2:
            name_blocks(self.accelerator, self.model)
        return super()._prepare_for_training(*args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        # TRL's empties what was measured and leaves a plain dictionary no name that it has not seen
        if self._carries_loss:
            # the last line of a run that resumed: the loss of steps before it, divided by the steps after
            logs = {name: value for name, value in logs.items() if name != "train_loss"}
        super().log(logs, start_time)
        for mode in ("train", "eval"):
            self._metrics[mode] = defaultdict(list, self._metrics[mode])

    # Files

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        save_weights(self.accelerator.unwrap_model(self.model), folder, state_dict)
        if folder == Path(self.args.output_dir):
            self._save_question()

    def _save_question(self) -> None:
        rank = self.model.peft_config["default"].r
        save_preset(question_of(self.preset, self.judge_name, self.base_model, rank), self.args.output_dir)

    def create_model_card(
        self,
        model_name: str | None = None,
        dataset_name: str | list[str] | None = None,
        tags: str | list[str] | None = None,
    ) -> None:
        """
        Write README.md to `output_dir`: what the judge is asked, what it learned from, what was measured, how to use it.

        Args:
            model_name (`str`, *optional*): unused; the judge's name is its own.
            dataset_name (`str` or `list[str]`, *optional*): unused; they are in `facts`.
            tags (`str` or `list[str]`, *optional*): unused.
        """
        if not self.is_world_process_zero():
            return
        write_judge_card(
            self.args.output_dir,
            self.facts,
            self.preset,
            name=self.judge_name,
            repo=self.args.hub_model_id if self.args.push_to_hub else None,
            base_model=self.base_model,
            rank=self.model.peft_config["default"].r,
            trained=f"`{type(self).__name__}`, {self.state.global_step} steps",
            settings=self.card_settings(),
        )

    def _release_checkpoint(self, checkpoint: Path) -> None:
        with replacing_files(self.args.output_dir, WEIGHT_FILES) as written:
            for name in WEIGHT_FILES:
                shutil.copy2(checkpoint / name, written / name)
        self._save_question()

    def _send_release(self, repo_id: str, **options: Any) -> Push:
        return push_judge(self.args.output_dir, repo_id, **options)

    # What a checkpoint holds beside the adapter and the optimizer

    def _fixed_settings(self) -> dict[str, Any]:
        args = self.args
        return super()._fixed_settings() | {
            "trainer": type(self).__name__,
            "per_device_train_batch_size": args.per_device_train_batch_size,
            "gradient_accumulation_steps": args.gradient_accumulation_steps,
            "seed": args.seed,
            "preset": [self.preset.name, self.preset.version],
            **self._identity,
            **fixed_fields(args, holds_rollout=True),
            **lora_settings(self.model.peft_config["default"]),
        }

    def _owner_state(self) -> dict[str, Any]:
        return {
            "metrics": {name: [float(v) for v in values] for name, values in self._metrics["train"].items()},
            "loss": (self._tr_loss.clone(), self._globalstep_last_logged),
        }

    def _restore_owner_state(self, state: dict[str, Any]) -> None:
        self._metrics["train"] = defaultdict(list, {name: list(values) for name, values in state["metrics"].items()})
        loss, self._globalstep_last_logged = state["loss"]
        self._tr_loss.copy_(loss)
        self._carries_loss = True

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        torch.save(self._owner_state(), state_file(output_dir, self.args.process_index))

    def _load_rng_state(self, checkpoint: str | os.PathLike | None) -> None:
        super()._load_rng_state(checkpoint)
        if checkpoint is not None:
            file = state_file(checkpoint, self.args.process_index)
            self._restore_owner_state(torch.load(file, map_location=self.args.device, weights_only=True))
