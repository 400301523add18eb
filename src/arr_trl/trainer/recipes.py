"""Recipes: configurations that ship with the package, or YAML files like them, as what a trainer takes in Python."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml
from peft import LoraConfig

from ..shipped import file_or_shipped
from ..text_files import read_text


# what such a file says beside a trainer's configuration: the options of the command that trains
OF_THE_COMMAND = re.compile(
    r"model_name_or_path|(eval_)?dataset_\w+|data_files|\w+_column|rubric|base_url|api_key_env|judge_\w+|(init_)?lora_\w+|"
    r"(reward|eval|watch)_funcs"
)


def settings_of(recipe: str | Path, known: Collection[str], config: str) -> dict[str, Any]:
    """
    Those settings of a recipe that a configuration has.

    Args:
        recipe (`str` or `Path`): name of a configuration that ships, such as `"rpo_flux"`, or a YAML file.
        known (`Collection[str]`): the fields of the configuration.
        config (`str`): what it is called.

    Raises:
        `FileNotFoundError`: when there is no such recipe.
        `ValueError`: when it has a setting of another trainer.
    """
    settings = _read(recipe)
    for name in settings:
        if name not in known and not OF_THE_COMMAND.fullmatch(name):
            raise ValueError(
                f"The recipe {recipe} sets `{name}`, which is no setting of {config}; take the configuration of the trainer "
                "that it is for."
            )
    return {name: value for name, value in settings.items() if name in known}


def lora_from_recipe(recipe: str | Path) -> LoraConfig:
    """
    The adapter of a recipe, as a trainer's `peft_config`; [`RPOConfig.from_recipe`] has the rest of it.

    Args:
        recipe (`str` or `Path`): name of a configuration that ships, such as `"rpo_flux"`, or a YAML file.

    Returns:
        [`~peft.LoraConfig`]: rank 16 and alpha 32 where the recipe does not say.

    Raises:
        `FileNotFoundError`: when there is no such recipe.
    """
    settings = _read(recipe)
    return LoraConfig(
        r=settings.get("lora_r", 16),
        lora_alpha=settings.get("lora_alpha", 32),
        target_modules=settings.get("lora_target_modules"),
        init_lora_weights=settings.get("init_lora_weights", True),
    )


def _read(recipe: str | Path) -> dict[str, Any]:
    return yaml.safe_load(read_text(file_or_shipped("configs", str(recipe), "recipe")))
