"""Training by the gradient of a reward: its gradients, what it costs, what is measured, and what is refused."""

import copy
from contextlib import contextmanager

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from test_arithmetic import PROMPTS, count_backwards
from test_diffusion_nft_trainer import SMALL, away
from tiny_pipelines import build_qwen_image

from arr_trl import AlignPropConfig, AlignPropTrainer, Rubric, RubricJudge
from arr_trl.rewards import HTTPScorer, ModelScorer, RewardError
from arr_trl.rubrics import Criterion
from arr_trl.sampling import denoise
from arr_trl.tiny_scenes import TinyScenesJudge
from arr_trl.trainer.buffer import random_at
from arr_trl.trainer.cost import backprop_forwards
from arr_trl.trainer.evaluation import draw_rows
from arr_trl.trainer.measured import numbers


ROWS = [{"prompt": prompt} for prompt in PROMPTS[:2]]
STRATEGIES = {
    "last": {"backprop_steps": 2},
    "random": {"backprop_strategy": "random", "backprop_steps": 2},
    "detached": {"backprop_strategy": "random", "backprop_steps": 2, "detach_inputs": True},
    "refl": {"backprop_strategy": "refl"},
    "leap": {"backprop_strategy": "leap"},
}


def contrast(prompts, pixels, **columns):
    """A reward that differs from pixel to pixel."""
    ramp = torch.linspace(-1, 1, pixels.shape[-1])
    return 30 * (pixels * ramp).mean((1, 2, 3))


def build(pipeline, tmp_path, reward=contrast, dataset=None, eval_dataset=None, **overrides):
    own = {"output_dir": str(tmp_path / "out"), "per_device_train_batch_size": 2, "learning_rate": 1e-3}
    given = {name: overrides.pop(name) for name in ("eval_reward_funcs", "watch_funcs") if name in overrides}
    return AlignPropTrainer(
        model=copy.deepcopy(pipeline),
        reward_funcs=reward,
        args=AlignPropConfig(**{**SMALL, **own, **overrides}),
        train_dataset=Dataset.from_dict({"prompt": PROMPTS}) if dataset is None else dataset,
        eval_dataset=eval_dataset,
        peft_config=LoraConfig(r=2, lora_alpha=4),
        **given,
    )


def noise_of(trainer, count):
    return trainer.policy.initial_noise(count, 32, 32, trainer._generators(count))


def loss_of(trainer, rows=ROWS):
    return trainer.compute_loss(trainer.model, rows)


def measured(trainer):
    return {name: numbers(values) for name, values in trainer._metrics["train"].items()}


def lora(trainer):
    return [p for p in trainer.model.parameters() if p.requires_grad]


# Gradients


def reference_reward(trainer, frozen, offset, direction):
    """
    The reward of a picture whose network is moved by `offset` in `direction` in those steps alone that have a gradient,
    and sees there what the strategy lets it see; the other steps are as they were. Written as a plain loop.
    """
    args, policy = trainer.args, trainer.policy
    sigmas = policy.sigmas(args.num_inference_steps, args.height, args.width).double()
    conditioning = policy.encode(ROWS, args.height, args.width)
    steps = args.steps_with_gradient(random_at(args.seed, 0))

    def velocity(latents, sigma, moved):
        weights = [p + offset * d for p, d in zip(frozen, direction, strict=True)] if moved else frozen
        with torch.no_grad():
            for p, weight in zip(lora(trainer), weights, strict=True):
                p.copy_(weight)
            return trainer._velocity(
                trainer.model, latents.float(), sigma.float().expand(len(latents)), conditioning
            ).double()

    path = [noise_of(trainer, len(ROWS)).double()]  # where it went before anything was moved
    for i in range(args.num_inference_steps):
        path.append(path[-1] + (sigmas[i + 1] - sigmas[i]) * velocity(path[-1], sigmas[i], False))
    if args.backprop_strategy == "refl":
        (m,) = steps
        end = path[m] - sigmas[m] * velocity(path[m], sigmas[m], True)
    elif args.backprop_strategy == "leap":
        k, j = steps
        jump = (sigmas[j] - sigmas[k]) * (velocity(path[k], sigmas[k], True) - velocity(path[k], sigmas[k], False))
        seen = path[j] + args.leap_discount * jump
        end = path[-1] + jump - sigmas[j] * (velocity(seen, sigmas[j], True) - velocity(path[j], sigmas[j], False))
    else:
        end = path[0]
        for i in range(args.num_inference_steps):
            active = i in steps
            # an inactive step adds what it added, and a detached one sees what it saw
            x = path[i] if not active or args.detach_inputs else end
            end = end + (sigmas[i + 1] - sigmas[i]) * velocity(x, sigmas[i], active)
    with torch.no_grad():
        return contrast(None, trainer._pixels(end.float(), (32, 32)).double()).mean().item()


