"""What a run leaves behind: its adapter, of whichever step is released, and the card beside it."""

from pathlib import Path
from typing import Any

from ..release import save_adapter, write_model_card
from .card import adapter_card
from .ema import average_in, released_weights
from .frozen_adapters import load_frozen_copies, save_frozen_copies


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
        average = average_in(checkpoint)
        if not average:
            super()._release_checkpoint(checkpoint)
            return
        model = self.accelerator.unwrap_model(self.model)
        save_adapter(model, self.adapter_folder, self.policy.pipeline_class, state_dict=average)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        self._loaded_step = int(Path(self.state.best_model_checkpoint).name.rpartition("-")[2])
        load_frozen_copies(self.accelerator.unwrap_model(self.model), self.state.best_model_checkpoint)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """
        Write the adapter: to its subfolder when `output_dir` is the run's own, so that several adapters can share a
        repository, and to the folder itself for checkpoints.
        """
        if not self.args.should_save:
            return
        output_dir = Path(output_dir or self.args.output_dir)
        folder = self.adapter_folder if output_dir == Path(self.args.output_dir) else output_dir
        model = self.accelerator.unwrap_model(self.model)
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
            self.model.peft_config["default"],
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
