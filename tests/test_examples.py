"""The recipes hold what the published adapters were trained with, and the editing script trains, judges and releases."""

import base64
import io
import json
import runpy
import sys
from pathlib import Path

import pytest
import yaml
from diffusers import QwenImageEditPipeline
from openai_server import Answer, OpenAIServer
from oracle import picture
from peft import LoraConfig, get_peft_model
from PIL import Image
from tiny_pipelines import build_flux, build_flux_kontext, build_qwen_image

from arr_trl import Rubric
from arr_trl.cli.main import main
from arr_trl.policies import QwenImageEditPolicy
from arr_trl.release import save_adapter
from arr_trl.trainer import RPOConfig


EXAMPLES = Path(__file__).parents[1] / "examples"
RUBRIC = EXAMPLES / "rubrics" / "image_editing.json"
# the table of the model card, with what the paper adds to it
CARD = {
    "rpo_flux": {"base": "black-forest-labs/FLUX.1-dev", "lr": 5e-5, "beta": 0.01, "steps": 8, "rank": 16, "pairs": 32},
    "rpo_qwen_image_edit": {
        "base": "Qwen/Qwen-Image-Edit", "lr": 1e-5, "beta": 0.02, "steps": 10, "rank": 32, "pairs": 16,
    },
}  # fmt: skip
SMALL = [
    "--height", "32", "--width", "32", "--condition_size", "64", "--per_device_train_batch_size", "18",
    "--gradient_accumulation_steps", "1", "--max_steps", "1", "--eval_num_inference_steps", "2", "--bf16", "false",
    "--use_cpu", "true", "--disable_tqdm", "true",
]  # fmt: skip

SMALL_T2I = [*SMALL[:4], *SMALL[6:]]


@pytest.mark.parametrize("name", CARD)
def test_recipe_has_every_hyperparameter_of_the_card(name):
    settings = yaml.safe_load((EXAMPLES / "configs" / f"{name}.yaml").read_text())
    card = CARD[name]
    assert settings["model_name_or_path"] == card["base"]
    assert settings["adapter_subfolder"] == f"ARR-{card['base'].split('/')[1]}"
    assert (settings["lora_r"], settings["lora_alpha"]) == (card["rank"], 2 * card["rank"])
    assert "lora_target_modules" not in settings  # those of the policy, which are the card's
    assert (settings["learning_rate"], settings["beta"]) == (card["lr"], card["beta"])
    assert settings["num_inference_steps"] == card["steps"]
    assert (settings["positive_reward"], settings["negative_reward"], settings["epsilon"]) == (1.0, 0.1, 0.2)
    assert (settings["num_generations"], settings["max_grad_norm"], settings["optim"]) == (2, 1.0, "adamw_torch")
    fields = {key: value for key, value in settings.items() if key in RPOConfig.__dataclass_fields__}
    args = RPOConfig(**{**fields, "use_cpu": True, "bf16": False})
    assert args.window_size == card["steps"] - 1
    assert args.prompts_per_rollout == card["pairs"]


@pytest.mark.parametrize("name", ["rpo_flux_kontext", "rpo_flux_24gb"])
def test_other_recipes_divide_into_whole_pairs(name):
    settings = yaml.safe_load((EXAMPLES / "configs" / f"{name}.yaml").read_text())
    fields = {key: value for key, value in settings.items() if key in RPOConfig.__dataclass_fields__}
    assert RPOConfig(**{**fields, "use_cpu": True, "bf16": False}).prompts_per_rollout in (16, 32)