SLOWLY = [pytest.param(name, marks=[] if name in ("detached", "leap") else pytest.mark.slow) for name in STRATEGIES]


@pytest.mark.parametrize("strategy", SLOWLY)
def test_gradient_is_the_central_difference_of_what_the_strategy_says(flux_pipeline, tmp_path, strategy):
    trainer = away(build(flux_pipeline, tmp_path, num_inference_steps=4, **STRATEGIES[strategy]))
    loss_of(trainer).backward()
    gradient = [p.grad.clone() for p in lora(trainer)]
    norm = torch.cat([g.flatten() for g in gradient]).norm().item()
    direction = [g / norm for g in gradient]
    frozen = [p.detach().clone() for p in lora(trainer)]
    h = 0.02
    up, down = (reference_reward(trainer, frozen, sign * h, direction) for sign in (1, -1))
    assert (down - up) / (2 * h) == pytest.approx(norm, rel=1e-3)


def test_checkpointing_changes_no_gradient(flux_pipeline, tmp_path):
    found = []
    for checkpointing in (False, True):
        trainer = away(
            build(flux_pipeline, tmp_path, backprop_steps=3, gradient_checkpointing=checkpointing, beta=0.1)
        )
        loss_of(trainer).backward()
        found.append([p.grad for p in lora(trainer)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


def test_each_picture_is_decoded_alone_and_its_autoencoder_checkpointed(flux_pipeline, tmp_path, monkeypatch):
    trainer = build(flux_pipeline, tmp_path)
    assert trainer.policy.pipeline.vae.is_gradient_checkpointing
    decoded, to_pixels = [], trainer.policy.to_pixels
    monkeypatch.setattr(
        trainer.policy, "to_pixels", lambda one, *size: decoded.append(len(one)) or to_pixels(one, *size)
    )
    loss = loss_of(trainer)
    assert decoded == [1, 1]
    loss.backward()
    assert decoded == [1, 1, 1, 1]  # once more in the backward, which is what saves memory


def test_autoencoder_stays_where_a_backward_goes_through_it(flux_pipeline, tmp_path, monkeypatch):
    visitors = []

    @contextmanager
    def visiting(modules, device):
        visitors.extend(modules)
        yield

    monkeypatch.setattr("arr_trl.policies.base.visiting", visiting)
    policy = build(flux_pipeline, tmp_path, offload_encoders=True).policy
    policy.encode([{"prompt": "a circle"}], 32, 32)
    policy.decode(policy.initial_noise(1, 32, 32, torch.Generator()), 32, 32)
    assert visitors == [policy.pipeline.text_encoder, policy.pipeline.text_encoder_2]


@pytest.mark.parametrize("beta", [0.0, 3.0])
def test_loss_is_the_negative_reward_and_the_distance_from_the_base(flux_pipeline, tmp_path, beta):
    trainer = away(build(flux_pipeline, tmp_path, beta=beta))
    trainer.state.logging_steps = 1  # as in a step that is logged
    loss = loss_of(trainer).item()
    # to read a number would make the host wait for the device
    kept = trainer._metrics["train"].values()
    assert all(isinstance(value, torch.Tensor) for values in kept for value in values)
    metrics = measured(trainer)
    assert len(metrics["reward"]) == len(metrics["policy/kl"]) == 2
    assert min(metrics["policy/kl"]) > 0
    assert loss == pytest.approx(-sum(metrics["reward"]) / 2 + beta * sum(metrics["policy/kl"]) / 2, rel=1e-5)


def picky(prompts, pixels, **columns):
    if not pixels.isfinite().all():
        raise ValueError("cannot read this")
    return contrast(prompts, pixels)


@pytest.mark.parametrize("reward", [contrast, picky])
def test_pictures_that_are_no_numbers_end_the_run_before_its_step(flux_pipeline, tmp_path, reward):
    trainer = build(flux_pipeline, tmp_path, reward, num_inference_steps=2)
    pixels, before = trainer._pixels, [p.detach().clone() for p in lora(trainer)]
    trainer._pixels = lambda *inputs: pixels(*inputs) * torch.nan
    with pytest.raises(FloatingPointError, match="The pictures of step 1 are not finite"):
        trainer.train()
    assert all(map(torch.equal, before, lora(trainer)))


def test_reward_above_the_ceiling_gives_no_gradient(flux_pipeline, tmp_path):
    trainer = away(build(flux_pipeline, tmp_path))
    loss_of(trainer)
    low, high = sorted(measured(trainer)["reward"])
    trainer.args.reward_ceiling = (low + high) / 2
    loss = loss_of(trainer)
    assert loss.item() == pytest.approx((trainer.args.reward_ceiling - low) / 2, rel=1e-4)
    loss.backward()
    assert sorted(measured(trainer)["policy/reward_grad_norm"])[0] == 0


def test_picture_without_a_reward_moves_nothing_and_makes_no_larger_step_of_the_others(flux_pipeline, tmp_path):
    def missing(prompts, pixels, **columns):
        return torch.where(torch.tensor([True, False]), contrast(prompts, pixels), torch.nan)

    def nothing(prompts, pixels, **columns):
        return contrast(prompts, pixels) * torch.tensor([1.0, 0.0])

    found = []
    for reward in (missing, nothing):
        trainer = away(build(flux_pipeline, tmp_path, reward))
        loss_of(trainer).backward()
        found.append([p.grad for p in lora(trainer)])
    assert any(g.norm() > 0 for g in found[0])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_several_rewards_are_weighed(flux_pipeline, tmp_path):
    def second(prompts, pixels, **columns):
        return -2 * contrast(prompts, pixels)

    trainer = build(flux_pipeline, tmp_path, [contrast, second], reward_weights=[1.0, 0.5])
    assert loss_of(trainer).item() == pytest.approx(0, abs=1e-6)
    assert {"rewards/contrast/mean", "rewards/second/mean"} <= trainer._metrics["train"].keys()


# What a step is


def test_a_step_raises_the_reward(flux_pipeline, tmp_path):
    trainer = build(flux_pipeline, tmp_path, max_steps=3, learning_rate=1e-2, logging_steps=1, num_inference_steps=2)
    trainer.train()
    rewards = [entry["reward"] for entry in trainer.state.log_history if "reward" in entry]
    assert rewards[-1] > rewards[0] + 0.02
    (log, *_) = trainer.state.log_history
    assert {"policy/reward_grad_norm", "pictures/clipped", "pictures/saturation", "policy/kl"} <= log.keys()


@pytest.mark.slow
def test_gradient_norm_of_a_reward_is_that_of_its_pictures_however_they_are_split(flux_pipeline, tmp_path):
    logged = []
    for batch, accumulated in ((4, 1), (2, 2)):
        trainer = build(
            flux_pipeline, tmp_path, per_device_train_batch_size=batch, gradient_accumulation_steps=accumulated,
            logging_steps=1,
        )  # fmt: skip
        trainer.train()
        logged.append(trainer.state.log_history[0])
    by_hand = 30 * (torch.linspace(-1, 1, 32).square().sum() * 3 * 32).sqrt().item() / (3 * 32 * 32)
    assert logged[0]["policy/reward_grad_norm"] == pytest.approx(by_hand, rel=0.2)  # less where pixels are cut off
    for name in ("loss", "grad_norm", "reward", "policy/reward_grad_norm"):
        assert logged[0][name] == pytest.approx(logged[1][name], rel=1e-4)


@pytest.mark.parametrize("strategy", SLOWLY)
def test_counted_passes_are_those_of_the_formula(flux_pipeline, tmp_path, strategy):
    trainer = build(flux_pipeline, tmp_path, beta=0.1, **STRATEGIES[strategy])
    backwards = count_backwards(trainer)
    trainer.train()
    least, most = backprop_forwards(trainer.args)[0], backprop_forwards(trainer.args)[-1]
    assert least.total <= trainer.transformer_forwards + sum(backwards) <= most.total
    assert sum(backwards) == most.training
    assert least.total <= trainer.passes_per_step() <= most.total


@pytest.mark.slow
def test_second_branch_of_guidance_counts(tmp_path):
    trainer = build(build_qwen_image(), tmp_path, guidance_scale=4.0)
    backwards = count_backwards(trainer)
    trainer.train()
    (expected,) = backprop_forwards(trainer.args, guided=True)
    assert expected.total == 2 * 2 * (3 + 2)
    assert trainer.transformer_forwards + sum(backwards) == expected.total


def test_steps_that_are_drawn():
    def drawn(**settings):
        args = AlignPropConfig(output_dir="unused", num_inference_steps=8, use_cpu=True, bf16=False, **settings)
        return {tuple(args.steps_with_gradient(random_at(0, step))) for step in range(200)}

    assert drawn(backprop_steps=3) == {(5, 6, 7)}
    assert drawn(backprop_steps=3, min_backprop_steps=2) == {(6, 7), (5, 6, 7)}
    # one from each third, evenly spaced
    assert drawn(backprop_strategy="random", backprop_steps=3) == {(0, 2, 4), (1, 3, 5), (2, 4, 6), (3, 5, 7)}
    assert drawn(backprop_strategy="random", backprop_steps=8) == {tuple(range(8))}
    assert drawn(backprop_strategy="refl") == {(6,), (7,)}
    leaps = drawn(backprop_strategy="leap", backprop_range=[1, 4])
    assert leaps == {(1, 2), (1, 3), (2, 3)}


def test_names_of_trl_count_from_the_other_end():
    def config(**settings):
        with pytest.warns(FutureWarning, match="count steps from the beginning"):
            return AlignPropConfig(output_dir="unused", num_inference_steps=50, use_cpu=True, bf16=False, **settings)

    assert config(truncated_backprop_rand=False, truncated_backprop_timestep=49).backprop_steps == 1
    drawn = config(
        truncated_backprop_rand=True, truncated_rand_backprop_minmax=[40, 50], truncated_backprop_timestep=49
    )
    assert (drawn.min_backprop_steps, drawn.backprop_steps) == (1, 10)
    with pytest.raises(ValueError, match="needs `truncated_rand_backprop_minmax`"):
        config(truncated_backprop_rand=True)


@pytest.mark.slow
def test_resumed_run_equals_the_uninterrupted_one(flux_pipeline, tmp_path):
    settings = dict(
        STRATEGIES["leap"], max_steps=4, save_strategy="steps", save_steps=1, gradient_accumulation_steps=2,
        per_device_train_batch_size=1, beta=0.1,
    )  # fmt: skip
    whole = build(flux_pipeline, tmp_path, **settings)
    whole.train()
    resumed = build(flux_pipeline, tmp_path, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))
    for one, other in zip(lora(whole), lora(resumed), strict=True):
        assert torch.equal(one, other)
    assert resumed.transformer_forwards < whole.transformer_forwards


# What functions get


def test_function_that_names_base_pixels_gets_what_the_base_draws_from_the_same_noise(flux_pipeline, tmp_path):
    seen = []

    def better(prompts, pixels, base_pixels, **columns):
        seen.append((prompts, pixels.detach(), base_pixels))
        return contrast(prompts, pixels) - contrast(prompts, base_pixels)

    trainer = away(build(flux_pipeline, tmp_path, [better, contrast]))
    loss_of(trainer)
    ((prompts, pixels, base),) = seen
    assert prompts == PROMPTS[:2]
    assert not base.requires_grad
    noise, sigmas = noise_of(trainer, 2), trainer.policy.sigmas(4, 32, 32)
    with trainer.model.disable_adapter(), torch.no_grad():
        conditioning = trainer.policy.encode(ROWS, 32, 32)
        latents = denoise(trainer.policy, trainer.model, noise, sigmas, conditioning, trainer.args.guidance_scale)
        torch.testing.assert_close(base, trainer._pixels(latents, (32, 32)))
    assert (pixels - base).abs().max() > 1e-3
    assert 0 <= pixels.min() <= pixels.max() <= 1


class Bright(ModelScorer):
    __name__ = "bright"

    def _load(self):
        return torch.nn.Flatten(1)

    def _size_of(self, height, width):
        return height // 2, width // 2

    def _score(self, module, prompts, pixels):
        return module(torch.stack(pixels)).mean(1)


def test_a_scorer_is_a_reward_and_is_read_before_training(flux_pipeline, tmp_path):
    scorer = Bright()
    trainer = build(flux_pipeline, tmp_path, scorer)
    assert scorer._module is not None
    loss = loss_of(trainer)
    assert 0.2 < -loss.item() == pytest.approx(sum(measured(trainer)["rewards/bright/mean"]) / 2)
    loss.backward()
    assert any(p.grad.norm() > 0 for p in lora(trainer))


@pytest.mark.parametrize(
    ("reward", "sentence"),
    [
        (lambda prompts, pixels, **columns: [0.0] * len(pixels), "returned a list for 2 pictures"),
        (lambda prompts, pixels, **columns: pixels.mean(), r"returned a tensor \[\] for 2 pictures"),
        (
            lambda prompts, pixels, **columns: pixels.detach().mean((1, 2, 3)),
            "has no gradient: somewhere it leaves torch",
        ),
    ],
)
def test_rewards_are_read_strictly(flux_pipeline, tmp_path, reward, sentence):
    with pytest.raises(RewardError, match=sentence):
        loss_of(build(flux_pipeline, tmp_path, reward))


# Evaluation


def rubric_judge():
    rubric = Rubric(name="r", criteria=[Criterion(text="The colors are those of the caption.")])
    return RubricJudge(rubric=rubric, model=TinyScenesJudge())


def test_evaluation_is_the_judge_s_where_there_is_one_and_measures_the_reward_beside(flux_pipeline, tmp_path):
    def darkest(prompts, completions, num_generations, **columns):
        return [-sum(image.convert("L").getdata()) for image in completions]

    found = {}
    for name, funcs in (("reward", None), ("judge", darkest)):
        trainer = away(build(
            flux_pipeline, tmp_path, lambda prompts, pixels, **columns: pixels.mean((1, 2, 3)), eval_reward_funcs=funcs,
            eval_dataset=Dataset.from_dict({"prompt": PROMPTS}),
        ))  # fmt: skip
        found[name] = trainer.evaluate()
        base, trained = (
            sum(float(torch.tensor(list(i.convert("RGB").getdata())).float().mean()) for i in images) / 4 / 255
            for images in drawn_by(trainer)
        )
        assert found[name]["eval_reward_of_base"] == pytest.approx(base, abs=1e-4)
        assert found[name]["eval_reward"] == pytest.approx(trained, abs=1e-4)
    assert found["judge"]["eval_win_rate"] == pytest.approx(1 - found["reward"]["eval_win_rate"], abs=0.26)
    assert found["judge"]["eval_win_rate"] != found["reward"]["eval_win_rate"]


def drawn_by(trainer):
    with trainer.model.disable_adapter():
        base = draw_rows(trainer.policy, trainer.model, [{"prompt": p} for p in PROMPTS], range(4), trainer.args)
    return base, draw_rows(trainer.policy, trainer.model, [{"prompt": p} for p in PROMPTS], range(4), trainer.args)


def test_card_says_what_rewarded_and_under_which_rubric_was_compared(flux_pipeline, tmp_path):
    build(flux_pipeline, tmp_path, eval_reward_funcs=rubric_judge()).create_model_card()
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Reward functions: `contrast`." in card
    assert "The colors are those of the caption." in card
    assert "Judge: `tiny_scenes`, frozen." in card


# What is refused


def test_a_judge_is_no_reward_and_the_sentence_says_who_takes_it(flux_pipeline, tmp_path):
    with pytest.raises(TypeError, match=r"A RubricJudge cannot be a reward here.*RPOTrainer.*`eval_reward_funcs`"):
        build(flux_pipeline, tmp_path, rubric_judge())


def test_sharded_runs_are_refused(flux_pipeline, tmp_path, monkeypatch):
    monkeypatch.setattr("arr_trl.trainer.checks.uses_fsdp", lambda args: True)
    with pytest.raises(ValueError, match="goes through the network several times before one backward"):
        build(flux_pipeline, tmp_path)


def test_a_scorer_outside_of_torch_is_no_reward(flux_pipeline, tmp_path):
    with pytest.raises(TypeError, match="HTTPScorer scores pictures outside of torch"):
        build(flux_pipeline, tmp_path, HTTPScorer("http://127.0.0.1:9/"))


def test_a_judge_of_the_evaluation_is_checked_before_anything_is_loaded(tmp_path):
    rubric = Rubric(name="r", task="image-editing", criteria=[Criterion(text="All is kept.")])
    judge = RubricJudge(rubric=rubric, model=TinyScenesJudge())
    with pytest.raises(ValueError, match="source"):
        build("no/such-model", tmp_path, eval_reward_funcs=judge, eval_dataset=Dataset.from_dict({"prompt": PROMPTS}))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"backprop_steps": 5}, "does not find its steps"),
        ({"backprop_strategy": "random", "backprop_steps": 3, "backprop_range": [2, 4]}, "does not find its steps"),
        ({"backprop_strategy": "leap", "backprop_range": [3, 4]}, "does not find its steps"),
        ({"backprop_range": [3, 5]}, "from 0 to num_inference_steps=4"),
        ({"backprop_range": [3]}, "has to be two whole numbers"),
        ({"min_backprop_steps": 2}, "is more than backprop_steps=1"),
        ({"backprop_strategy": "refl", "detach_inputs": True}, "says nothing to backprop_strategy='refl'"),
        ({"backprop_strategy": "all"}, "is not one of 'last'"),
        ({"leap_discount": 2.0}, "is a factor from 0 to 1"),
        ({"beta": -1.0}, "must be at least 0"),
    ],
)
def test_settings_that_cannot_be(tmp_path, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        AlignPropConfig(**{**SMALL, "output_dir": str(tmp_path), **settings})


def test_too_few_prompts_for_a_step_are_refused(flux_pipeline, tmp_path):
    with pytest.raises(ValueError, match="train_dataset has 4 prompts, and one optimizer step takes 6"):
        build(flux_pipeline, tmp_path, gradient_accumulation_steps=3)
