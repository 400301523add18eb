"""What is measured and kept of a rollout: its metrics, its completions, what is only watched, and the canary."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..adapter_names import called
from ..data import MASK_COLUMN, SOURCE_COLUMN, places_by_size
from .alerts import warn
from .buffer import Sampled, judge_rows_of
from .completions import CompletionsRepo, judged_by, log_completions
from .hacking import agreement


logger = logging.getLogger(__name__)


class RolloutRecords:
    """A part of [`OnlineTrainer`], named before [`FlowTrainer`]."""

    def _log_rollout(self, sampled: Sampled, rewards_NF: torch.Tensor, advantages_PN: torch.Tensor) -> None:
        metrics, rows, images = self._metrics["train"], sampled.rows, sampled.images
        for i, name in enumerate(self.reward_func_names):
            metrics[f"rewards/{name}/mean"] += rewards_NF[~rewards_NF[:, i].isnan(), i].tolist()
            metrics[f"rewards/{name}/missing_rate"].append(rewards_NF[:, i].isnan().float().mean().item())
        if rewards_NF.isnan().all():
            sentence = f"No reward function answered for any of the {len(rows)} prompts of this rollout, so nothing is learned from it."
            if self.accelerator.is_main_process:
                warn("no reward", sentence, self.args, self.state.global_step + 1)
            else:
                logger.warning(sentence)
        judging_on = [device for judge in self._judges for device in judge.devices]
        if judging_on:
            metrics["judge/on_sampling_device"].append(float(str(self.accelerator.device) in judging_on))
        metrics["rollout/decided_rate"].append((~advantages_PN.isnan().all(1)).float().mean().item())
        metrics["rollout/pixel_distance"].append(_pixel_distance(images, self.args.num_generations))
        if self.args.log_completions and self.state.global_step % self.state.logging_steps == 0:
            rewards = dict(zip(self.reward_func_names, rewards_NF.T.tolist(), strict=True))
            columns = {
                **rewards,
                "advantage": advantages_PN.flatten().tolist(),
                "noise_seed": [seed for seed in sampled.seeds for _ in range(self.args.num_generations)],
                "noise_draw": self._noise_draws() * len(rows),
                **judged_by(self._judges, len(images)),
                **self._extra_logs,
            }
            self._log_completions(rows, images, columns)

    def _log_completions(
        self, rows: list[dict[str, Any]], images: list[Image.Image], columns: dict[str, list]
    ) -> None:
        """The candidates of this process, of which the main one shows the first on its sheet."""
        shown = [{name: row[name] for name in ("prompt", SOURCE_COLUMN, MASK_COLUMN) if name in row} for row in rows]
        tables = log_completions(
            Path(self.args.output_dir) / "completions",
            self.state.global_step + 1,  # as the screen and the logs of this step number it
            shown,
            images,
            columns,
            self.args.num_eval_samples,
            self.args.report_to,
            self.callback_handler.callbacks,
            self.reward_func_names,
            self.accelerator.process_index,
            self.accelerator.num_processes,
        )
        if self._completions_repo is not None:
            self._completions_repo.add(tables)

    def _finish_current_push(self) -> None:
        super()._finish_current_push()
        if self._completions_repo is not None:
            self._completions_repo.finish()

    def _completions_on_the_hub(self) -> CompletionsRepo | None:
        args = self.args
        if args.log_completions_hub_repo is None or not self.is_world_process_zero():
            return None
        folder = Path(args.output_dir) / "completions"
        repo_id, subfolder = args.log_completions_hub_repo, called(args.adapter_subfolder)
        return CompletionsRepo(repo_id, folder, subfolder, args.hub_private_repo, args.hub_token)

    def _watch_rollout(self, rows: list[dict[str, Any]], images: list[Image.Image], rewards_NF: torch.Tensor) -> None:
        """Measure what is not rewarded: how the pictures change, and now and then what `watch_funcs` say of them."""
        metrics, n = self._metrics["train"], self.args.num_generations
        self._watch_pictures(images)
        if not self.watch_funcs or self._step // self.args.steps_per_rollout % self.args.watch_every:
            return
        rewards_PN = self._combine_rewards(rewards_NF, n)
        try:
            watched_NW = self._watched(rows, images, n)
        except Exception as error:  # whatever the functions of users raise: nothing is trained on what they say
            logger.warning("What is only watched failed (%s: %s), and training goes on.", type(error).__name__, error)
            return
        for name, of_func in zip(self.watch_func_names, watched_NW.T, strict=True):
            metrics[f"watch/{name}/mean"] += of_func[~of_func.isnan()].tolist()
            metrics[f"watch/{name}/agreement"] += agreement(rewards_PN, of_func.view(-1, n))

    def _ask_canary(self, rows: list[dict[str, Any]], images: list[Image.Image]) -> None:
        """Find out, every `canary_every` steps, whether the judges still say the same of the same pairs."""
        step, failure = self.state.global_step, None
        if not self._canary.is_due(step):
            return
        if self.accelerator.is_main_process:
            try:
                moved = self._canary.ask(judge_rows_of(rows, images, self.args.num_generations), step)
                self._metrics["train"]["judge/canary"] += [] if moved is None else [moved]
            except (
                Exception
            ) as error:  # what it finds, and whatever disks and judges raise: the others wait for an answer
                failure = error
        self._stop_together(failure, "The judge of the main process is not what it was.")


def _pixel_distance(images: list[Image.Image], num_generations: int) -> float:
    """Mean absolute difference, 0 to 1, of the first two candidates of each prompt: 0 means there is nothing to judge."""
    firsts = images[::num_generations]
    total = 0.0
    for places in places_by_size([image.size for image in firsts]).values():
        first, second = (
            torch.from_numpy(np.stack([np.asarray(images[i * num_generations + k]) for i in places])).float()
            for k in (0, 1)
        )
        total += ((first - second).abs().mean() / 255).item() * len(places)
    return total / len(firsts)