def test_editing_rubric_asks_for_what_has_to_stay():
    rubric = Rubric.load(RUBRIC)
    assert rubric.task == "image-editing"
    assert sum(criterion.theme == "Preservation" for criterion in rubric.criteria) >= 2


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "tiny-qwen-image-edit"
    build_qwen_image(pipeline_class=QwenImageEditPipeline).save_pretrained(folder)
    index = json.loads((folder / "model_index.json").read_text())
    index["processor"] = ["transformers", "Qwen2VLProcessor"]  # as the published model has it
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture
def edits(tmp_path):
    """A file of edits whose sources lie beside it."""
    (tmp_path / "pictures").mkdir()
    rows = []
    for i, instruction in enumerate(["Make the circle green", "Remove a square", "Make the circle larger"]):
        picture(40, 32, i).save(tmp_path / "pictures" / f"{i}.png")
        rows.append({"prompt": instruction, "source_image": f"pictures/{i}.png"})
    (tmp_path / "edits.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "edits.jsonl"


class Judge:
    """Prefers the first image, and remembers the sizes of the images of every question."""

    def __init__(self):
        self.shown = []

    def __call__(self, number, body):
        content = body["messages"][0]["content"]
        if content[0]["text"] == "Say OK.":
            return Answer("OK")
        urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
        images = [Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))) for url in urls]
        self.shown.append([image.size for image in images])
        criteria = [{"criterion": k + 1, "ranks": [1, 2]} for k in range(len(Rubric.load(RUBRIC).criteria))]
        return Answer(json.dumps({"criteria": criteria, "reason": "", "ranks": [1, 2]}))


def test_editing_script_trains_judges_and_releases(base, edits, tmp_path, monkeypatch):
    judge = Judge()
    with OpenAIServer(respond=judge) as server:
        monkeypatch.setattr(sys, "argv", [
            "rpo_image_editing.py", "--config", str(EXAMPLES / "configs" / "rpo_qwen_image_edit.yaml"),
            "--dataset_name", str(edits), "--eval_dataset_split", "train[:2]", "--model_name_or_path", str(base),
            "--rubric", str(RUBRIC), "--judge_model", "judge", "--base_url", server.url, "--judge_order", "fixed",
            "--output_dir", str(tmp_path / "out"), *SMALL,
        ])  # fmt: skip
        runpy.run_path(str(EXAMPLES / "scripts" / "rpo_image_editing.py"), run_name="__main__")
    # the source, in its own shape, then both candidates
    rehearsal, *shown = judge.shown
    assert rehearsal == [(32, 32)] * 3  # flat ones, before anything is loaded
    assert shown
    assert all(sizes == [(40, 32), (32, 32), (32, 32)] for sizes in shown)
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"ARR-Qwen-Image-Edit", "README.md", "samples.png", "results.json", "judge.sqlite"} <= left
    assert 'image=load_image("source.png")' in (tmp_path / "out" / "README.md").read_text()


def any_brightness(prompts, completions, **columns):
    return [image.resize((1, 1)).getpixel((0, 0))[0] / 255 for image in completions]


def brightness(prompts, completions, source_image, **columns):
    return [image.resize((1, 1)).getpixel((0, 0))[0] / 255 for image in completions]


def run(base, rows, tmp_path, *flags):
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return main([
        "rpo", "--config", str(EXAMPLES / "configs" / "rpo_qwen_image_edit.yaml"), "--model_name_or_path", str(base),
        "--dataset_name", str(tmp_path / "rows.jsonl"), "--reward_funcs", "test_examples.brightness",
        "--output_dir", str(tmp_path / "out"), *SMALL, *flags,
    ])  # fmt: skip


@pytest.mark.parametrize(("name", "build", "rows"), [
    ("rpo_flux_kontext", build_flux_kontext, "18"), ("rpo_flux_24gb", build_flux, "4"),
])  # fmt: skip
def test_other_recipes_train_and_release(name, build, rows, edits, tmp_path):
    build().save_pretrained(tmp_path / "base")
    settings = yaml.safe_load((EXAMPLES / "configs" / f"{name}.yaml").read_text())
    assert main([
        "rpo", "--config", str(EXAMPLES / "configs" / f"{name}.yaml"), "--model_name_or_path", str(tmp_path / "base"),
        "--dataset_name", str(edits), "--reward_funcs", "test_examples.any_brightness", "--max_sequence_length", "12",
        "--output_dir", str(tmp_path / "out"), *(SMALL if "condition_size" in settings else SMALL_T2I),
        "--per_device_train_batch_size", rows,
    ]) == 0  # fmt: skip
    assert (tmp_path / "out" / settings["adapter_subfolder"] / "pytorch_lora_weights.safetensors").is_file()


