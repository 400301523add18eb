"""What README and docs say is true of the code: their code runs, their options exist, their links lead somewhere."""

import ast
import inspect
import json
import re
import runpy
import shlex
import sys
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser
from openai_server import OpenAIServer
from trl import TrlParser

import arr_trl
from arr_trl import (
    AlignPropConfig,
    DiffusionDPOConfig,
    DiffusionNFTConfig,
    FlowGRPOConfig,
    RPOConfig,
    Rubric,
)
from arr_trl.autorubric import AutoRubricConfig
from arr_trl.cli.align_prop import AlignPropScriptArguments
from arr_trl.cli.dpo import DPOScriptArguments
from arr_trl.cli.evaluate import EvaluateArguments
from arr_trl.cli.grpo import GRPOScriptArguments
from arr_trl.cli.judge_train import JudgeTrainArguments
from arr_trl.cli.main import main
from arr_trl.cli.nft import NFTScriptArguments
from arr_trl.cli.options_help import HELP_ALL
from arr_trl.cli.pairs_arguments import BestWorstArguments, FromRunArguments, RichArguments
from arr_trl.cli.rpo import RPOScriptArguments
from arr_trl.cli.rubric import GenerateArguments
from arr_trl.judge_training import FirstTokenSFTConfig, GCPOConfig
from arr_trl.judges import Preset, load_preset
from arr_trl.pairs import BestWorstConfig, RichPairsConfig
from arr_trl.tiny_scenes import BASE_MODEL, TinyScenesJudge, captions
from arr_trl.trainer import FlowConfig, GroupAdvantagesConfig, OnlineConfig, TrajectoryConfig


ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "arr_trl"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "source").glob("*.md"))]
CONFIGS = sorted((ROOT / "examples" / "configs").glob("*.yaml"))
JUDGE_CONFIGS = [path for path in CONFIGS if path.name.startswith(("judge_", "tiny_scenes_judge"))]
RUBRIC_CONFIGS = [path for path in CONFIGS if path.name.startswith("rubric_")]
PAIRS_CONFIGS = [path for path in CONFIGS if path.name.startswith(("pairs_", "tiny_scenes_rich"))]
SCRIPTS = sorted((ROOT / "examples" / "scripts").glob("*.py"))
# Of each command that trains: what it takes, and the page of its trainer.
COMMANDS = {
    "rpo": (RPOScriptArguments, RPOConfig, "rpo_trainer.md"),
    "grpo": (GRPOScriptArguments, FlowGRPOConfig, "flow_grpo_trainer.md"),
    "dpo": (DPOScriptArguments, DiffusionDPOConfig, "diffusion_dpo_trainer.md"),
    "nft": (NFTScriptArguments, DiffusionNFTConfig, "diffusion_nft_trainer.md"),
    "align-prop": (AlignPropScriptArguments, AlignPropConfig, "align_prop_trainer.md"),
}
# A block that names one of these needs a GPU, a server or the Hub.
OUTSIDE = ("black-forest-labs/", "Qwen/", "http://", '"user/', "cuda")


