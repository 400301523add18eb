"""What a run leaves behind: its adapter or its transformer, of whichever step is released, and the card beside it."""

from pathlib import Path
from typing import Any

import torch

from ..adapter_names import TRANSFORMER_FOLDER
from ..release import read_transformer, save_adapter, save_transformer, write_model_card
from ..runtime.checkpoints import CheckpointError
from ..runtime.full_weights import FullWeights
from .card import adapter_card
from .ema import average_in, released_weights
from .frozen_copies import adapter_of, load_frozen_copies, save_frozen_copies


class ReleasedAdapter:
    """A part of [`FlowTrainer`], named before `Trainer`."""

    @property
    def adapter_folder(self) -> Path:
        """Where [`~FlowTrainer.save_model`] puts the adapter."""
        return Path(self.args.output_dir) / self.args.adapter_subfolder

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        model = self.accelerator.unwrap_model(self.model)
        if self._writing is None:
            with released_weights(model):
                super().save_model(output_dir, _internal_call)
            return
        super().save_model(output_dir, _internal_call)  # of a checkpoint, also of one that holds the model alone
        save_frozen_copies(model, output_dir, self.args.should_save)

    def _release_checkpoint(self, checkpoint: Path) -> None:
        average, model = average_in(checkpoint), self.accelerator.unwrap_model(self.model)
        if isinstance(model, FullWeights):
            weights = model.as_released(read_transformer(checkpoint / TRANSFORMER_FOLDER) | average)
            save_transformer(model.transformer, self.adapter_folder / TRANSFORMER_FOLDER, weights)
            return
        if not average:
            super()._release_checkpoint(checkpoint)
            return
        save_adapter(model, self.adapter_folder, self.policy.pipeline_class, state_dict=average)

    def _load_best_model(self) -> None:
        model = self.accelerator.unwrap_model(self.model)
        if isinstance(model, FullWeights) and not self.is_deepspeed_enabled:
            self._load_from_checkpoint(self.state.best_model_checkpoint)
        else:
            super()._load_best_model()
        self._loaded_step = int(Path(self.state.best_model_checkpoint).name.rpartition("-")[2])
        load_frozen_copies(model, self.state.best_model_checkpoint)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        trained = self.accelerator.unwrap_model(self.model if model is None else model)
        if not isinstance(trained, FullWeights):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        trained.add_copies()  # of shards, which are still those of the base
        try:
            trained.load_whole(read_transformer(Path(resume_from_checkpoint, TRANSFORMER_FOLDER)))
        except (FileNotFoundError, ValueError) as error:
            raise CheckpointError(
                f"A run with use_peft=False cannot go on from {resume_from_checkpoint}: {error} Resume with the settings of "
                "the run that wrote it, or leave out `resume_from_checkpoint` to begin again."
            ) from error

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """
        Write the adapter: to its subfolder when `output_dir` is the run's own, so that several adapters can share a
        repository, and to the folder itself for checkpoints. Where all weights are trained they go to `transformer` in it:
        in float32 into a checkpoint, and in the precision of the base into what is released.
        """
        if not self.args.should_save:
            return
        output_dir = Path(output_dir or self.args.output_dir)
        folder = self.adapter_folder if output_dir == Path(self.args.output_dir) else output_dir
        model = self.accelerator.unwrap_model(self.model)
        if isinstance(model, FullWeights):
            weights = model.whole(state_dict)
            weights = weights if self._writing is not None else model.as_released(weights)
            save_transformer(model.transformer, folder / TRANSFORMER_FOLDER, weights)
            return
        save_adapter(model, folder, self.policy.pipeline_class, state_dict=state_dict)

    def create_model_card(
        self,
        model_name: str | None = None,
        dataset_name: str | list[str] | None = None,
        tags: str | list[str] | None = None,
    ) -> None:
        """
        Write README.md to `output_dir`, or bring this adapter's section of it up to date.

        Args:
            model_name (`str`, *optional*): unused; the sections are named after the adapters.
            dataset_name (`str` or `list[str]`, *optional*): datasets on the Hub that the prompts came from.
            tags (`str` or `list[str]`, *optional*): unused; the tags follow from what the card holds.
        """
        if not self.is_world_process_zero():
            return
        if dataset_name is not None:  # kept for the cards of later pushes
            self._dataset_names = [dataset_name] if isinstance(dataset_name, str) else dataset_name
        belongs = self._evaluated[0] == self._weights_step  # to the weights that are released with this card
        card = adapter_card(
            self.args,
            self.policy,
            adapter_of(self.accelerator.unwrap_model(self.model)),
            self.reward_funcs,
            self.state.log_history,
            self.accelerator.num_processes,
            type(self),
            self._card_row,
            self._compared_by,
            datasets=self._dataset_names,
            results=self.evaluation if belongs else None,
            train_seconds=self._train_seconds,
            released=self.released if self.state.global_step else None,
            gallery=self._gallery if belongs else [],
            **self._card_facts(),
        )
        write_model_card(self.args.output_dir, card)

    def _card_facts(self) -> dict[str, Any]:
        """What else the card says of a run of this kind, as [`~arr_trl.release.AdapterCard`] takes it."""
        return {}
