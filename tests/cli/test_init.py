"""`arr-trl init` and `arr-trl quickstart`: what is begun loads and runs."""

import json
import re
from pathlib import Path

import pytest
import yaml
from PIL import Image
from trl import TrlParser

from arr_trl import DiffusionNFTConfig, FlowGRPOConfig, RPOConfig, Rubric
from arr_trl.cli.arguments import parse
from arr_trl.cli.init import families
from arr_trl.cli.main import main
from arr_trl.cli.train_arguments import TrainArguments, load_prompt_datasets


CONFIGS = {"rpo": RPOConfig, "grpo": FlowGRPOConfig, "nft": DiffusionNFTConfig}


@pytest.mark.parametrize("family", families())
def test_project_of_every_family_loads(family, tmp_path, monkeypatch, capsys):
    assert main(["init", family, str(tmp_path / "project")]) == 0
    (command,) = re.findall(r"arr-trl doctor (\w+) --config train.yaml", capsys.readouterr().out)
    monkeypatch.chdir(tmp_path / "project")
    cpu = ["--use_cpu", "true", "--bf16", "false"]
    script_args, args = parse(TrlParser((TrainArguments, CONFIGS[command])), ["--config", "train.yaml", *cpu])
    assert script_args.model_name_or_path
    assert args.output_dir == "adapter"
    rows = load_prompt_datasets(script_args, args)
    assert len(rows["train_dataset"]) >= args.prompts_per_rollout
    assert len(rows["eval_dataset"]) == 16
    assert (
        not set(rows["train_dataset"]["prompt"]) & set(rows["eval_dataset"]["prompt"])
        or "source_image" in rows["train_dataset"].column_names
    )
    rubric = Rubric.load(script_args.rubric[0])
    settings = Path("train.yaml").read_text(encoding="utf-8")
    assert (rubric.task == "image-editing") == ("source_image" in rows["train_dataset"].column_names)
    assert rubric.task == "text-to-image" or "condition_size" in yaml.safe_load(settings)
    readme = Path("README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^arr-trl (\S+)", readme, re.MULTILINE)
    assert commands == ["doctor", command, "evaluate", "push"]
    assert ("vllm serve" in readme) == (family != "tiny_scenes")
    assert "examples/" not in settings.split("\n\n", 1)[0]


def test_sources_of_an_editing_project_are_pictures(tmp_path):
    assert main(["init", "qwen_image_edit", str(tmp_path)]) == 0
    rows = [json.loads(line) for line in (tmp_path / "prompts" / "train.jsonl").read_text().splitlines()]
    assert Image.open(tmp_path / "prompts" / rows[0]["source_image"]).size == (256, 256)


def test_a_project_overwrites_nothing_and_a_recipe_that_is_not_there_is_told(tmp_path, capsys):
    (tmp_path / "train.yaml").write_text("mine")
    with pytest.raises(SystemExit, match="2"):
        main(["init", "flux", str(tmp_path)])
    assert "has train.yaml already" in capsys.readouterr().err
    assert (tmp_path / "train.yaml").read_text() == "mine"
    with pytest.raises(SystemExit, match="2"):
        main(["init", "sd3", str(tmp_path / "new"), "--trainer", "rpo"])
    assert "There is no recipe of rpo for sd3; there is one of grpo and nft." in capsys.readouterr().err


def test_quickstart_runs_the_command_that_it_names_with_what_is_added(monkeypatch, capsys):
    called = []
    monkeypatch.setattr("arr_trl.cli.quickstart.train", lambda argv, of: called.append([of.name, *argv]) or 0)
    assert main(["quickstart"]) == main(["quickstart", "--rpo"]) == 0
    assert main(["quickstart", "--edit", "--max_steps", "3"]) == 0
    assert called == [
        ["nft", "--config", "tiny_scenes_nft"], ["rpo", "--config", "tiny_scenes_rpo"],
        ["nft", "--config", "tiny_scenes_nft_edit", "--max_steps", "3"],
    ]  # fmt: skip
    assert "arr-trl nft --config tiny_scenes_nft_edit --max_steps 3" in capsys.readouterr().out


def test_quickstart_trains_the_judge_that_it_trains_under(monkeypatch, capsys):
    called, made = [], [1, 0]
    monkeypatch.setattr("arr_trl.cli.judge.run", lambda argv: called.append(argv) or made.pop(0))
    monkeypatch.setattr("arr_trl.cli.quickstart.train", lambda argv, of: called.append([of.name, *argv]) or 0)
    assert main(["quickstart", "--judge"]) == 1  # there is no judge, and nothing to train under
    assert main(["quickstart", "--judge", "--max_steps", "3"]) == 0
    judge = ["train", "--config", "tiny_scenes_judge"]
    assert called == [judge, judge, ["nft", "--config", "tiny_scenes_nft_judge", "--max_steps", "3"]]
    assert "arr-trl judge train --config tiny_scenes_judge" in capsys.readouterr().out


def test_quickstart_makes_the_pairs_that_it_trains_on(monkeypatch, capsys):
    called, made = [], [1, 0]
    monkeypatch.setattr("arr_trl.cli.pairs.run", lambda argv: called.append(argv) or made.pop(0))
    monkeypatch.setattr("arr_trl.cli.quickstart.train", lambda argv, of: called.append([of.name, *argv]) or 0)
    assert main(["quickstart", "--dpo"]) == 1  # there are no pairs, and nothing to train on
    assert main(["quickstart", "--dpo", "--max_steps", "3"]) == 0
    pairs = ["rich", "--config", "tiny_scenes_rich"]
    assert called == [pairs, pairs, ["dpo", "--config", "tiny_scenes_edit_dpo", "--max_steps", "3"]]