def named(paths):
    return pytest.mark.parametrize("path", paths, ids=lambda path: path.name)


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """Shell lines as words, continuation lines joined and comments left out."""
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def launch_lines(path: Path) -> list[list[str]]:
    """What a page, a script's docstring or the comments of a configuration tell readers to type."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return [words for block in blocks(path, "bash") for words in commands(block)]
    lines = (
        ast.get_docstring(ast.parse(text)) if path.suffix == ".py" else re.sub(r"^# ?", "", text, flags=re.MULTILINE)
    )
    starts = re.compile(r"^(?:arr-trl|python) .*?(?<!\\)$", re.MULTILINE | re.DOTALL)
    return [words for line in starts.findall(lines) for words in commands(line)]


def quickened(code: str) -> str:
    """The same code on a CPU in seconds: one training step, four prompts to evaluate on, two steps to draw them."""
    code = re.sub(r"\bmax_steps=\d+", "max_steps=1", code)
    code = re.sub(r"\brange\(\d+\)", "range(4)", code)
    added = ("" if "use_cpu" in code else "use_cpu=True, ") + (
        "eval_num_inference_steps=2, " if "height=32" in code else ""
    )
    return re.sub(r"((?:RPO|NFT|DPO|AlignProp)Config\()(?![^)]*\*\*)", rf"\1{added}", code)


BRIEFLY = [
    "--eval_dataset_name",
    "held_out.txt",
    "--eval_dataset_split",
    "train",
    "--eval_num_inference_steps",
    "2",
    "--logging_steps",
    "1",
    "--disable_tqdm",
    "true",
]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder like that of the repository, in which `make quickstart` has run, in short."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "examples").symlink_to(ROOT / "examples")
    (folder / "held_out.txt").write_text("\n".join(captions("test")[:4]))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main([
            "nft", "--config", "examples/configs/tiny_scenes_nft.yaml", "--max_steps", "2", "--eval_strategy", "steps",
            "--eval_steps", "1", "--per_device_train_batch_size", "16", "--steps_per_generation", "2",
            "--old_policy_decay", ".5", *BRIEFLY,
        ])  # fmt: skip
    return folder


@named(PAGES)
def test_python_blocks_compile(path):
    for number, code in enumerate(blocks(path, "python")):
        compile(code, f"{path.name}, block {number}", "exec")


@named([path for path in PAGES if blocks(path, "python")])
def test_python_blocks_that_need_nothing_from_outside_run(path, workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    names = {"__name__": path.stem}  # the blocks of a page follow each other
    for number, code in enumerate(blocks(path, "python")):
        if not any(word in code for word in OUTSIDE):
            exec(compile(quickened(code), f"{path.name}, block {number}", "exec"), names)


def help_of(command, capsys):
    """What a command shows of itself, and all it takes where that says that there is more."""
    for option in ("--help", HELP_ALL):
        with pytest.raises(SystemExit, match="0"):
            main([*command, option])
        yield (said := capsys.readouterr().out)
        if HELP_ALL not in said:
            return


@named([*PAGES, *SCRIPTS, *CONFIGS])
def test_commands_and_their_options_exist(path, capsys, monkeypatch):
    for words in launch_lines(path):
        if words[0] == "make":
            targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert {word for word in words[1:] if "=" not in word} <= set(targets), words
        if words[0] == "python" and words[1].endswith(".py"):
            assert (ROOT / words[1]).is_file(), words
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        if words[0] == "arr-trl":
            command = list(dict.fromkeys(word for word in words[1:3] if re.fullmatch(r"[a-z][a-z-]*", word)))
            said = "".join(help_of(command, capsys))
            if command[0] == "quickstart":  # hands on what it does not know itself
                said += "".join(help_of(["nft"], capsys))
            known = set(re.findall(r"(?<![\w-])--\w[\w-]*", said))
            if "--accelerate_config" in options:  # what the command does not know goes to `accelerate launch`
                known |= {"--accelerate_config", *launch_command_parser()._option_string_actions}
        elif scripts := [word for word in words if word.startswith("examples/scripts/")]:
            monkeypatch.setattr(sys, "argv", [scripts[0], "--help"])
            with pytest.raises(SystemExit, match="0"):
                runpy.run_path(str(ROOT / scripts[0]), run_name="__main__")
            known = set(re.findall(r"(?<![\w-])--\w[\w-]*", capsys.readouterr().out))
        else:
            continue
        assert options <= known | {"--config"}, f"{words} has options that do not exist: {options - known}"


@named([path for path in CONFIGS if path not in RUBRIC_CONFIGS + PAIRS_CONFIGS + JUDGE_CONFIGS])
def test_example_configuration_has_known_keys_and_sound_values(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    if "evaluate" in path.stem:
        (arguments,) = TrlParser((EvaluateArguments,)).parse_args_and_config(["--config", str(path)])
        assert arguments.model
        assert arguments.adapter
        return
    command = command_of(path)
    text = path.read_text(encoding="utf-8")
    assert f"arr-trl {command} --config examples/configs/{path.name}" in text or "`make quickstart" in text
    parser = TrlParser(COMMANDS[command][:2])
    script_args, training_args = parser.parse_args_and_config(["--config", str(path), "--use_cpu", "true"])
    assert script_args.model_name_or_path
    if command == "dpo":
        assert f"# {training_args.pairs_per_step} pairs for each optimizer step" in text
        return
    assert training_args.pictures_per_draw >= 1
    for rubric in script_args.rubric or []:
        Rubric.load(rubric)
    for said in re.findall(
        r"^# (\d+) (?:prompts|pairs)\b.* (\d+) (?:transitions|points)", path.read_text(), re.MULTILINE
    ):
        rows = training_args.per_device_train_batch_size * training_args.steps_per_generation
        assert tuple(map(int, said)) == (training_args.prompts_per_rollout, rows)


def command_of(config: Path) -> str:
    """The command that an example configuration is for, which its name says."""
    if "align_prop" in config.stem:
        return "align-prop"
    (command,) = {"dpo", "grpo", "nft"}.intersection(config.stem.split("_")) or {"rpo"}
    return command


@named([path for path in CONFIGS if path.name.startswith(("grpo_", "nft_"))])
def test_recipe_of_others_says_whose_settings_it_has_and_that_it_was_not_run(path):
    head = " ".join(re.findall(r"^# (.*)", path.read_text(encoding="utf-8"), re.MULTILINE)[:4])
    assert re.search(r"Settings of [\w-]+ \(https://\S+, `[\w/]+`.*\).*; not run here\.", head), head
    assert f"configs/{path.name})" in (ROOT / "docs" / "source" / "recipes.md").read_text(encoding="utf-8")


@named(RUBRIC_CONFIGS)
def test_example_configuration_of_a_rubric_has_known_keys_and_sound_values(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    parser = TrlParser((GenerateArguments, AutoRubricConfig))
    given = ["--dataset", "pairs.jsonl", "--judge_model", "m"]
    args, config, unknown = parser.parse_args_and_config(
        ["--config", str(path), *given], return_remaining_strings=True
    )
    assert not unknown
    assert args.output.startswith("outputs/")
    assert config.max_themes == 5


@named(PAIRS_CONFIGS)
def test_example_configuration_of_pairs_has_known_keys_and_sound_values(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    classes = {
        "rich": (RichArguments, RichPairsConfig),
        "best-worst": (BestWorstArguments, BestWorstConfig),
        "from-run": (FromRunArguments,),
    }
    (command,) = [name for name in classes if name.replace("-", "_") in path.stem]
    text = path.read_text(encoding="utf-8")
    assert f"arr-trl pairs {command} " in text or "`make quickstart" in text
    args, *_, unknown = TrlParser(classes[command]).parse_args_and_config(
        ["--config", str(path)], return_remaining_strings=True
    )
    assert not unknown
    assert args.output.startswith("outputs/")
    for rubric in getattr(args, "rubric", None) or []:
        Rubric.load(rubric)


@named(JUDGE_CONFIGS)
def test_example_configuration_of_a_judge_has_known_keys_and_says_whether_it_was_run(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    text = path.read_text(encoding="utf-8")
    assert ("not run here" in text) == path.name.startswith("judge_")
    assert f"arr-trl judge train --config examples/configs/{path.name}" in text or "`make quickstart" in text
    assert f"configs/{path.name})" in (ROOT / "docs" / "source" / "recipes.md").read_text(encoding="utf-8")
    on_traces = "gcpo" in path.name or "thurstone" in path.name
    parser = TrlParser((JudgeTrainArguments, GCPOConfig if on_traces else FirstTokenSFTConfig))
    given = ["--dataset_name", "pairs.jsonl", "--use_cpu", "true", "--bf16", "false"]
    args, config, unknown = parser.parse_args_and_config(
        ["--config", str(path), *given], return_remaining_strings=True
    )
    assert not unknown
    assert load_preset(args.judge_preset).kind == "pointwise"
    if "gcpo" in path.name:
        assert f"# {config.pairs_per_step} pairs of 2 × {config.num_generations} traces" in text


def test_rubrics_and_presets_in_the_pages_are_some():
    found = [json.loads(block) for path in PAGES for block in blocks(path, "json")]
    kinds = {Preset if "asks" in data else Rubric for data in found}
    assert kinds == {Preset, Rubric}
    for data in found:
        (Preset if "asks" in data else Rubric).model_validate(data)


@named(PAGES)
def test_links_lead_somewhere(path):
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        page = (path.parent / file).resolve() if file else path
        assert page.exists(), f"{path.name} links to {target}"
        assert not anchor or anchor in anchors(page), f"{path.name} links to {target}"


@named(PAGES)
def test_pictures_are_there_and_small(path):
    text = path.read_text(encoding="utf-8")
    for file in re.findall(r"!\[[^\]]*\]\(([^)]+)\)|(?:src|srcset)=\"([^\"]+\.png)\"", text):
        (name,) = filter(None, file)
        picture = path.parent / name
        assert picture.is_file(), f"{path.name} shows {name}"
        assert picture.stat().st_size < 150_000, f"{name} takes long to load"


def anchors(page: Path) -> set[str]:
    """The names GitHub gives to headings; a repeated one is numbered."""
    seen: dict[str, int] = {}
    found = set()
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        name = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.add(f"{name}-{seen[name]}" if name in seen else name)
        seen[name] = seen.get(name, 0) + 1
    return found


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "source" / "index.md").read_text(encoding="utf-8")
    assert {path.name for path in PAGES[1:]} - {"index.md"} == set(re.findall(r"\]\((\w+\.md)\)", index))


@pytest.mark.parametrize(
    "config",
    [
        FlowConfig,
        OnlineConfig,
        TrajectoryConfig,
        RPOConfig,
        GroupAdvantagesConfig,
        FlowGRPOConfig,
        DiffusionNFTConfig,
        AlignPropConfig,
        DiffusionDPOConfig,
        FirstTokenSFTConfig,
        GCPOConfig,
    ],
)
def test_every_field_of_the_configuration_is_documented_with_its_default(config):
    documented = dict(re.findall(r"^ {8}(\w+) \((.*)\):$", config.__doc__, re.MULTILINE))
    said_here = {field.name: field for field in fields(config) if field.name in inspect.get_annotations(config)}
    # what a base has is documented there, and here where it means more
    assert said_here.keys() - inherited_fields(config) <= documented.keys() <= said_here.keys()
    for name, field in said_here.items():
        assert field.metadata["help"], name
    for name, types in documented.items():
        field = said_here[name]
        assert field.default is not MISSING
        default = re.search(r"defaults to `(.*)`$", types)
        said = None if default is None else float("inf") if default[1] == "inf" else ast.literal_eval(default[1])
        assert said == field.default, f"{name}: the docstring says {said!r}, the code {field.default!r}"


def inherited_fields(config) -> set[str]:
    return {field.name for base in config.__mro__[1:] if is_dataclass(base) for field in fields(base)}


@pytest.mark.parametrize("command", ["dpo", "grpo", "nft", "align-prop"])
def test_page_of_a_trainer_says_which_defaults_it_overrides(command):
    _, config, page = COMMANDS[command]
    said = (ROOT / "docs" / "source" / page).read_text(encoding="utf-8").partition(f"### {config.__name__}\n")[2]
    overridden = {
        name: field for name, field in config.__dataclass_fields__.items() if name in inherited_fields(config)
    }
    for name in overridden.keys() & inspect.get_annotations(config).keys():
        field = overridden[name]
        value = field.default_factory() if field.default is MISSING else field.default
        inherited = [base.__dataclass_fields__[name].default for base in config.__mro__[1:] if has(base, name)]
        if value in inherited:  # another help, the same value
            continue
        written = re.search(rf"^\| `{name}` \| `(.*?)` \|", said, re.MULTILINE)
        assert written, f"{page} does not say that {name} is {value}"
        assert (written[1] if isinstance(value, str) else ast.literal_eval(written[1])) == value, name


def has(base: type, name: str) -> bool:
    return is_dataclass(base) and name in base.__dataclass_fields__


@pytest.mark.parametrize("command", COMMANDS)
def test_every_logged_metric_is_explained(command, workplace, monkeypatch):
    output = workplace / "outputs" / "quickstart"
    if command != "nft":
        monkeypatch.chdir(workplace)
        output = workplace / "outputs" / command
        # two optimizer steps for a rollout, and what is logged then alone
        own = {
            "grpo": "--num_generations 4 --loss_type dppo --steps_per_generation 2 --max_steps 2",
            "align-prop": "--max_steps 1",
            "rpo": "--max_steps 1 --eval_strategy steps --eval_steps 1 --sde_window_size 2 --sde_window_range 0 3",
            "dpo": "--max_steps 2 --num_eval_prompts 2 --num_label_checks 0 --dataset_split train[:16]",
        }
        briefly = BRIEFLY
        if command == "dpo":  # held-out pairs in place of prompts
            briefly = ["--eval_dataset_split", "test[:3]", *BRIEFLY[4:]]
        main([
            command, "--config", f"examples/configs/tiny_scenes_{command.replace('-', '_')}.yaml", "--output_dir",
            str(output),
            "--per_device_train_batch_size", "8", *own[command].split(), "--save_strategy", "no", *briefly,
        ])  # fmt: skip
    history = json.loads((output / "trainer_state.json").read_text())["log_history"]
    logged = {name for entry in history for name in entry} - {"step"}
    # those that need another mode or an ensemble are found in the source
    logged |= set(re.findall(r'"(judge/\w+)"', (SOURCE / "judges" / "reward.py").read_text()))
    sources = "".join(path.read_text() for path in (SOURCE / "trainer").glob("*.py"))
    found = set(re.findall(r'metrics(?:\["train"\])?\["(\w+(?:/\w+)+|reward_std|frac_reward_zero_std)"\]', sources))
    assert any(name.startswith("eval_success/") for name in logged)
    pages = dict.fromkeys(["rpo_trainer.md", COMMANDS[command][2]])  # what all share stands in the first
    explained = set().union(*map(explained_metrics, pages))
    for name in logged:
        name = re.sub(r"^(eval_)?rewards/.*/", r"\1rewards/<name>/", name)
        name = re.sub(r"^(watch|eval_watch)/.*/", r"\1/<name>/", name)
        name = re.sub(r"^eval_success/.*", "eval_success/<criterion>", name)
        name = re.sub(r"^eval_judge/.*", "eval_judge/...", name)
        assert name in explained, (
            f"{name} is logged by `arr-trl {command}` and {' and '.join(pages)} do not explain it"
        )
    everywhere = set().union(*(explained_metrics(page) for _, _, page in COMMANDS.values()))
    assert found <= everywhere, f"no page explains {found - everywhere}"


def explained_metrics(page: str) -> set[str]:
    text = (ROOT / "docs" / "source" / page).read_text(encoding="utf-8")
    return set(re.findall(r"`([\w/<>.]+)`", "\n".join(re.findall(r"^\| (`.*?) \|", text, re.MULTILINE))))


def test_quickstart_leaves_what_the_pages_say(workplace):
    page = (ROOT / "docs" / "source" / "quickstart.md").read_text(encoding="utf-8")
    section = page.partition("## 4.")[2].partition("```")[0]
    said = set(re.findall(r"^- `([\w./-]+?)/?`", section, re.MULTILINE))
    # SQLite keeps two more files beside the store while this process has it open
    left = {
        re.sub(r"-\d+$", "-N", path.name)
        for path in (workplace / "outputs" / "quickstart").iterdir()
        if not path.name.startswith("judge.sqlite-")
    }
    assert said == left


def test_folders_import_only_from_those_above_them():
    page = (ROOT / "docs" / "source" / "architecture.md").read_text(encoding="utf-8")
    order = page.partition("## Imports go one way")[2].partition("```text\n")[2].partition("```")[0].split()
    folders = {path.name.removesuffix(".py") for path in SOURCE.iterdir() if path.name != "version.py"}
    assert set(order) == {name for name in folders if not name.startswith("_") and (SOURCE / name).is_dir()}
    for path in SOURCE.rglob("*.py"):
        folder = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        if folder not in order:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            up = 1 if path.parent == SOURCE else 2
            if isinstance(node, ast.ImportFrom) and node.level == up and node.module:
                imported = node.module.split(".")[0]
                assert imported not in order or order.index(imported) <= order.index(folder), (
                    f"{path} imports {imported}"
                )


def test_contract_of_a_policy_is_the_one_in_the_code():
    (code,) = [block for block in blocks(ROOT / "docs/source/architecture.md", "python") if "ABC" in block]
    (contract,) = [node for node in ast.parse(code).body if isinstance(node, ast.ClassDef)]
    said = {
        node.name: [arg.arg for arg in node.args.args] for node in contract.body if isinstance(node, ast.FunctionDef)
    }
    assert said.keys() == arr_trl.FlowPolicy.__abstractmethods__
    for name, arguments in said.items():
        assert arguments == list(inspect.signature(getattr(arr_trl.FlowPolicy, name)).parameters), name


def test_example_script_trains_and_releases(tmp_path, monkeypatch):
    (tmp_path / "prompts.txt").write_text("\n".join(captions("train")[:4]))
    with OpenAIServer(TinyScenesJudge()) as server:
        monkeypatch.setattr(sys, "argv", [
            "rpo_flux.py", "--config", str(ROOT / "examples/configs/rpo_flux.yaml"), "--dataset_name",
            str(tmp_path / "prompts.txt"), "--eval_dataset_split", "train[:2]", "--model_name_or_path", str(BASE_MODEL),
            "--rubric", str(ROOT / "examples/rubrics/tiny_scenes.json"), "--judge_model", "tiny-scenes", "--base_url",
            server.url, "--output_dir", str(tmp_path / "out"), "--height", "32", "--width", "32",
            "--max_sequence_length", "12", "--per_device_train_batch_size", "14", "--gradient_accumulation_steps", "1",
            "--max_steps", "1", "--eval_num_inference_steps", "2", "--bf16", "false", "--use_cpu", "true",
            "--disable_tqdm", "true",
        ])  # fmt: skip
        runpy.run_path(str(ROOT / "examples" / "scripts" / "rpo_flux.py"), run_name="__main__")
    assert len(server.requests) >= 1 + 2  # the check, and one pair in both orders
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"ARR-FLUX.1-dev", "README.md", "samples.png", "results.json", "judge.sqlite"} <= left
