"""A mistake is told in a second: what a command takes is read from sources, and is what the trainer's configuration says."""

import subprocess
import sys
from importlib import import_module

import pytest
import yaml
from trl import TrlParser

from arr_trl.cli.arguments import parse_early, with_config_files
from arr_trl.cli.command import TRAINERS, command_of
from arr_trl.cli.doctor import command_for
from arr_trl.cli.judge_train import CONFIGS, _parser
from arr_trl.cli.light_config import light
from arr_trl.cli.train import read_early
from arr_trl.shipped import file_or_shipped, names


HEAVY = {"torch", "transformers", "diffusers", "datasets", "peft", "accelerate"}
MISTAKES = """
import sys
from arr_trl.cli.main import main
for line in sys.stdin:
    try:
        main(line.split())
    except SystemExit as end:
        assert end.code == (0 if "--help" in line else 2), (line, end.code)
print("loaded", *sys.modules)
"""


def options_of(kind: type) -> dict[str, list]:
    def value(of):
        return str(getattr(of, "value", of))

    return {
        a.dest: [
            a.option_strings, getattr(a.type, "__name__", None), [value(c) for c in a.choices or []], value(a.default), a.nargs,
            a.help,
        ]
        for a in TrlParser((kind,))._actions
    }  # fmt: skip


@pytest.fixture(scope="module")
def mistakes(tmp_path_factory) -> tuple[str, str, set[str]]:
    """What a process says to one mistake after the other, and which modules it has loaded in the end."""
    folder = tmp_path_factory.mktemp("mistakes")
    (folder / "typo.yaml").write_text("learning_rat: 1e-4\n")
    (folder / "value.yaml").write_text("max_steps: many\n")
    runs = [
        "rpo --learnign_rate 1",
        "rpo",
        "nft --help",
        "dpo --max_steps three",
        f"grpo --config {folder}/typo.yaml",
        f"grpo --config {folder}/value.yaml",
        "rpo --config rpo_flx",
        "rpo --config tiny_scenes_rpo --num_generations 3",
        "grpo --config tiny_scenes_grpo --noise_level -1",
        "rpo --model_name_or_path m --dataset_name d --judge_model a --judge_score_range 1",
        "align-prop --model_name_or_path m --dataset_name d --eval_strategy steps --eval_steps 1",
        "align-prop --model_name_or_path m --dataset_name d --offload_blocks --gradient_checkpointing false",
        "doctor rpo --learnign_rate 1",
        "quickstart --max_stps 1",
        "judge train --model_name_or_path m --judge_preset p --dataset_name d --methd gcpo",
        "judge train --method traces",
    ]
    done = subprocess.run(
        [sys.executable, "-c", MISTAKES], input="\n".join(runs), capture_output=True, text=True, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    said, _, loaded = done.stdout.partition("loaded ")
    return said, done.stderr, set(loaded.split())


def test_mistakes_are_told_before_anything_heavy_is_imported(mistakes):
    _, told, loaded = mistakes
    assert not HEAVY & loaded
    told = [line.removeprefix("arr-trl: ") for line in " ".join(told.split()).split("arr-trl: ")[1:]]
    for said, expected in zip(
        told,
        [
            "There is no option `learnign_rate`; did you mean `learning_rate`?",
            "`model_name_or_path` and `dataset_name` are needed",
            "--max_steps: invalid int value: 'three'",
            "There is no option `learning_rat`; did you mean `learning_rate`?",
            "max_steps: 'many' has to be a whole number.",
            "did you mean `rpo_flux`?",
            "make the product a multiple of 3.",
            "noise_level=-1.0 must be greater than 0.",
            "has to be two numbers, worst and best score.",
            "eval_strategy=steps needs `eval_dataset_split`",
            "offload_blocks=True needs gradient_checkpointing=True",
            "did you mean `learning_rate`?",
            "did you mean `max_steps`?",
            "There is no option `methd`; did you mean `method`?",
            "the following arguments are required: --model_name_or_path",
        ],
        strict=True,
    ):
        assert expected in said


def test_help_needs_no_trainer(mistakes):
    said, _, _ = mistakes
    assert "usage: arr-trl nft [--config FILE]" in said
    assert "--learning_rate" in said


@pytest.mark.parametrize("path", [*(command_of(name).config for name in TRAINERS), *sorted(set(CONFIGS.values()))])
def test_options_read_from_sources_are_those_of_the_configuration(path):
    module, name = path.rsplit(".", 1)
    kind = getattr(import_module(module), name)
    stand_in = light(module, name)
    assert stand_in is not kind
    options, of_sources = options_of(kind), options_of(stand_in)
    assert of_sources.keys() == options.keys()
    differ = {name for name, option in options.items() if of_sources[name] != option}
    # a default that transformers chooses when it has looked for torch, and a type that is one of accelerate
    assert differ <= {"optim", "parallelism_config"}


def test_what_a_run_takes_is_not_refused_before_it():
    read = 0
    for name in names("configs"):
        settings = yaml.safe_load(file_or_shipped("configs", name, "--config").read_text())
        if "method" not in settings and {"model_name_or_path", "output_dir"} <= settings.keys():
            rows = [] if "dataset_name" in settings else ["--dataset_name", "d", "--eval_dataset_split", "test"]
            argv = ["--config", name, *rows]
            assert read_early(command_for(argv), with_config_files(argv)) is not None, name
            read += 1
    assert read > 25
    argv = "--model_name_or_path m --dataset_name d --offload_blocks --gradient_checkpointing false"
    assert read_early(command_of("nft"), [*argv.split(), "--activation_checkpointing", "true"]) is not None


@pytest.mark.parametrize("method", CONFIGS)
def test_what_trains_a_judge_is_not_refused_before_it(method):
    """TRL fills in some settings itself, which are not known then."""
    argv = f"--model_name_or_path m --judge_preset p --dataset_name d --output_dir o --method {method}"
    early = parse_early(_parser(method, light(*CONFIGS[method].rsplit(".", 1))), argv.split())
    assert early is None or early[0].method == method


def test_a_source_that_does_not_tell_is_no_mistake_of_the_user():
    with pytest.raises(LookupError, match="defines no Missing"):
        light("arr_trl.shipped", "Missing")
    with pytest.raises(LookupError, match="has no source"):
        light("no_such_package.module", "Anything")
