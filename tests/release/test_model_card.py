import dataclasses
import re
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from huggingface_hub import ModelCard
from made_up_evaluation import made_up
from peft import LoraConfig, get_peft_model

from arr_trl import Criterion, Rubric
from arr_trl.evaluation import EvaluationResults, SuccessRates
from arr_trl.release import (
    AdapterCard,
    base_license,
    record_results,
    save_adapter,
    training_settings,
    write_model_card,
)
from arr_trl.tiny_scenes.pipeline import build_pipeline
from arr_trl.trainer import RPOConfig
from arr_trl.trainer.evaluation import results_of


FLUX = "black-forest-labs/FLUX.1-dev"
RESULTS = EvaluationResults(
    base_model=FLUX,
    adapter="ARR-FLUX.1-dev",
    prompts=200,
    base=SuccessRates(success_all=0.31, success={"colors": 0.82}),
    trained=SuccessRates(success_all=0.665, success={"colors": 0.955}),
    win_rate=0.6125,
    win_rate_ci=(0.5432, 0.6778),
    tie_rate=0.105,
    failure_rate=0.015,
    order_consistency=0.935,
    judge_calls=12345,
    transformer_forwards=678910,
)
RUBRIC = Rubric(
    name="faithful",
    criteria=[
        Criterion(text="Every object the prompt names is there.", theme="Objects", essential=True),
        Criterion(text="Nothing stray | nothing ```odd```.", weight=2),
    ],
)
CARD = AdapterCard(
    subfolder="ARR-FLUX.1-dev",
    base_model=FLUX,
    pipeline_class="FluxPipeline",
    prompt='a red circle\'s "edge"',
    lora_r=16,
    lora_alpha=32,
    target_modules=["ff.net.2", "attn.to_q"],
    inference={"height": 512, "width": 512, "num_inference_steps": 8, "max_sequence_length": 12},
    training={"learning_rate": 5e-5, "beta": 0.01, "reward_weights": None, "note": "a|b"},
    license="other",
    license_name="flux-1-dev-non-commercial-license",
    license_link="https://huggingface.co/black-forest-labs/FLUX.1-dev/blob/main/LICENSE.md",
    rewards=["rubric_judge"],
    rubric=RUBRIC,
    judge="Qwen/Qwen3-VL-8B-Instruct",
    datasets=["user/prompts"],
    results=RESULTS,
    learning_curve=[{"step": 20, "win_rate": 0.55}, {"step": 40, "win_rate": 0.61}],
    samples="samples.png",
    train_seconds=3723,
    hardware="1 NVIDIA H100",
    versions={"arr_trl": "0.1.0", "torch": "2.13.0"},
    tags=["rubric-policy-optimization", "auto-rubric"],
)
EDIT = AdapterCard(
    subfolder="ARR-Qwen-Image-Edit",
    base_model="Qwen/Qwen-Image-Edit",
    pipeline_class="QwenImageEditPipeline",
    prompt="make the circle green",
    lora_r=32,
    lora_alpha=64,
    target_modules=r".*attn\.to_q",
    task="image-editing",
    license="apache-2.0",
)


def code_of(readme):
    return re.search(r"```python\n(.*?)```", readme, re.DOTALL)[1]


def test_front_matter_is_what_the_hub_asks_for(tmp_path):
    data = ModelCard.load(write_model_card(tmp_path, CARD)).data
    assert data.license == "other"
    assert data.license_name == "flux-1-dev-non-commercial-license"
    assert data.license_link.startswith("https://")
    assert data.library_name == "diffusers"
    assert data.base_model == [FLUX]
    assert data["base_model_relation"] == "adapter"
    assert data.pipeline_tag == "text-to-image"
    assert {"lora", "rubric-policy-optimization", "auto-rubric"} <= set(data.tags)
    assert data.datasets == ["user/prompts"]
    win_rate, success = data.eval_results
    assert (win_rate.metric_type, win_rate.metric_value) == ("win_rate", 0.6125)
    assert win_rate.metric_args == {"adapter": "ARR-FLUX.1-dev", "interval_95": [0.5432, 0.6778]}
    assert (success.metric_type, success.metric_value) == ("success_all", 0.665)


def test_card_says_what_was_measured_with_intervals(tmp_path):
    readme = write_model_card(tmp_path, CARD).read_text()
    for found in (
        "61.3% [54.3%, 67.8%]",
        "| **all criteria** | 31.0% [25.0%, 37.7%] | 66.5% [59.7%, 72.7%] | +35.5 points |",
        "| Both orders agree | 93.5% |",
        "| No verdict | 1.5% |",
        "678,910",
        "1 h 2 min on 1 NVIDIA H100",
        "| `learning_rate` | 5e-05 |",
        "| `note` | a\\|b |",
        "| 40 | 61.0% |",
        "![Pictures of the base and of ARR-FLUX.1-dev](samples.png)",
        "arr_trl 0.1.0, torch 2.13.0",
        "[user/prompts](https://huggingface.co/datasets/user/prompts)",
    ):
        assert found in readme


