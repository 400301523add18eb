"""An evaluation from end to end, on the pre-trained TinyScenes base with adapters that do something."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image
from test_adapters import trained_adapter
from tiny_pipelines import build_flux_kontext

from arr_trl import FluxPolicy, RubricJudge
from arr_trl.evaluation import Evaluation, Evaluator, InferenceSettings, parse_adapters
from arr_trl.policies import policy_for
from arr_trl.release import AdapterCard, write_model_card
from arr_trl.rewards import RewardError
from arr_trl.tiny_scenes import TinyScenesJudge, load_pipeline, prompts, success


RUBRIC = "examples/rubrics/tiny_scenes.json"
ROWS = list(prompts("test[:4]"))
SETTINGS = InferenceSettings(32, 32, num_inference_steps=2, num_images_per_prompt=2)


def brightness(prompts, completions, num_generations, log_metric, **columns):
    log_metric("brightness/calls", 1.0)
    assert len(completions) % num_generations == 0
    return [float(np.asarray(image).mean()) for image in completions]


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters")
    for seed, name in enumerate(("one", "two")):
        trained_adapter(folder / name, seed)
    return [str(folder / "one"), str(folder / "two")]


def evaluator(output, adapters, root, rows=ROWS, settings=SETTINGS, **options):
    judge = RubricJudge(root / RUBRIC, TinyScenesJudge(**options), store=output / "judge.sqlite")
    return Evaluator(
        FluxPolicy(load_pipeline(), max_sequence_length=12),
        parse_adapters(adapters),
        rows,
        output,
        settings,
        judge,
        [brightness],
        [success],
        batch_size=4,
    )


@pytest.fixture(scope="module")
def root(request):
    return request.config.rootpath


@pytest.fixture(scope="module")
def found(adapters, root, tmp_path_factory):
    output = tmp_path_factory.mktemp("evaluation")
    return output, *evaluator(output, adapters, root).run()


def test_every_two_models_are_compared_on_every_picture(found):
    _, evaluation, pairs, pictures = found
    assert [c["models"] for c in evaluation.comparisons] == [["base", "one"], ["base", "two"], ["one", "two"]]
    assert all(c["pairs"] == 8 for c in evaluation.comparisons)
    assert len(pairs) == 3 * 8
    assert len(pictures) == 3 * 8
    assert {s["model"] for s in evaluation.ranking} == {"base", "one", "two"}


def test_first_picture_is_the_one_that_the_pipeline_draws_with_that_seed(found):
    output = found[0]
    pipeline = load_pipeline()
    generator = torch.Generator().manual_seed(1234 + 2)
    wanted = pipeline(
        ROWS[2]["prompt"],
        height=32,
        width=32,
        num_inference_steps=2,
        guidance_scale=3.5,
        max_sequence_length=12,
        generator=generator,
    ).images[0]
    drawn = Image.open(output / "images" / "base" / "00002-0.png")
    assert np.abs(np.asarray(drawn, dtype=int) - np.asarray(wanted, dtype=int)).max() <= 1


def test_measures_of_the_models_are_there(found):
    _, evaluation, _, _ = found
    base, one = evaluation.models["base"], evaluation.models["one"]
    assert base["drift"] is None
    assert one["drift"] > 0
    assert 0 < base["pixel_diversity"] < 1
    assert base["rewards"]["brightness"]["mean"] > 0
    assert set(base["success"]) == {"colors", "shapes", "relation", "count"}
    assert evaluation.comparisons[0]["rewards"]["brightness"]["win_rate"] is not None


def test_criteria_and_orders_are_reported(found):
    _, evaluation, pairs, _ = found
    against_base = evaluation.comparisons[0]
    assert [c["criterion"] for c in against_base["criteria"]] == [1, 2, 3, 4]
    assert against_base["order_consistency"] == 1.0
    # a judge that goes by what it sees says the same in both orders
    assert against_base["win_rate_first_order"] == against_base["win_rate_second_order"] == against_base["win_rate"]
    assert all(pair.orders == (pair.winner, pair.winner) for pair in pairs)
    # asked once in each order, although each order was looked at alone as well
    assert evaluation.judge["calls"] <= 2 * len(pairs)


def test_results_come_back_as_they_were_written_and_pairs_can_be_read_line_by_line(found):
    output, evaluation, pairs, _ = found
    assert json.loads(json.dumps(asdict(Evaluation.load(output / "results.json")))) == json.loads(
        json.dumps(asdict(evaluation))
    )
    lines = [json.loads(line) for line in (output / "pairs.jsonl").read_text().splitlines()]
    assert len(lines) == len(pairs)
    assert lines[0]["prompt_text"] == ROWS[0]["prompt"]


def test_what_is_there_is_neither_drawn_nor_asked_again(found, adapters, root):
    output, evaluation, _, _ = found
    drawn = {path: path.stat().st_mtime_ns for path in (output / "images").rglob("*.png")}
    lost = output / "images" / "one" / "00001-1.png"
    content = lost.read_bytes()
    lost.unlink()
    again, *_ = evaluator(output, adapters, root).run()
    assert lost.read_bytes() == content
    assert {p for p in drawn if p != lost and p.stat().st_mtime_ns != drawn[p]} == set()
    assert again.judge["calls"] == 0
    assert again.comparisons == evaluation.comparisons


def test_pictures_drawn_otherwise_are_not_mixed_in(found, adapters, root):
    output = found[0]
    other = InferenceSettings(32, 32, num_inference_steps=3)
    with pytest.raises(ValueError, match="were drawn with num_inference_steps=2, not 3; choose another `output`"):
        evaluator(output, adapters, root, settings=other)
    with pytest.raises(ValueError, match="were drawn with prompts="):
        evaluator(output, adapters, root, rows=ROWS[:3])


def test_adapter_that_was_trained_further_is_not_taken_for_the_former(tmp_path, root):
    trained_adapter(tmp_path / "one", seed=0)
    evaluator(tmp_path / "out", [str(tmp_path / "one")], root)
    trained_adapter(tmp_path / "one", seed=1)
    with pytest.raises(ValueError, match="were drawn with adapter one="):
        evaluator(tmp_path / "out", [str(tmp_path / "one")], root)


def test_judge_that_goes_by_position_has_opposite_win_rates_in_the_two_orders(tmp_path, adapters, root):
    evaluation, *_ = evaluator(tmp_path, adapters[:1], root, position_bias=1.0).run()
    (against_base,) = evaluation.comparisons
    assert against_base["win_rate_first_order"] == 0.0  # the base was shown first
    assert against_base["win_rate_second_order"] == 1.0
    assert against_base["win_rate"] == 0.5
    assert against_base["order_consistency"] == 0.0


def test_failures_are_left_out_of_the_rate_and_told(tmp_path, adapters, root):
    evaluation, pairs, _ = evaluator(tmp_path, adapters[:1], root, failure_rate=1.0).run()
    assert evaluation.comparisons[0]["win_rate"] is None
    assert evaluation.comparisons[0]["failure_rate"] == 1.0
    assert all(pair.failure for pair in pairs)


def test_results_go_into_a_model_card(found, tmp_path):
    results = found[1].results("one")
    card = AdapterCard("one", "base/model", "FluxPipeline", "a prompt", 4, 8, ["to_q"], results=results)
    text = write_model_card(tmp_path, card).read_text()
    assert "win_rate" in text
    assert "On 4 held-out prompts, 2 pictures of each" in text


def test_nothing_to_measure_with_is_refused(tmp_path, adapters):
    policy = FluxPolicy(load_pipeline(), max_sequence_length=12)
    with pytest.raises(ValueError, match="There is nothing to compare with"):
        Evaluator(policy, parse_adapters(adapters), ROWS, tmp_path, SETTINGS)


def level(prompts, completions, **columns):
    return [0.5] * len(completions)


def edit_rows(color):
    return [{"prompt": "make it green", "source_image": Image.new("RGB", (64, 64), color)}]


def drawn_into(output, condition_size=64, rows=None, pipeline=None):
    policy = policy_for(pipeline or build_flux_kontext(), max_sequence_length=16, condition_size=condition_size)
    settings = InferenceSettings(32, 32, 2, 3.5, 1, 0)
    Evaluator(policy, [], rows or edit_rows("red"), output, settings, reward_funcs=[level]).run()
    return (output / "images" / "base" / "00000-0.png").read_bytes()


def other_weights(pipeline):
    with torch.no_grad():
        next(iter(pipeline.transformer.parameters())).flatten()[0].add_(1.0)
    return pipeline


def other_schedule(pipeline):
    pipeline.scheduler.register_to_config(max_shift=2.0)
    return pipeline


@pytest.mark.parametrize(("change", "named"), [
    ({"condition_size": 128}, "base"),
    ({"rows": edit_rows("blue")}, "sources"),
    ({"pipeline": other_weights(build_flux_kontext())}, "base"),
    ({"pipeline": other_schedule(build_flux_kontext())}, "base"),
])  # fmt: skip
def test_pictures_drawn_from_something_else_are_not_taken_for_these(tmp_path, change, named):
    drawn_into(tmp_path)
    with pytest.raises(ValueError, match=rf"were drawn with {named}=.*; choose another `output`"):
        drawn_into(tmp_path, **change)


def test_pictures_of_the_same_base_and_sources_are_taken_up_again(tmp_path):
    first = drawn_into(tmp_path)
    (tmp_path / "images" / "base" / "00000-0.png").write_bytes(first)
    source = tmp_path / "red.png"
    edit_rows("red")[0]["source_image"].save(source)
    assert drawn_into(tmp_path, rows=[{"prompt": "make it green", "source_image": str(source)}]) == first


@pytest.mark.parametrize("values", [np.array, torch.tensor], ids=["numpy", "torch"])
def test_rewards_and_truths_of_other_libraries_are_numbers_in_what_is_written(tmp_path, values):
    def reward(prompts, completions, **columns):
        return values([0.25] * len(completions))

    def truth(prompts, completions, **columns):
        return [{"bright": np.bool_(True)} for _ in completions]

    policy = policy_for(build_flux_kontext(), max_sequence_length=16, condition_size=64)
    settings = InferenceSettings(32, 32, 2, 3.5, 1, 0)
    Evaluator(policy, [], edit_rows("red"), tmp_path, settings, reward_funcs=[reward], eval_funcs=[truth]).run()
    results = json.loads((tmp_path / "results.json").read_text())
    assert "0.25" in json.dumps(results["models"])


def test_function_that_leaves_a_picture_out_is_named_in_an_evaluation_too(tmp_path):
    def forgetful(prompts, completions, **columns):
        return [0.25] * (len(completions) - 1)

    policy = policy_for(build_flux_kontext(), max_sequence_length=16, condition_size=64)
    settings = InferenceSettings(32, 32, 2, 3.5, 1, 0)
    with pytest.raises(RewardError, match="'forgetful' returned 0 rewards for 1 images"):
        Evaluator(policy, [], edit_rows("red"), tmp_path, settings, reward_funcs=[forgetful]).run()
