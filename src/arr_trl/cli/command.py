"""The commands that train: what each takes, with configuration and trainer by name, so that to ask imports neither."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .launch import LAUNCH_HELP
from .light_config import light
from .train_arguments import TrainArguments, build_rewards, load_prompt_datasets


if TYPE_CHECKING:
    from trl import TrlParser

    from ..trainer import FlowConfig, FlowTrainer

TRAINERS = ("rpo", "grpo", "nft", "align-prop", "dpo")


@dataclass(frozen=True)
class TrainCommand:
    """
    A command that trains.

    Args:
        name (`str`): such as `rpo`.
        description (`str`): what its help says it does.
        arguments (`type`): a dataclass of its options, [`TrainArguments`] or a subclass.
        config (`str`): dotted path of its trainer's configuration, whose fields are options too.
        trainer (`str`): dotted path of its trainer.
        load_rewards (`Callable`, *optional*, defaults to [`build_rewards`]):
            Takes both sets of options and returns the trainer's arguments that measure pictures.
        load_datasets (`Callable`, *optional*, defaults to [`load_prompt_datasets`]):
            Takes both sets of options and returns the trainer's arguments that hold rows.
    """

    name: str
    description: str
    arguments: type[TrainArguments]
    config: str
    trainer: str
    load_rewards: "Callable[[TrainArguments, FlowConfig], dict[str, Any]]" = build_rewards
    load_datasets: "Callable[[TrainArguments, FlowConfig], dict[str, Any]]" = load_prompt_datasets

    def config_class(self) -> "type[FlowConfig]":
        """The configuration, which imports what its trainer needs."""
        return _named(self.config)

    def trainer_class(self) -> "type[FlowTrainer]":
        """The trainer."""
        return _named(self.trainer)

    def light_config_class(self) -> type:
        """The configuration's options and checks, without what it imports where its sources tell them."""
        return light_or_imported(self.config)

    def parser(self, config_class: type) -> "TrlParser":
        """What reads its options, with one of these two configurations."""
        from trl import TrlParser

        return TrlParser(
            (self.arguments, config_class),
            prog=f"arr-trl {self.name}",
            description=self.description,
            epilog=LAUNCH_HELP,
        )


def command_of(name: str) -> TrainCommand:
    """The command of a name of [`TRAINERS`]."""
    return import_module(f"arr_trl.cli.{name.replace('-', '_')}").COMMAND


def light_or_imported(path: str) -> type:
    """The configuration of a dotted path, as [`~arr_trl.cli.light_config.light`] or, where its sources do not tell, as it is."""
    try:
        return light(*path.rsplit(".", 1))
    except LookupError:
        return _named(path)


def _named(path: str) -> type:
    module, name = path.rsplit(".", 1)
    return getattr(import_module(module), name)
