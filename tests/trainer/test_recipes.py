"""A recipe in place of its settings: what it says is what the configuration has, and nothing of it is lost in silence."""

from dataclasses import fields

import pytest
import yaml

from arr_trl import DiffusionDPOConfig, DiffusionNFTConfig, FlowGRPOConfig, RPOConfig
from arr_trl.cli.train_arguments import TrainArguments
from arr_trl.shipped import file_or_shipped
from arr_trl.trainer import FlowConfig, lora_from_recipe
from arr_trl.trainer.recipes import OF_THE_COMMAND


CPU = {"use_cpu": True, "bf16": False}


@pytest.mark.parametrize(("config", "recipe"), [
    (RPOConfig, "rpo_flux"), (FlowGRPOConfig, "grpo_sd3"), (DiffusionNFTConfig, "nft_z_image"),
    (DiffusionDPOConfig, "dpo_flux_pickapic"), (RPOConfig, "tiny_scenes_rpo"),
])  # fmt: skip
def test_configuration_has_what_its_recipe_says(config, recipe):
    settings = yaml.safe_load(file_or_shipped("configs", recipe, "recipe").read_text())
    args = config.from_recipe(recipe, **CPU, max_steps=7)
    assert type(args) is config
    for name in ("learning_rate", "gradient_accumulation_steps", "num_inference_steps", "loss_type", "output_dir"):
        if name in settings:
            assert getattr(args, name) == settings[name]
    assert args.max_steps == 7
    lora = lora_from_recipe(recipe)
    assert (lora.r, lora.lora_alpha) == (settings.get("lora_r", 16), settings.get("lora_alpha", 32))


def test_adapter_of_a_recipe_begins_as_it_says(tmp_path):
    (tmp_path / "mine.yaml").write_text("init_lora_weights: gaussian\n")
    assert lora_from_recipe(str(tmp_path / "mine.yaml")).init_lora_weights == "gaussian"


def test_recipe_of_another_trainer_is_refused_by_its_setting():
    with pytest.raises(ValueError, match="grpo_flux sets `scale_rewards`, which is no setting of RPOConfig"):
        RPOConfig.from_recipe("grpo_flux", **CPU)
    with pytest.raises(FileNotFoundError, match="did you mean `rpo_flux`"):
        RPOConfig.from_recipe("rpo_fluks")


def test_what_is_the_commands_is_told_from_settings_that_a_configuration_lacks():
    of_the_command = {field.name for field in fields(TrainArguments)}
    assert all(OF_THE_COMMAND.fullmatch(name) for name in of_the_command)
    for config in (FlowConfig, RPOConfig, FlowGRPOConfig, DiffusionNFTConfig, DiffusionDPOConfig):
        own = {field.name for field in fields(config)} - of_the_command
        assert {name for name in own if OF_THE_COMMAND.fullmatch(name)} <= {"judge_ahead"}, config
