"""`arr-trl rpo` as a user runs it: a whole run on TinyScenes, and one sentence for each thing that can be wrong."""

import json
import socket
from pathlib import Path

import pytest
import yaml

from arr_trl.cli.main import main


QUICKSTART = Path(__file__).parents[2] / "examples" / "configs" / "tiny_scenes_rpo.yaml"
RUBRIC = Path(__file__).parents[2] / "examples" / "rubrics" / "tiny_scenes.json"
SMALL = [
    "--rubric", str(RUBRIC), "--max_steps", "2", "--per_device_train_batch_size", "8", "--sde_window_size", "2",
    "--sde_window_range", "0", "3", "--num_inference_steps", "4", "--eval_num_inference_steps", "2",
    "--eval_dataset_split", "test[:6]", "--disable_tqdm", "true",
]  # fmt: skip


def test_one_command_trains_measures_and_writes_a_release(tmp_path, capsys):
    assert main(["rpo", "--config", str(QUICKSTART), "--output_dir", str(tmp_path), *SMALL]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert {
        "base_model", "adapter", "prompts", "base", "trained", "win_rate", "win_rate_ci", "tie_rate",
        "order_consistency", "judge_calls", "transformer_forwards", "train_seconds",
    } <= results.keys()  # fmt: skip
    assert results["prompts"] == 6
    assert results["base"]["success"].keys() == {"colors", "shapes", "relation", "count"}
    assert results["judge_calls"] > 0
    for name in ("README.md", "samples.png", "run.json", f"{results['adapter']}/pytorch_lora_weights.safetensors"):
        assert (tmp_path / name).is_file()
    shown = capsys.readouterr().out
    assert "The adapter is that of step 2 of 2." in shown
    assert f"arr-trl evaluate --run {tmp_path}" in shown
    assert "all criteria" in shown
    assert "win rate" in shown
    assert "2 prompts × 2 candidates = 4 images" in shown
    assert "With 1 thread a step takes about " in shown


def test_judge_that_breaks_in_the_last_evaluation_takes_nothing_from_what_was_trained(tmp_path, capsys, monkeypatch):
    (tmp_path / "breaking.py").write_text(
        "from arr_trl.judges import JudgeFailureError\n"
        "def reward(prompts, completions, trainer_state, **columns):\n"
        "    if trainer_state.global_step == 2:\n"
        "        raise JudgeFailureError('The server is gone.')\n"
        "    return [float(i % 2) for i in range(len(completions))]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({**yaml.safe_load(QUICKSTART.read_text()), "judge_model": None}))
    out = tmp_path / "out"
    argv = ["rpo", "--config", str(config), "--output_dir", str(out), *SMALL, "--reward_funcs", "breaking.reward"]
    assert main(argv) == 1
    shown = capsys.readouterr()
    assert "The evaluation failed (JudgeFailureError: The server is gone.)" in shown.err
    assert "Traceback" not in shown.err
    for name in ("README.md", "trainer_state.json", "ARR-tiny-flux/pytorch_lora_weights.safetensors"):
        assert (out / name).is_file()
    assert not (out / "results.json").exists()


def test_evaluation_that_would_be_left_out_is_told(tmp_path, capsys):
    config = tmp_path / "config.yaml"
    changed = {"eval_dataset_split": None, "model_name_or_path": "no/such"}
    config.write_text(yaml.safe_dump({**yaml.safe_load(QUICKSTART.read_text()), **changed}))
    for flag, value in (("eval_dataset_name", "held_out.jsonl"), ("eval_strategy", "steps")):
        with pytest.raises(SystemExit):
            main(["rpo", "--config", str(config), "--output_dir", str(tmp_path / "out"), f"--{flag}", value])
        assert f"{flag}={value} needs `eval_dataset_split`" in capsys.readouterr().err


def test_the_editing_quickstart_trains_measures_and_writes_a_release(tmp_path, capsys):
    config = QUICKSTART.with_name("tiny_scenes_edit.yaml")
    rubric = ["--rubric", str(RUBRIC.with_name("tiny_scenes_edit.json"))]
    assert main(["rpo", "--config", str(config), "--output_dir", str(tmp_path), *SMALL, *rubric]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["prompts"] == 6
    assert results["base"]["success"].keys() == {
        "edit", "preserved_color", "preserved_shape", "preserved_position", "count",
    }  # fmt: skip
    assert results["judge_calls"] > 0
    card = (tmp_path / "README.md").read_text()
    assert "image-editing" in card
    assert "tiny-scenes-edit" in card
    assert "condition_size" in card
    for name in ("samples.png", f"{results['adapter']}/pytorch_lora_weights.safetensors"):
        assert (tmp_path / name).is_file()
    assert "all criteria" in capsys.readouterr().out


def test_a_flag_wins_over_the_file(tmp_path):
    settings = {**yaml.safe_load(QUICKSTART.read_text()), "max_steps": 50, "output_dir": "/nowhere"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    main(["rpo", "--config", str(tmp_path / "config.yaml"), "--output_dir", str(tmp_path / "out"), *SMALL])
    assert json.loads((tmp_path / "out" / "trainer_state.json").read_text())["global_step"] == 2


def test_help_is_short_and_all_options_are_a_word_away(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stopped:
        main(["rpo", "--help"])
    assert stopped.value.code == 0
    short = capsys.readouterr().out
    assert len(short.splitlines()) <= 150
    assert max(map(len, short.splitlines())) <= 80
    for words in ("Judge and rewards:", "--model_name_or_path", "--rubric", "--help_all shows all of them"):
        assert words in short
    with pytest.raises(SystemExit):
        main(["rpo", "--help_all"])
    shown = capsys.readouterr().out
    assert "--judge-model" not in short + shown  # once is enough
    for option in ("--judge_model", "--sde_window_size", "--center_rewards", "--learning_rate", "--lora_r"):
        assert option in shown


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize(("flags", "sentence"), [
    (["--dataset_name", "missing.jsonl"], "There is no prompt file at missing.jsonl; check `dataset_name`."),
    (["--rubric", "missing.json"], "There is no rubric file at missing.json"),
    (["--height", "30"], "height=30 does not divide by 8, the latent patch of FluxPipeline; use 24 or 32."),
    (["--eval_height", "30"], "eval_height=30 does not divide by 8, the latent patch of FluxPipeline; use 24 or 32."),
    (["--num_generations", "1"], "num_generations=1 leaves nothing to compare"),
    (["--sde_window_range", "2", "9"], "sde_window_range=[2, 9] is not inside the schedule"),
    (["--output_dir", "/proc/nowhere"], "The folder /proc/nowhere cannot be written to"),
    (["--reward_funcs", "no.such.function"], "'no.such.function' cannot be imported"),
    (["--judge_model", "some-vlm"], "`judge_model=some-vlm` needs `base_url`"),
    (["--learning_ratee", "1"], "There is no option `learning_ratee`; did you mean `learning_rate`?"),
    (["--learning_rate", "inf"], "learning_rate=inf has to be a finite number"),
    (["--eval_num_inference_steps", "0"], "eval_num_inference_steps=0 has to be at least 1."),
    (["--gradient_accumulation_steps", "0"], "gradient_accumulation_steps=0 has to be at least 1."),
    (["--sde_window_range", "3"], "sde_window_range=[3] has to be two whole numbers"),
    (["--adapter_subfolder", "../elsewhere"], "adapter_subfolder='../elsewhere' has to be a plain folder name"),
    (["--lora_r", "0"], "The LoRA rank r=0 has to be at least 1."),
    (["--learning_rate", "fast"], "--learning_rate: invalid float value: 'fast'"),
    (["--max_steps"], "--max_steps: expected one argument"),
    (["--judge_order", "any"], "--judge_order: invalid choice: 'any'"),
    (["--eval_funcs", "fractions.Fraction"], "Fraction"),
    (["--resume_from_checkpoint", "no/such"], "resume_from_checkpoint='no/such' is no folder"),
    (["--resume_from_checkpoint", "latest"], "'latest' names no checkpoint; write `true` for the newest whole one in"),
    (["--reward_funcs", "math.pi"], "3.141592653589793 cannot be called"),
    (["--optim", "galore_adamw"], "optim='galore_adamw' cannot be used here: You need to install `galore_torch`"),
    (["--report_to", "mlflow"], "report_to='mlflow' cannot be used here: MLflowCallback requires mlflow to be installed"),
    (["--lr_scheduler_kwargs", '{"min_lr": 0}'], "lr_scheduler_kwargs has 'min_lr', and the schedule 'linear' takes none"),
])  # fmt: skip
def test_bad_input_is_one_sentence(tmp_path, capsys, flags, sentence):
    argv = ["rpo", "--config", str(QUICKSTART), "--output_dir", str(tmp_path / "out"), *SMALL, *flags]
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert stopped.value.code == 2
    shown = capsys.readouterr().err
    assert sentence in shown
    assert "Traceback" not in shown
    assert "usage:" not in shown


@pytest.mark.parametrize(("key", "value", "sentence"), [
    ("learning_rate", [1.0e-4], "learning_rate: [0.0001] has to be a number."),
    ("learning_rate", {"a": 1}, "learning_rate: {'a': 1} has to be a number."),
    ("max_steps", 2.5, "max_steps: 2.5 has to be a whole number."),
    ("num_generations", True, "num_generations: True has to be a whole number."),
    ("center_rewards", "perhaps", "center_rewards: 'perhaps' has to be true or false."),
    ("dataset_streaming", 3, "dataset_streaming: 3 has to be true or false."),
    ("dataset_weights", ["a"], "dataset_weights: 'a' has to be a number."),
    ("reward_weights", 1.0, "reward_weights=1.0 has to be a list of numbers"),
])  # fmt: skip
def test_value_of_the_wrong_type_in_the_file_is_one_sentence(tmp_path, capsys, key, value, sentence):
    settings = {**yaml.safe_load(QUICKSTART.read_text()), "output_dir": str(tmp_path / "out"), key: value}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(SystemExit) as stopped:
        main(["rpo", "--config", str(tmp_path / "config.yaml"), "--rubric", str(RUBRIC)])
    assert stopped.value.code == 2
    shown = capsys.readouterr().err
    assert sentence in shown
    assert shown.count("\n") == 1


def test_evaluation_function_of_the_wrong_shape_is_told_before_training(tmp_path, monkeypatch, capsys):
    (tmp_path / "wrong.py").write_text("def shape(prompts, completions, **columns):\n    return {'square': True}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    argv = ["rpo", "--config", str(QUICKSTART), "--output_dir", str(tmp_path / "out"), *SMALL]
    with pytest.raises(SystemExit) as stopped:
        main([*argv, "--model_name_or_path", "no/such", "--eval_funcs", "wrong.shape"])
    assert stopped.value.code == 2
    assert "'shape' returned {'square': True} for 1 images; it has to return one" in capsys.readouterr().err


@pytest.mark.parametrize(("content", "sentence"), [
    ("", "prompts.jsonl is empty"),
    ("not json", "prompts.jsonl cannot be read as jsonl"),
])  # fmt: skip
def test_broken_prompt_file_is_one_sentence(tmp_path, capsys, content, sentence):
    (tmp_path / "prompts.jsonl").write_text(content)
    argv = ["rpo", "--config", str(QUICKSTART), "--output_dir", str(tmp_path / "out"), *SMALL]
    with pytest.raises(SystemExit) as stopped:
        main([*argv, "--dataset_name", str(tmp_path / "prompts.jsonl")])
    assert stopped.value.code == 2
    assert sentence in capsys.readouterr().err


def test_broken_yaml_is_one_sentence(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("a: [1,\nb: }")
    with pytest.raises(SystemExit) as stopped:
        main(["rpo", f"--config={tmp_path / 'config.yaml'}"])
    assert stopped.value.code == 2
    assert "config.yaml is not readable as YAML" in capsys.readouterr().err


def test_missing_prompt_column_is_one_sentence(tmp_path, capsys):
    (tmp_path / "prompts.jsonl").write_text('{"title": "a red circle left of a blue square"}\n')
    argv = ["rpo", "--config", str(QUICKSTART), "--output_dir", str(tmp_path / "out"), *SMALL]
    with pytest.raises(SystemExit) as stopped:
        main([*argv, "--dataset_name", str(tmp_path / "prompts.jsonl"), "--eval_dataset_split", "train"])
    assert stopped.value.code == 2
    assert "'title'" in capsys.readouterr().err


def test_judge_server_that_is_not_there_is_told_before_a_model_is_loaded(tmp_path, capsys):
    url = f"http://127.0.0.1:{closed_port()}/v1"
    argv = [
        "rpo",
        "--config",
        str(QUICKSTART),
        "--output_dir",
        str(tmp_path),
        *SMALL,
        "--model_name_or_path",
        "no/such",
    ]
    with pytest.raises(SystemExit) as stopped:
        main([*argv, "--judge_model", "some-vlm", "--base_url", url])
    assert stopped.value.code == 2
    assert url.removesuffix("/v1") in capsys.readouterr().err


def test_a_reward_function_that_returns_text_is_one_sentence_and_status_1(tmp_path, capsys, monkeypatch):
    (tmp_path / "texts.py").write_text("def good(prompts, completions, **columns):\n    return 'good'\n")
    monkeypatch.chdir(tmp_path)
    argv = ["rpo", "--config", str(QUICKSTART), "--output_dir", str(tmp_path / "out"), *SMALL]
    assert main([*argv, "--reward_funcs", "texts.good"]) == 1
    assert "arr-trl: The reward function 'good' returned 'good' for 4 images" in capsys.readouterr().err


def test_unknown_key_in_the_file_is_named(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text(QUICKSTART.read_text() + "learning_rat: 1.0e-4\n")
    with pytest.raises(SystemExit) as stopped:
        main(["rpo", "--config", str(tmp_path / "config.yaml"), "--output_dir", str(tmp_path / "out"), *SMALL])
    assert stopped.value.code == 2
    assert "learning_rat" in capsys.readouterr().err


def test_env_prints_versions(capsys):
    assert main(["env"]) == 0
    assert "- torch: " in capsys.readouterr().out