def test_rubric_is_printed_in_full_inside_a_fence_that_it_cannot_close(tmp_path):
    readme = write_model_card(tmp_path, CARD).read_text()
    assert f"````text\n{RUBRIC.render()}\n````" in readme
    assert RUBRIC.content_hash in readme


def test_what_was_not_recorded_is_said_and_no_figure_takes_its_place(tmp_path):
    readme = write_model_card(tmp_path, EDIT).read_text()
    for sentence in (
        "No evaluation was recorded.",
        "Training time was not recorded.",
        "The hardware was not recorded.",
        "The settings of the run were not recorded.",
        "No judge model was recorded.",
        "No rubric was recorded.",
        "No samples were saved.",
        "| not measured |",
    ):
        assert sentence in readme
    assert "%" not in readme
    assert ModelCard(readme).data.eval_results is None


def test_unknown_license_is_left_out_and_said(tmp_path):
    readme = write_model_card(tmp_path, dataclasses.replace(EDIT, license=None)).read_text()
    assert ModelCard(readme).data.license is None
    assert "The license of the base model is not known" in readme


def test_local_base_is_named_by_its_folder_and_its_path_stays_private(tmp_path):
    base = tmp_path / "private" / "my_base"
    base.mkdir(parents=True)
    readme = write_model_card(tmp_path / "out", dataclasses.replace(CARD, base_model=str(base))).read_text()
    assert str(tmp_path) not in readme
    assert "`my_base` (a local folder)" in readme
    assert 'base_model = "path/to/my_base"' in readme
    data = ModelCard(readme).data
    assert data.base_model is None
    assert "base_model_relation" not in data


def test_local_prompts_and_a_local_judge_leave_no_path_in_the_card(tmp_path):
    prompts, judge = tmp_path / "prompts.jsonl", tmp_path / "Qwen3-VL"
    prompts.write_text("")
    judge.mkdir()
    card = dataclasses.replace(CARD, datasets=[str(prompts)], judge=str(judge))
    readme = write_model_card(tmp_path / "out", card).read_text()
    assert str(tmp_path) not in readme
    assert "Judge: `Qwen3-VL`" in readme
    assert ModelCard(readme).data.datasets is None


def test_second_adapter_keeps_the_section_of_the_first_and_merges_the_front_matter(tmp_path):
    first = write_model_card(tmp_path, CARD).read_text()
    section = first[first.index("## ARR-FLUX.1-dev") : first.index("<!-- /arr_trl:adapter -->")]
    readme = write_model_card(tmp_path, EDIT).read_text()
    assert section in readme
    assert readme.index("## ARR-FLUX.1-dev") < readme.index("## ARR-Qwen-Image-Edit") < readme.index("## Intended use")
    data = ModelCard(readme).data
    assert data.base_model == [FLUX, "Qwen/Qwen-Image-Edit"]
    assert {"text-to-image", "image-to-image", "image-editing"} <= set(data.tags)
    assert (data.license, data.license_name) == ("other", "see-each-adapter")
    assert len(data.eval_results) == 2
    assert readme.count("| `ARR-") == 2


def test_training_an_adapter_again_replaces_its_section_and_its_figures(tmp_path):
    write_model_card(tmp_path, CARD)
    write_model_card(tmp_path, EDIT)
    better = dataclasses.replace(CARD, results=dataclasses.replace(RESULTS, win_rate=0.7), datasets=["user/more"])
    readme = write_model_card(tmp_path, better).read_text()
    assert readme.count("## ARR-FLUX.1-dev\n") == 1
    assert "61.3%" not in readme
    data = ModelCard(readme).data
    assert data.datasets == ["user/more"]
    assert [r.metric_value for r in data.eval_results] == [0.7, 0.665]


def test_writing_the_same_card_twice_changes_nothing(tmp_path):
    once = write_model_card(tmp_path, CARD).read_text()
    assert write_model_card(tmp_path, CARD).read_text() == once
    assert [p.name for p in tmp_path.iterdir()] == ["README.md"]


def test_text_and_front_matter_that_people_wrote_are_kept(tmp_path):
    written = "---\nlanguage: en\ntags:\n- mine\nlicense: mit\n---\n# My models\n\nDear reader.\n"
    (tmp_path / "README.md").write_text(written)
    readme = write_model_card(tmp_path, dataclasses.replace(EDIT, license=None)).read_text()
    assert "# My models\n\nDear reader." in readme
    assert "| `ARR-Qwen-Image-Edit` |" in readme
    data = ModelCard(readme).data
    assert (data.language, data.license) == ("en", "mit")
    assert data.tags[0] == "mine"


def test_damaged_front_matter_is_refused_with_the_remedy(tmp_path):
    (tmp_path / "README.md").write_text("---\na: [\n---\nhello")
    with pytest.raises(ValueError, match="between its `---` lines"):
        write_model_card(tmp_path, CARD)
    assert (tmp_path / "README.md").read_text() == "---\na: [\n---\nhello"


