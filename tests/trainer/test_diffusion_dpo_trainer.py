"""Training on given preferences: the loss of a real network, what is drawn, measured, evaluated, and kept in a checkpoint."""

import logging
import math

import numpy as np
import pytest
import torch
from datasets import Dataset, load_dataset
from given_pairs import away, build, plain, rankings, rows
from scripted_judge import ScriptedJudge, picture
from tiny_pipelines import build_qwen_image

from arr_trl import DiffusionDPOConfig, DiffusionDPOTrainer
from arr_trl.data import RowError
from arr_trl.data.given_pictures import decode_pairs
from arr_trl.judges import JudgeReward, JudgeStats, Verdict
from arr_trl.tiny_scenes import prompts
from arr_trl.trainer.frozen_adapters import REFERENCE, use_frozen_copy
from arr_trl.trainer.label_check import check_labels
from arr_trl.trainer.measured import numbers
from arr_trl.trainer.preference_watch import both_errors_rise, prompts_of


def history(trainer):
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def batch(trainer, places=(0, 1)):
    trainer._stop_together = lambda failure, message: None if failure is None else (_ for _ in ()).throw(failure)
    return trainer._prepare_inputs(list(places))


# The loss


def by_hand(trainer, inputs, K=2, n=2):
    """ε - x0, v and v_ref of every point, from the network itself, in float64 `[B, K, n, L·C]`."""
    policy, model = trainer.policy, trainer.model
    x0, noise, sigma = (inputs[name].double() for name in ("x0", "noise", "sigma"))
    found = []
    for r in range(len(x0)):
        row = {name.removeprefix("conditioning."): t for name, t in inputs.items() if name.startswith("conditioning.")}
        conditioning = {name: t[inputs["prompt"][r]][None] for name, t in row.items()}
        for i in range(n):
            eps = noise[r] if noise.ndim == 3 else noise[r, i]
            x = ((1 - sigma[r]) * x0[r, i] + sigma[r] * eps)[None].float()
            level = inputs["sigma"][r : r + 1]
            guidance = trainer.args.guidance_scale
            with torch.no_grad():
                v = policy.velocity(model, x, level, conditioning, guidance)[0]
                with model.disable_adapter():
                    ref = policy.velocity(model, x, level, conditioning, guidance)[0]
            found.append([t.double().flatten().numpy() for t in (eps - x0[r, i], v, ref)])
    return np.array(found).reshape(len(x0) // K, K, n, 3, -1)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_loss_of_a_real_network_is_that_of_its_velocities_in_float64(flux_pipeline, tmp_path, label_smoothing):
    trainer = away(build(flux_pipeline, tmp_path, label_smoothing=label_smoothing))
    inputs = batch(trainer)
    u, v, ref = np.moveaxis(by_hand(trainer, inputs), 3, 0)
    rise = (((v - u) ** 2).mean(-1) - ((ref - u) ** 2).mean(-1)).mean(1)  # [B, n], over the levels inside
    inside = -100 / 2 * (rise[:, 0] - rise[:, 1])
    expected = np.mean((1 - label_smoothing) * np.log1p(np.exp(-inside)) + label_smoothing * np.log1p(np.exp(inside)))
    loss = trainer.compute_loss(trainer.model, inputs)
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    kept = trainer._metrics["train"]
    # to read a number would make the host wait for the device
    assert all(isinstance(value, torch.Tensor) for values in kept.values() for value in values)
    metrics = {name: numbers(values) for name, values in kept.items()}
    assert metrics["rewards/margins"] == pytest.approx(inside.tolist(), rel=1e-3, abs=1e-4)
    assert metrics["policy/chosen_error"] == pytest.approx(rise[:, 0].tolist(), rel=1e-3, abs=1e-6)
    assert metrics["policy/rejected_error"] == pytest.approx(rise[:, 1].tolist(), rel=1e-3, abs=1e-6)
    assert metrics["rewards/accuracies"] == (inside > 0).astype(float).tolist()


def test_gradient_of_sdpo_is_that_of_the_sigmoid_with_the_loser_scaled(flux_pipeline, tmp_path):
    trainer = away(build(flux_pipeline, tmp_path, loss_type="sdpo"))
    u, v, ref = (torch.from_numpy(np.moveaxis(by_hand(trainer, batch(trainer)), 3, 0))).double()
    v = v.clone().requires_grad_()
    as_pairs = [t.transpose(1, 2).flatten(2)[..., None] for t in (v, ref, u)]
    loss = trainer._preference_loss(*as_pairs, torch.tensor([[1.0, 0.0]] * 2)).sum()
    (gradient,) = torch.autograd.grad(loss, v)
    rise = (((v - u) ** 2).mean((1, 3)) - ((ref - u) ** 2).mean((1, 3))).detach()
    weight = 50 * torch.sigmoid(50 * (rise[:, 0] - rise[:, 1]))
    slope = 2 * (v - u).detach() / (v.shape[1] * v.shape[3])
    winner, loser = slope[:, :, 0].flatten(1), slope[:, :, 1].flatten(1)
    along = (winner * loser).sum(1)
    scale = torch.where(along > 0, ((winner**2).sum(1) / along).clamp(0, 1), 1.0)
    torch.testing.assert_close(gradient[:, :, 0].flatten(1), weight[:, None] * winner)
    torch.testing.assert_close(gradient[:, :, 1].flatten(1), -(weight * scale)[:, None] * loser)


def test_rankings_of_three_are_trained_on_by_their_scores(flux_pipeline, tmp_path):
    trainer = build(flux_pipeline, tmp_path, rankings(), loss_type="rank")
    inputs = batch(trainer)
    assert inputs["x0"].shape[:2] == (4, 3)
    assert inputs["scores"].tolist() == [[1.0, 0.5, 0.0]] * 2
    trainer.train()
    (entry,) = history(trainer)
    weights = [
        abs(2**a - 2**b) * abs(1 / math.log(2 + i) - 1 / math.log(2 + j))
        for (i, a), (j, b) in [((0, 1.0), (1, 0.5)), ((0, 1.0), (2, 0.0)), ((1, 0.5), (2, 0.0))]
    ]
    assert entry["loss"] == pytest.approx(math.log(2) * sum(weights) / 3, rel=1e-5)
    assert entry["rewards/accuracies"] == 0.5


@pytest.mark.parametrize(
    "loss_type", ["sigmoid", *(pytest.param(name, marks=pytest.mark.slow) for name in ("sdpo", "rank"))]
)
def test_a_step_makes_the_preferred_pictures_likelier_than_the_others(flux_pipeline, tmp_path, loss_type):
    trainer = build(flux_pipeline, tmp_path, loss_type=loss_type, learning_rate=1e-3, max_steps=2, num_train_epochs=9)
    trainer.train()
    first, _second = history(trainer)
    assert first["rewards/accuracies"] == 0.5  # exactly: the adapter does nothing yet
    assert first["policy/chosen_error"] == first["rewards/margins"] == 0.0
    trainer._measure_pairs(rows())
    assert np.mean(numbers(trainer._metrics["eval"]["rewards/margins"])) > 0


def test_guidance_has_no_second_branch_in_the_loss(tmp_path):
    trainer = build(
        build_qwen_image(),
        tmp_path,
        guidance_scale=4.0,
        eval_dataset=rows(2),
        num_eval_samples=1,
    )
    # drawn with guidance and without, it is measured on pairs once
    metrics = trainer.evaluate()
    assert metrics["eval_rewards/accuracies"] == 0.5
    assert metrics["eval_as_trained/guidance_scale"] == 1.0
    before = trainer.transformer_forwards
    trainer.compute_loss(trainer.model, batch(trainer))
    assert trainer.transformer_forwards - before == 2 * 2 * 2 * 2  # pairs, pictures, levels, and the reference


# What is drawn


def test_both_pictures_of_a_pair_get_the_same_noise_at_the_same_levels(flux_pipeline, tmp_path):
    trainer = build(flux_pipeline, tmp_path, num_train_points=4)
    inputs = batch(trainer)
    assert inputs["noise"].shape == (8, *inputs["x0"].shape[2:])
    assert len(inputs["sigma"].unique()) == 8
    first = inputs["sigma"][:4]
    assert first[0] < 0.5 < first[3]
    assert first.sort().values.equal(first)
    trainer.state.global_step = 1
    assert not batch(trainer)["noise"].equal(inputs["noise"])


def test_levels_of_a_schedule_are_those_of_the_evaluation(flux_pipeline, tmp_path):
    trainer = build(
        flux_pipeline, tmp_path, timestep_sampling="schedule", eval_num_inference_steps=8, timestep_range=0.7
    )
    schedule = trainer.policy.sigmas(8, 32, 32)
    assert all((schedule == sigma).any() and sigma >= 0.3 for sigma in batch(trainer)["sigma"])
    with pytest.raises(ValueError, match="more eval_num_inference_steps"):
        build(flux_pipeline, tmp_path, timestep_sampling="schedule", timestep_range=0.1)


def test_noise_of_a_pair_is_the_one_that_its_pictures_were_drawn_from(flux_pipeline, tmp_path):
    own = [[7, 0], [7, 1]]
    dataset = rows().add_column("chosen_noise", own * 2).add_column("rejected_noise", own[::-1] * 2)
    trainer = build(flux_pipeline, tmp_path, dataset, pair_noise="own")
    generator = torch.Generator().manual_seed(7)
    first, second = trainer.policy.initial_noise(2, 32, 32, [generator, generator])
    noise = batch(trainer)["noise"].view(2, 2, 2, *first.shape)  # pairs, levels, pictures
    for k in range(2):
        assert noise[0, k, 0].equal(first)
        assert noise[0, k, 1].equal(second)
        assert noise[1, k, 0].equal(second)
        assert noise[1, k, 1].equal(first)
    with pytest.raises(ValueError, match="has no column 'chosen_noise'"):
        build(flux_pipeline, tmp_path, pair_noise="own")
    small = build(flux_pipeline, tmp_path, dataset, pair_noise="own", height=16)
    with pytest.raises(RowError, match=r"32 × 32 pixels.*needs width=32 and height=32"):
        batch(small)


def test_pictures_are_encoded_once_and_kept_on_disk(flux_pipeline, tmp_path):
    trainer = build(flux_pipeline, tmp_path, prompt_cache_dir=str(tmp_path / "cache"))
    encoded = []
    encode = trainer.policy.encode_pictures
    trainer.policy.encode_pictures = lambda images, *size: encoded.append(len(images)) or encode(images, *size)
    first = batch(trainer)
    assert sum(encoded) == 4
    assert batch(trainer)["x0"].equal(first["x0"])
    assert sum(encoded) == 4
    other = build(flux_pipeline, tmp_path, prompt_cache_dir=str(tmp_path / "cache"), max_cached_pictures=1)
    other.policy.encode_pictures = None
    assert batch(other)["x0"].equal(first["x0"])
    assert len(other.policy.pictures._rows) == 1


# What is refused


def test_broken_picture_ends_training_with_the_number_of_its_row(flux_pipeline, tmp_path):
    broken = {"bytes": picture(1)["bytes"][:45], "path": None}
    dataset = Dataset.from_list(
        [{"prompt": f"a {k}", "chosen": picture(k), "rejected": broken if k == 3 else picture(9)} for k in range(4)]
    )
    trainer = build(flux_pipeline, tmp_path, dataset, per_device_train_batch_size=4)
    with pytest.raises(RowError, match="Row 3, with the prompt 'a 3'"):
        trainer.train()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beta": 0.0}, "beta=0.0 must be greater than 0"),
        ({"label_smoothing": 0.5}, "label_smoothing=0.5 is a probability"),
        ({"label_smoothing": 0.1, "loss_type": "sdpo"}, "goes with loss_type='sigmoid' alone"),
        ({"loss_type": "ipo"}, "loss_type='ipo' is not one of"),
        ({"timestep_range": 0.5}, "set timestep_sampling='schedule'"),
        ({"timestep_range": 0.0, "timestep_sampling": "schedule"}, "timestep_range=0.0 is a share"),
        ({"pair_noise": "own", "loss_type": "rank"}, "pair_noise='own' is for pairs"),
        ({"pair_noise": "some"}, "pair_noise='some' is not one of"),
        ({"ref_model_mixup_alpha": 0.0}, "ref_model_mixup_alpha=0.0 is a share"),
        ({"num_label_checks": -1}, "num_label_checks=-1"),
        ({"sync_ref_model": True, "adapter_path": "x"}, "set reference='adapter'"),
        ({"num_train_points": 0}, "num_train_points=0 has to be at least 1"),
        ({"timestep_sampling": "uniform"}, "timestep_sampling='uniform' is not one of"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        DiffusionDPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, **settings)


def test_rows_that_are_no_preferences_are_refused_before_anything_is_loaded(flux_pipeline, tmp_path):
    with pytest.raises(ValueError, match="preferences are `chosen` and `rejected`"):
        build("nowhere", tmp_path, prompts("train[:4]"))
    with pytest.raises(ValueError, match="set `loss_type='rank'`"):
        build("nowhere", tmp_path, rankings())
    with pytest.raises(ValueError, match="train_dataset has 4 rows, and one optimizer step takes 8"):
        build("nowhere", tmp_path, gradient_accumulation_steps=4)


def test_sides_are_cut_and_resized_alike_and_sources_with_them():
    row = {"prompt": "a", "chosen": plain("red", (64, 32)), "rejected": plain("blue", (128, 64)),
           "source_image": [plain("green", (64, 32)), plain("white", (20, 30))]}  # fmt: skip
    (decoded,) = decode_pairs([row], [5], 16, 16)
    assert [image.size for image in decoded["pictures"]] == [(16, 16)] * 2
    assert [image.size for image in decoded["source_image"]] == [(32, 32), (20, 30)]  # the other shows something else
    assert decoded["scores"] == [1.0, 0.0]
    stripes = plain("red", (64, 32))
    stripes.paste("blue", (16, 0, 48, 32))
    (decoded,) = decode_pairs([row | {"chosen": stripes}], [5], 16, 16)
    assert decoded["pictures"][0].getpixel((1, 8)) == (0, 0, 255)  # from the middle, nothing squeezed
    with pytest.raises(ValueError, match=r"Row 5, with the prompt 'a': .* 2 pictures and 3 scores"):
        decode_pairs([{"prompt": "a", "images": [plain("red"), plain("blue")], "scores": [1, 2, 3]}], [5], 16, 16)


# The reference


@pytest.mark.slow
def test_reference_follows_the_adapter_where_it_is_asked_to(flux_pipeline, tmp_path):
    settings = dict(sync_ref_model=True, ref_model_mixup_alpha=0.5, ref_model_sync_steps=2, learning_rate=1e-3)
    trainer = build(flux_pipeline, tmp_path, max_steps=3, num_train_epochs=9, **settings)
    trainer.train()
    first, second, _third = history(trainer)
    assert first["policy/kl"] == 0.0
    assert second["policy/kl"] > 0.0
    with use_frozen_copy(trainer.model, REFERENCE):
        weights = {n: p for n, p in trainer.model.named_parameters() if f"lora_B.{REFERENCE}" in n}
    assert any(weight.abs().max() > 0 for weight in weights.values())
    # of the base, which the copy began as, it is the half of the way
    inputs = batch(trainer)
    with torch.no_grad():
        _, ref, _ = trainer._velocities(trainer.model, inputs)
        trainer.args.sync_ref_model = False
        _, base, _ = trainer._velocities(trainer.model, inputs)
    assert not ref.equal(base)


# Evaluation


class Brightest(JudgeReward):
    """Prefers the brighter picture, or with `turned` the darker one."""

    def __init__(self, turned=False):
        super().__init__(None, 1)
        self.turned, self.asked = turned, 0

    def check(self):
        pass

    def _compare(self, rows):
        self.asked += len(rows)
        light = [[float(np.asarray(image).mean()) for image in row.images] for row in rows]
        winners = [int((second > first) != self.turned) for first, second in light]
        return [Verdict(winner=w, ranks=(2 - (w == 0), 1 + (w == 0))) for w in winners], JudgeStats()


def bright_and_dark(count=16):
    return Dataset.from_list(
        [{"prompt": f"a {k}", "chosen": plain("white"), "rejected": plain((k, k, k))} for k in range(count)]
    )


def test_held_out_pairs_are_measured_and_pictures_compared(flux_pipeline, tmp_path):
    judge = Brightest()
    trainer = build(
        flux_pipeline, tmp_path, eval_dataset=rows(5), rewards=judge, num_eval_prompts=2, num_label_checks=0
    )
    metrics = trainer.evaluate()
    assert metrics["eval_rewards/accuracies"] == 0.5
    assert judge.asked == 2  # distinct prompts, base against trained
    assert 0 <= metrics["eval_win_rate"] <= 1
    away(trainer)
    first = trainer.evaluate()
    assert first["eval_rewards/accuracies"] != 0.5
    assert trainer.evaluate()["eval_rewards/margins"] == first["eval_rewards/margins"]  # under fixed noise


def test_without_a_judge_there_is_an_accuracy_and_a_sheet(flux_pipeline, tmp_path):
    trainer = build(flux_pipeline, tmp_path, eval_dataset=rows(3), num_eval_samples=1)
    metrics = trainer.evaluate()
    assert "eval_win_rate" not in metrics
    assert "eval_failure_rate" not in metrics
    assert metrics["eval_rewards/accuracies"] == 0.5
    assert (tmp_path / "out" / "samples.png").is_file()
    trainer.create_model_card()
    card = (tmp_path / "out" / "README.md").read_text()
    assert "### Preference data" in card
    assert "4 pairs" in card


@pytest.mark.slow
def test_best_model_may_be_that_of_the_accuracy(flux_pipeline, tmp_path):
    trainer = build(
        flux_pipeline, tmp_path, eval_dataset=rows(2), num_eval_samples=1, eval_strategy="steps", eval_steps=1,
        save_strategy="best", load_best_model_at_end=True,
    )  # fmt: skip
    trainer.train()
    assert trainer.args.metric_for_best_model == "eval_rewards/accuracies"
    assert trainer.state.best_metric is not None


# What is told


def test_judge_tells_swapped_labels_before_training(caplog):
    caplog.set_level(logging.INFO)
    assert check_labels(Brightest(), bright_and_dark(), 12) == (12, 12)
    assert "agrees with 12 of the 12 labels" in caplog.text
    assert "swapped" not in caplog.text
    assert check_labels(Brightest(turned=True), bright_and_dark().to_iterable_dataset(), 12) == (0, 12)
    assert "the sides of the data may be swapped" in caplog.text
    caplog.clear()
    undecided = ScriptedJudge(dict.fromkeys((f"a {k}" for k in range(16)), ("tie", "tie")))
    assert check_labels(undecided, bright_and_dark(), 12) == (0, 0)
    assert "decided none of the 12 pairs" in caplog.text


def test_the_judge_of_labels_gets_the_columns_that_presets_read():
    seen = []

    class Reading(Brightest):
        def _compare(self, rows):
            seen.extend(row.columns["requirement"] for row in rows)
            return super()._compare(rows)

    dataset = bright_and_dark()
    check_labels(Reading(), dataset.add_column("requirement", [f"n{i}" for i in range(len(dataset))]), 2)
    assert len(set(seen)) == 2


def test_warning_comes_when_both_errors_rise_and_not_before():
    low, high = [0.001] * 3, [0.05] * 3
    assert both_errors_rise(high[:2], high, [0.2] * 3) is None
    assert both_errors_rise(low, high, [0.2] * 3) is None
    assert both_errors_rise(high, [-0.1] * 3, [0.2] * 3) is None
    sentence = both_errors_rise(high, high, [0.2] * 3)
    assert "`policy/chosen_error`" in sentence
    assert "25% of what the reference has" in sentence


@pytest.mark.slow
def test_run_whose_preferred_pictures_get_unlikely_is_told(flux_pipeline, tmp_path, caplog):
    trainer = build(flux_pipeline, tmp_path, max_steps=6, num_train_epochs=9, learning_rate=0.3, beta=5000.0)
    trainer.train()
    assert history(trainer)[-1]["policy/chosen_error"] > 0
    assert "the matching error of the preferred pictures has risen" in caplog.text


def test_batch_arithmetic_is_told_in_words(flux_pipeline, tmp_path):
    assert build(flux_pipeline, tmp_path).batch_arithmetic() == (
        "optimizer step  2 pairs\n"
        "loss            each picture at 2 noise levels\n"
        "transformer     8 passes for each pair, half of them of the reference"
    )


# Order and resuming


@pytest.mark.slow
def test_every_row_comes_once_an_epoch_in_whole_optimizer_steps(flux_pipeline, tmp_path):
    trainer = build(
        flux_pipeline, tmp_path, rows(5), per_device_train_batch_size=1, gradient_accumulation_steps=2, max_steps=5
    )
    seen = []
    points = trainer._points
    trainer._points = lambda found, numbers, generators: seen.extend(numbers) or points(found, numbers, generators)
    trainer.train()
    assert sorted(seen[:5]) == sorted(seen[5:]) == list(range(5))
    assert seen[:5] != seen[5:]


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
def test_two_micro_steps_train_what_one_does(flux_pipeline, tmp_path, streaming):
    def losses(name, size, parts):
        dataset = rows(8).to_iterable_dataset() if streaming else rows(8)
        trainer = build(
            flux_pipeline, tmp_path / name, dataset, per_device_train_batch_size=size, gradient_accumulation_steps=parts,
            max_steps=2, learning_rate=1e-3, shuffle_buffer_size=4,
        )  # fmt: skip
        trainer.train()
        return [(entry["loss"], entry["grad_norm"]) for entry in history(trainer)]

    one, two = losses("one", 4, 1), losses("two", 2, 2)
    for expected, found in zip(one, two, strict=True):
        assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_completions_of_a_run_are_what_is_trained_on(flux_pipeline, tmp_path):
    """What `log_completions` kept becomes pairs whose noise is the one that drew them."""
    from test_diffusion_nft_trainer import build as build_nft

    from arr_trl.cli.main import main
    from arr_trl.data.preference_rows import preference_rows

    drawn = build_nft(flux_pipeline, tmp_path, log_completions=True, logging_steps=1)
    drawn.train()
    source, output = drawn.args.output_dir, str(tmp_path / "pairs")
    assert main(["pairs", "from-run", source, "--output", output, "--test_share", "0"]) == 0
    table = load_dataset("parquet", data_files=f"{source}/completions/*.parquet", split="train")
    found = preference_rows(output)
    assert len(found) == len(table) // 3
    trainer = build(flux_pipeline, tmp_path, found, pair_noise="own", max_steps=1)
    inputs = batch(trainer)
    # the ODE from this noise ends at this picture
    policy = trainer.policy
    row = found[0]
    seed, before = row["chosen_noise"]
    assert [seed, before] == [table[0]["noise_seed"], 0]
    from arr_trl.sampling import denoise

    conditioning = policy.encode([{"prompt": row["prompt"]}], 32, 32)
    noise = inputs["noise"].view(2, 2, 2, *inputs["noise"].shape[2:])[0, 0, :1]
    with trainer.model.disable_adapter():
        end = denoise(
            policy, trainer.model, noise, policy.sigmas(4, 32, 32), conditioning, trainer.args.guidance_scale
        )
    (picture_of_noise,) = policy.decode(end, 32, 32)
    assert np.abs(np.asarray(picture_of_noise).astype(int) - np.asarray(row["chosen"].convert("RGB"))).max() <= 1
    trainer.train()


def test_sizes_that_columns_say_of_pairs_are_not_those_that_are_drawn():
    """Data on the Hub keeps there what its pictures had; prompts alone may ask for a size."""
    pairs = Dataset.from_list([{"prompt": "a", "chosen": "a.png", "rejected": "b.png", "height": 333, "width": 1.5}])
    trainer = object.__new__(DiffusionDPOTrainer)
    assert trainer._sizes_of_rows(pairs, pairs) == {}
    assert prompts_of(pairs, 1).column_names == ["prompt"]
    prompts = Dataset.from_list([{"prompt": "a", "height": 32, "width": 64}])
    assert set(trainer._sizes_of_rows(pairs, prompts).values()) == {32, 64}
