"""The package as it is imported and installed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import arr_trl.data
import arr_trl.evaluation
import arr_trl.release
import arr_trl.tiny_scenes
from arr_trl.judges import VerdictStore
from arr_trl.release import ADAPTER_FILES, AdapterCard, write_model_card
from arr_trl.rubrics import Criterion, Rubric
from arr_trl.tiny_scenes import build_edit_pipeline, build_pipeline, pretrain_edit


PACKAGE = Path(arr_trl.__file__).parent
# a string that begins with a folder at the root, or of a user, or of a drive; and what diffusers keeps of where it loaded
OF_A_MACHINE = re.compile(rb"""["'](/[\w.-]+/|~/|[A-Za-z]:\\)|_name_or_path"\s*:""")


def data_of_a_machine(folder: Path) -> dict[str, bytes]:
    """Files under a folder, those of weights by their header, that name a place of one machine, and the name."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_dir() or path.suffix in (".py", ".pyc"):
            continue
        content = path.read_bytes()
        if path.suffix == ".safetensors":
            content = content[8 : 8 + int.from_bytes(content[:8], "little")]
        if (named := OF_A_MACHINE.search(content)) is not None:
            found[str(path.relative_to(folder))] = content[named.start() : named.end() + 40]
    return found


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_import_and_help_stay_light():
    heavy = {"torch", "transformers", "diffusers", "datasets", "trl"}
    assert not heavy & loaded_by("import arr_trl")
    help_text = "from arr_trl.cli.main import main\ntry:\n main(['--help'])\nexcept SystemExit: pass"
    assert not heavy & loaded_by(f"exec({help_text!r})")


HEAVY = {"torch", "transformers", "diffusers", "datasets", "trl", "peft", "accelerate"}


def loaded_by_command(*argv: str | Path) -> set[str]:
    return loaded_by(f"from arr_trl.cli.main import main; assert main({[str(word) for word in argv]}) == 0")


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    (folder / "ARR-one").mkdir()
    for name in ADAPTER_FILES:
        (folder / "ARR-one" / name).write_bytes((8).to_bytes(8, "little") + b"{}      ")  # safetensors without any
    card = AdapterCard(
        subfolder="ARR-one", base_model="user/base", pipeline_class="FluxPipeline", prompt="a red circle", lora_r=2,
        lora_alpha=4, target_modules=("to_q",),
    )  # fmt: skip
    write_model_card(folder, card)
    return folder


def test_a_push_needs_neither_torch_nor_the_libraries_of_models(release):
    assert not HEAVY & loaded_by_command("push", release, "--repo_id", "user/adapters", "--dry_run")
    assert not HEAVY & loaded_by_command("space", release, "--push", "--repo_id", "user/space", "--dry_run")


def test_the_card_of_a_repository_is_merged_without_torch(release):
    code = (
        "from arr_trl.release.card_sections import merge_section, read_sections; from pathlib import Path; "
        f"readme = Path({str(release / 'README.md')!r}).read_text(); merge_section(readme, *read_sections(readme), 'adapters')"
    )
    assert not HEAVY & loaded_by(code)


def test_reading_what_a_judge_was_asked_needs_no_torch(tmp_path):
    VerdictStore(tmp_path / "judge.sqlite").put([])
    assert not HEAVY & loaded_by_command("judge", "log", tmp_path / "judge.sqlite")


def test_a_rubric_is_shown_and_shared_without_torch(tmp_path):
    rubric = Rubric(name="colors", criteria=[Criterion(text="Both colors that the caption names appear.")])
    rubric.save(tmp_path / "rubric.json")
    for argv in (
        ["show", tmp_path / "rubric.json"],
        ["push", tmp_path / "rubric.json", "--repo_id", "user/r", "--dry_run"],
    ):
        assert not HEAVY & loaded_by_command("rubric", *argv)


def test_what_a_rubric_would_ask_is_shown_without_torch(tmp_path):
    config = PACKAGE.parents[1] / "examples" / "configs" / "rubric_tiny_scenes.yaml"
    argv = "rubric", "generate", "--config", config, "--dry_run", "true", "--output", tmp_path / "rubric.json"
    assert not {"torch", "diffusers", "peft", "accelerate"} & loaded_by_command(*argv)


def test_reading_prompts_pairs_and_rewards_needs_no_torch():
    names = "from arr_trl.data import load_prompts; from arr_trl.rewards import call, reward_list; reward_list([1], 'a', 1)"
    assert HEAVY & loaded_by(f"{names}; from arr_trl.tiny_scenes import TinyScenesJudge") == {"datasets"}


def test_versions_are_told_with_torch_alone():
    assert HEAVY & loaded_by_command("env") == {"torch"}  # which says what devices it sees


def test_names_that_are_imported_late_are_all_there():
    for package in (arr_trl.data, arr_trl.evaluation, arr_trl.release, arr_trl.tiny_scenes):
        for name in package.__all__:
            assert callable(getattr(package, name)) or isinstance(
                getattr(package, name), tuple | dict | int | float | str | Path
            ), name
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            package.nothing  # noqa: B018


@pytest.mark.parametrize("name", arr_trl.__all__)
def test_every_public_name_is_there(name):
    assert getattr(arr_trl, name) is not None


def test_a_misspelt_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'RPOTrainr'"):
        arr_trl.RPOTrainr  # noqa: B018


def test_no_file_that_ships_names_a_place_of_the_machine_that_made_it():
    assert len(list(PACKAGE.rglob("*.json"))) > 10
    assert not data_of_a_machine(PACKAGE)


def test_pretraining_writes_no_place_of_the_machine_it_ran_on(tmp_path):
    build_pipeline().save_pretrained(tmp_path / "generator")
    pretrain_edit.save(build_edit_pipeline(), tmp_path / "editor")
    assert len(list(tmp_path.rglob("*.json"))) > 10
    assert not data_of_a_machine(tmp_path)


def test_a_place_of_a_machine_is_found(tmp_path):
    named = ('{"_name_or_path": "models/base"}', '{"vae": "/tmp/base/vae"}', "{'a': 'C:\\\\base'}")
    for number, text in enumerate(named):
        (tmp_path / f"{number}.json").write_text(text)
    assert len(data_of_a_machine(tmp_path)) == len(named)


def test_sources_that_are_not_installed_know_their_version():
    """As on a machine that has them in PYTHONPATH alone, where a run ended without its card."""
    asks = re.compile(r"version\(.arr_trl.\)|version\(name\) for name in \(.arr_trl")
    sources = Path(arr_trl.__file__).parent.rglob("*.py")
    assert [path.name for path in sources if asks.search(path.read_text(encoding="utf-8"))] == []