def save(path, image, **options):
    image.save(path, **options)
    return path.name


@pytest.mark.parametrize(("bad", "sentence"), [
    (lambda folder: None, "Row 1 of train_dataset has a `source_image` that cannot be used: there is none"),
    (lambda folder: "missing.png", "missing.png' cannot be read as a picture (FileNotFoundError"),
    (lambda folder: "rows.jsonl", "rows.jsonl' cannot be read as a picture: it begins with b"),
    (lambda folder: save(folder / "one.png", Image.new("RGB", (1, 1))), "one.png' has 1 × 1 pixels; each side has to"),
    (lambda folder: save(folder / "big.png", Image.new("1", (10_000, 10_000))), "big.png' has 10000 × 10000 pixels"),
], ids=["none", "missing", "text", "1x1", "10000x10000"])  # fmt: skip
def test_source_that_cannot_be_used_is_one_sentence_before_training(base, edits, tmp_path, capsys, bad, sentence):
    rows = [json.loads(line) for line in edits.read_text().splitlines()]
    rows[1]["source_image"] = bad(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        run(base, rows, tmp_path)
    assert stopped.value.code == 2
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("arr-trl: ")]
    assert len(told) == 1
    assert sentence in told[0]
    assert not (tmp_path / "out" / "README.md").exists()


def test_source_column_that_is_not_there_is_one_sentence(base, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(base, [{"prompt": "Make it green"}] * 2, tmp_path)
    assert "train_dataset has no `source_image` column, only 'prompt'" in capsys.readouterr().err


def test_source_that_breaks_in_mid_run_and_instruction_that_is_too_long_are_one_sentence(
    base, edits, tmp_path, capsys
):
    rows = [json.loads(line) for line in edits.read_text().splitlines()]
    whole = (tmp_path / "pictures" / "0.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    assert run(base, [{**rows[0], "source_image": "cut.png"}], tmp_path) == 1
    assert "arr-trl: The row with the prompt 'Make the circle green' has a `source_image`" in capsys.readouterr().err
    assert run(base, [{**rows[0], "prompt": "Make the circle green " * 3000}], tmp_path) == 1
    assert "tokens with its pictures, and the transformer" in capsys.readouterr().err


def test_transparent_grey_and_turned_sources_train(base, tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    rows = [
        {"prompt": "Make the circle green", "source_image": name}
        for name in (
            save(tmp_path / "alpha.png", Image.new("RGBA", (40, 32), (0, 0, 0, 0))),
            save(tmp_path / "grey.png", picture(40, 32, 1).convert("L")),
            save(tmp_path / "turned.jpg", picture(40, 32, 2), exif=exif),
        )
    ]
    assert run(base, rows, tmp_path, "--max_steps", "3") == 0


def test_evaluate_shows_models_the_source(base, edits, tmp_path):
    model = QwenImageEditPolicy.load_pipeline(str(base))
    peft_model = get_peft_model(model.transformer, LoraConfig(r=2, target_modules=["attn.to_q"]))
    save_adapter(peft_model, tmp_path / "ARR-one", QwenImageEditPipeline)
    assert main([
        "evaluate", "--adapter", str(tmp_path / "ARR-one"), "--model", str(base), "--dataset", str(edits), "--limit", "2",
        "--reward_funcs", "test_examples.brightness", "--output", str(tmp_path / "report"), "--height", "32", "--width",
        "32", "--num_inference_steps", "2", "--condition_size", "64",
    ]) == 0  # fmt: skip
    assert Image.open(tmp_path / "report" / "images" / "source" / "00000.png").size == (40, 32)
