"""The schema of a command's files takes every one that ships, and refuses what the command refuses."""

import json

import jsonschema
import pytest
import yaml

from arr_trl.cli.command import TRAINERS
from arr_trl.cli.doctor import command_for
from arr_trl.cli.main import main
from arr_trl.shipped import file_or_shipped, names


@pytest.fixture(scope="module")
def schemas(tmp_path_factory):
    folder = tmp_path_factory.mktemp("schemas")
    for command in TRAINERS:
        assert main(["schema", command, "--output", str(folder / f"{command}.json")]) == 0
    return {command: json.loads((folder / f"{command}.json").read_text()) for command in TRAINERS}


def test_every_configuration_that_ships_for_a_trainer_is_valid(schemas):
    validators = {command: jsonschema.Draft202012Validator(schema) for command, schema in schemas.items()}
    tried = 0
    for name in names("configs"):
        settings = yaml.safe_load(file_or_shipped("configs", name, "--config").read_text())
        if "method" in settings or not {"model_name_or_path", "output_dir"} <= settings.keys():
            continue  # of a command that trains no generator
        errors = [error.message for error in validators[command_for(["--config", name]).name].iter_errors(settings)]
        assert not errors, f"{name}: {errors}"
        tried += 1
    assert tried > 25


@pytest.mark.parametrize("wrong", [
    {"learning_rat": 1e-4}, {"height": "tall"}, {"sde_type": "cpx"}, {"bf16": "perhaps"}, {"lora_r": "many"},
])  # fmt: skip
def test_what_the_command_refuses_is_not_valid(schemas, wrong):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schemas["rpo"])


def test_an_editor_can_say_what_a_setting_is(schemas):
    assert "noise" in schemas["rpo"]["properties"]["noise_level"]["description"]
    assert schemas["rpo"]["properties"]["height"]["default"] == 512
    assert "num_train_points" not in schemas["rpo"]["properties"]