@pytest.mark.parametrize("card", [CARD, EDIT], ids=["generation", "editing"])
def test_usage_code_is_python_and_always_names_the_weights(tmp_path, card):
    code = code_of(write_model_card(tmp_path, card).read_text())
    compile(code, "README.md", "exec")
    assert 'weight_name="pytorch_lora_weights.safetensors"' in code
    assert ("load_image" in code) == (card.task == "image-editing")


def test_usage_code_gives_the_trained_models_picture(tmp_path, monkeypatch):
    trained = build_pipeline(0)
    trained.save_pretrained(tmp_path / "base")
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=["attn.to_q", "ff.net.2"])
    trained.transformer = get_peft_model(trained.transformer, lora)
    for name, parameter in trained.transformer.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, 0, 0.3)
    prompt = "a red circle left of a blue square"
    inference = {"height": 32, "width": 32, "num_inference_steps": 2, "max_sequence_length": 12}
    card = AdapterCard(
        subfolder="ARR",
        base_model=str(tmp_path / "base"),
        pipeline_class="FluxPipeline",
        prompt=prompt,
        lora_r=4,
        lora_alpha=8,
        target_modules=["attn.to_q", "ff.net.2"],
        dtype="float32",
        inference=inference,
    )
    save_adapter(trained.transformer, tmp_path / "out" / "ARR", FluxPipeline)
    code = code_of(write_model_card(tmp_path / "out", card).read_text())
    code = code.replace("path/to/base", str(tmp_path / "base")).replace("path/to/this/folder", str(tmp_path / "out"))
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code, names)

    def picture(pipeline):
        generator = torch.Generator().manual_seed(0)
        return pipeline(prompt=prompt, **inference, generator=generator, output_type="np").images

    np.testing.assert_allclose(picture(names["pipe"]), picture(trained), atol=1e-5)
    assert (tmp_path / "ARR.png").is_file()


@dataclass
class _Arguments:
    learning_rate: float = 1e-4
    lr_scheduler_type: str = "linear"
    warmup_steps: int = 0
    optim: str = "adamw_torch"
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    per_device_train_batch_size: int = 2
    gradient_accumulation_steps: int = 1
    max_steps: int = 10
    num_train_epochs: float = 1.0
    seed: int = 42
    bf16: bool = False
    fp16: bool = False
    logging_dir: str = "/home/someone/runs"
    hub_token: str | None = "hf_secret"


_Arguments.__module__ = "transformers.training_args"  # which it stands for


@dataclass
class _RunArguments(_Arguments):
    beta: float = 0.01
    num_generations: int = 2
    judge_api_key: str | None = "sk-secret"
    rubric_path: str = "/home/someone/rubric.json"
    options: dict = field(default_factory=dict)


def test_settings_show_what_decides_the_result_and_nothing_private():
    settings = training_settings(_RunArguments())
    assert list(settings)[:2] == ["beta", "num_generations"]
    assert settings["learning_rate"] == 1e-4
    assert "secret" not in str(settings)
    assert "someone" not in str(settings)


@dataclass
class _MyConfig(RPOConfig):
    temperature: float = 0.7


def test_settings_are_those_of_every_configuration_that_a_run_inherits(tmp_path):
    settings = training_settings(_MyConfig(output_dir=str(tmp_path), report_to="none", use_cpu=True))
    # one of the user's own, of RPO, of noisy steps, of candidates, of every trainer here, of TrainingArguments
    expected = ("temperature", "positive_reward", "beta", "num_generations", "height", "weight_decay")
    assert {name: settings.get(name) for name in expected} == {
        "temperature": 0.7, "positive_reward": 1.0, "beta": 0.01, "num_generations": 2, "height": 512, "weight_decay": 0.0
    }  # fmt: skip
    assert list(settings).index("height") < list(settings).index("num_generations") < list(settings).index("beta")
    assert "cfg" not in settings  # deprecated
    assert "output_dir" not in settings
    assert "logging_steps" not in settings


def test_card_of_a_run_keeps_its_interval_when_the_command_finds_the_same(tmp_path):
    evaluation, pairs, _ = made_up(tmp_path, prompts=60)
    winner = {None: (0.0, 0.0), 0: (1.0, 0.0), 1: (0.0, 1.0)}
    rewards = [(None, None) if pair.failure else winner[pair.winner] for pair in pairs]
    facts = {"order_consistency": evaluation.results("trained").order_consistency}
    of_run = results_of(rewards, None, base_model="user/base", adapter="trained", **facts)
    card = dataclasses.replace(CARD, subfolder="trained", results=of_run)
    before = write_model_card(tmp_path, card).read_text()
    low, high = (f"{100 * end:.1f}%" for end in of_run.win_rate_ci)
    assert f"[{low}, {high}]" in before
    assert record_results(tmp_path, "trained", evaluation.results("trained"))
    assert (tmp_path / "README.md").read_text() == before


def test_license_comes_from_the_card_of_a_local_base(tmp_path):
    assert base_license(tmp_path) == {"license": None, "license_name": None, "license_link": None}
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Base\n")
    assert base_license(tmp_path)["license"] == "apache-2.0"
