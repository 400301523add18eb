"""`arr-trl evaluate` as a user runs it, alone, in two processes, and with what can be wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from arr_trl.cli.main import main
from arr_trl.evaluation import Evaluation
from arr_trl.policies import FluxPolicy
from arr_trl.release import AdapterCard, save_adapter, write_model_card
from arr_trl.tiny_scenes import load_pipeline


ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "examples" / "configs" / "tiny_scenes_evaluate.yaml")
SMALL = [
    "--config", CONFIG, "--rubric", str(ROOT / "examples/rubrics/tiny_scenes.json"), "--limit", "3",
    "--num_inference_steps", "2",
]  # fmt: skip


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """A release as training leaves it: an adapter, its card, its log."""
    folder = tmp_path_factory.mktemp("run")
    pipeline = load_pipeline()
    model = get_peft_model(pipeline.transformer, LoraConfig(r=2, target_modules=["to_q"]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    save_adapter(model, folder / "ARR", type(pipeline))
    write_model_card(folder, AdapterCard("ARR", "user/base", "FluxPipeline", "a prompt", 2, 8, ["to_q"]))
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": [{"step": 1, "policy/kl": 0.1}]}))
    return folder


@pytest.fixture
def evaluated(release, tmp_path):
    argv = ["evaluate", *SMALL, "--adapter", str(release / "ARR"), "--output", str(tmp_path / "out")]
    assert main([*argv, "--update_card", "true"]) == 0
    return tmp_path / "out"


def test_one_command_draws_judges_and_reports(evaluated, release, capsys):
    assert {path.name for path in evaluated.iterdir()} >= {
        "images",
        "judge.sqlite",
        "pairs.jsonl",
        "results.json",
        "report.html",
    }
    evaluation = Evaluation.load(evaluated / "results.json")
    assert list(evaluation.models) == ["base", "ARR"]
    assert evaluation.prompts == 3
    assert evaluation.comparisons[0]["pairs"] == 6
    assert "policy/kl" in (evaluated / "report.html").read_text()


def test_results_reach_the_model_index_and_the_text_of_the_card(evaluated, release):
    card = (release / "README.md").read_text()
    assert "model-index" in card
    assert "On 3 held-out prompts, 2 pictures of each" in card
    assert card.count("### Evaluation") == card.count("### Learning curve") == 1
    assert "No evaluation was recorded." not in card


@pytest.mark.slow
def test_two_processes_find_what_one_finds(evaluated, release, tmp_path):
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "0", "--rdzv_backend",
        "c10d", "--rdzv_endpoint", "127.0.0.1:0", "-m", "arr_trl.cli.main", "evaluate", *SMALL, "--adapter",
        str(release / "ARR"), "--output", str(tmp_path / "two"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 0, done.stderr[-2000:]
    alone, together = (Evaluation.load(folder / "results.json") for folder in (evaluated, tmp_path / "two"))
    (one,), (two,) = alone.comparisons, together.comparisons
    assert {name: two[name] for name in ("pairs", "win_rate", "tie_rate")} == {
        name: one[name] for name in ("pairs", "win_rate", "tie_rate")
    }
    # another batch size changes a picture's last digits
    assert together.models["ARR"]["drift"] == pytest.approx(alone.models["ARR"]["drift"], rel=1e-2)
    assert together.models["ARR"]["success"] == alone.models["ARR"]["success"]
    assert (tmp_path / "two" / "report.html").is_file()


def test_own_reward_function_without_a_judge_is_enough(release, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_rewards.py").write_text(
        "def height(prompts, completions, **columns):\n    return [i.height for i in completions]\n"
    )
    (tmp_path / "prompts.txt").write_text("a red circle left of a blue square\n")
    argv = ["evaluate", "--model", "tiny_scenes", "--adapter", str(release / "ARR"), "--dataset", "prompts.txt",
        "--output", "out", "--reward_funcs", "my_rewards.height", "--height", "32", "--width", "32",
        "--max_sequence_length", "12", "--num_inference_steps", "1"]  # fmt: skip
    assert main(argv) == 0
    assert Evaluation.load("out/results.json").comparisons[0]["rewards"]["height"]["win_rate"] == 0.5
    assert "height" in capsys.readouterr().out


@pytest.mark.parametrize(("flags", "steps", "guidance"), [
    ([], 2, 1.5), (["--guidance_scale", "0.0"], 2, 0.0), (["--num_inference_steps", "1"], 1, 1.5),
])  # fmt: skip
def test_steps_and_guidance_that_are_not_given_are_the_familys(release, tmp_path, monkeypatch, flags, steps, guidance):
    monkeypatch.setattr(FluxPolicy, "default_num_inference_steps", 2)
    monkeypatch.setattr(FluxPolicy, "default_guidance_scale", 1.5)
    (tmp_path / "prompts.txt").write_text("a red circle left of a blue square\n")
    argv = ["evaluate", "--model", "tiny_scenes", "--adapter", str(release / "ARR"), "--dataset",
        str(tmp_path / "prompts.txt"), "--output", str(tmp_path / "out"), "--height", "32", "--width", "32",
        "--eval_funcs", "arr_trl.tiny_scenes.success", "--max_sequence_length", "12", *flags]  # fmt: skip
    assert main(argv) == 0
    for settings in (
        Evaluation.load(tmp_path / "out" / "results.json").settings,
        json.loads((tmp_path / "out" / "images" / "settings.json").read_text()),
    ):
        assert (settings["num_inference_steps"], settings["guidance_scale"]) == (steps, guidance)


@pytest.mark.parametrize(("flags", "sentence"), [
    (["--num_inference_steps", "0"], "num_inference_steps=0 has to be at least 1"),
    (["--adapter", "./missing"], "There is no adapter at ./missing"),
    (["--adapter", "RELEASE"], "holds no adapter_config.json; there are adapters in"),
    (["--dataset", "missing.jsonl"], "There is no prompt file at missing.jsonl"),
    (["--rubric", "missing.json"], "There is no rubric file at missing.json"),
    (["--judge", "some-vlm"], "`judge_model=some-vlm` needs `base_url`"),
    (["--height", "30"], "height=30 does not divide by 8"),
    (["--num_images_per_prompt", "0"], "num_images_per_prompt=0 has to be at least 1."),
    (["--batch_size", "0"], "batch_size=0 has to be at least 1."),
    (["--modle", "x"], "There is no option `modle`; did you mean `model`?"),
])  # fmt: skip
def test_bad_input_is_one_sentence(release, tmp_path, capsys, flags, sentence):
    flags = [str(release) if flag == "RELEASE" else flag for flag in flags]
    argv = ["evaluate", *SMALL, "--adapter", str(release / "ARR"), "--output", str(tmp_path / "out"), *flags]
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert stopped.value.code == 2
    shown = capsys.readouterr().err
    assert sentence in shown
    assert "Traceback" not in shown


def test_nothing_given_says_what_is_needed(capsys):
    with pytest.raises(SystemExit):
        main(["evaluate"])
    assert "`model` and `dataset` are needed" in capsys.readouterr().err


def test_edits_are_judged_with_their_sources_and_shown_beside_them(tmp_path):
    from diffusers import QwenImageEditPipeline
    from openai_server import OpenAIServer
    from oracle import picture
    from test_examples import Judge
    from tiny_pipelines import build_qwen_image

    pipeline = build_qwen_image(pipeline_class=QwenImageEditPipeline)
    base = tmp_path / "base"
    pipeline.save_pretrained(base)
    index = json.loads((base / "model_index.json").read_text())
    index["processor"] = ["transformers", "Qwen2VLProcessor"]  # as the published model has it
    (base / "model_index.json").write_text(json.dumps(index))
    adapter = get_peft_model(pipeline.transformer, LoraConfig(r=2, target_modules=["to_q"]))
    save_adapter(adapter, tmp_path / "ARR", QwenImageEditPipeline)
    rows = []
    for i, instruction in enumerate(["Make the circle green", "Remove a square"]):
        picture(40, 32, i).save(tmp_path / f"{i}.png")
        rows.append(json.dumps({"prompt": instruction, "source_image": f"{i}.png"}))
    (tmp_path / "edits.jsonl").write_text("\n".join(rows))
    judge = Judge()
    with OpenAIServer(respond=judge) as server:
        assert main([
            "evaluate", "--model", str(base), "--adapter", str(tmp_path / "ARR"), "--dataset",
            str(tmp_path / "edits.jsonl"), "--judge", "judge", "--base_url", server.url, "--rubric",
            str(ROOT / "examples/rubrics/image_editing.json"), "--height", "32", "--width", "32", "--condition_size",
            "64", "--num_inference_steps", "2", "--num_images_per_prompt", "1", "--output", str(tmp_path / "out"),
        ]) == 0  # fmt: skip
    assert judge.shown
    assert all(sizes == [(40, 32), (32, 32), (32, 32)] for sizes in judge.shown)
    assert len(list((tmp_path / "out" / "images" / "source").glob("*.png"))) == 2
    assert '"sources":4' in (tmp_path / "out" / "report.html").read_text()  # thumbnails after those of the two models


@pytest.mark.parametrize(("value", "message"), [
    ("fp32", "dtype: 'fp32' has to be one of bfloat16, float16, float32."),
    ("torch.bfloat16", "dtype: 'torch.bfloat16' has to be one of bfloat16, float16, float32."),
    ("8", "dtype: 8 has to be one of bfloat16, float16, float32."),
])  # fmt: skip
def test_precision_in_a_file_is_held_to_the_choices_of_the_option(tmp_path, capsys, value, message):
    (tmp_path / "e.yaml").write_text(f"model: tiny_scenes\ndataset: tiny_scenes\ndtype: {value}\n")
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", "--config", str(tmp_path / "e.yaml"), "--output", str(tmp_path / "out")])
    assert message in capsys.readouterr().err
