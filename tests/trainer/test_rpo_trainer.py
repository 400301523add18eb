"""Training on a tiny real FLUX pipeline with random weights: which parameters move, and which rewards count."""

import copy
import math

import numpy as np
import pytest
import torch
from datasets import Dataset
from diffusers import FluxPipeline
from peft import LoraConfig, PeftModel
from tiny_pipelines import build_z_image

from arr_trl import RPOConfig, RPOTrainer
from arr_trl.policies import FluxPolicy


PROMPTS = ["a red circle left of a blue square", "a green triangle above a red square", "a blue circle", "two squares"]


def brightness(prompts, completions, **columns):
    return [float(np.asarray(image).mean()) for image in completions]


def alternating(prompts, completions, **columns):
    return [float(i % 2) for i in range(len(completions))]


def level(prompts, completions, **columns):
    return [1.0] * len(completions)


def failing(prompts, completions, **columns):
    return [None] * len(completions)


def config(tmp_path, **overrides):
    settings = dict(
        output_dir=str(tmp_path / "out"),
        height=32,
        width=32,
        max_sequence_length=12,
        num_inference_steps=4,
        eval_num_inference_steps=2,
        sde_window_size=2,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=1,
        max_steps=2,
        learning_rate=1e-2,
        logging_steps=1,
        bf16=False,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        gradient_checkpointing=False,
        disable_tqdm=True,
    )
    return RPOConfig(**{**settings, **overrides})


def trainer_for(pipeline, tmp_path, reward_funcs=alternating, dataset=None, **overrides):
    eval_dataset, eval_funcs = overrides.pop("eval_dataset", None), overrides.pop("eval_funcs", None)
    return RPOTrainer(
        model=pipeline,
        reward_funcs=reward_funcs,
        args=config(tmp_path, **overrides),
        train_dataset=Dataset.from_dict({"prompt": PROMPTS}) if dataset is None else dataset,
        eval_dataset=eval_dataset,
        eval_funcs=eval_funcs,
        peft_config=LoraConfig(r=2, lora_alpha=4),
    )


def parameters(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def adapter(trainer):
    return {name: p for name, p in parameters(trainer.model).items() if "lora_" in name}


def history(trainer, key):
    return [entry[key] for entry in trainer.state.log_history if key in entry]


@pytest.mark.parametrize("sde_type", ["flow", "dance", "cps"])
def test_every_adapter_parameter_moves_and_no_base_parameter(flux_pipeline, tmp_path, sde_type):
    trainer = trainer_for(flux_pipeline, tmp_path, sde_type=sde_type, noise_level=0.5)
    before = parameters(trainer.model)
    trainer.train()
    for name, after in parameters(trainer.model).items():
        assert torch.equal(before[name], after) == ("lora_" not in name), name


@pytest.mark.parametrize("overrides", [{"kl_type": "log_ratio"}, {"sde_type": "cps", "noise_level": 0.8}, {}])
def test_penalty_is_zero_at_the_base_and_grows_as_the_adapter_leaves_it(flux_pipeline, tmp_path, overrides):
    trainer = trainer_for(flux_pipeline, tmp_path, beta=0.1, max_steps=3, **overrides)
    trainer.train()
    first, *later = history(trainer, "policy/kl")
    assert first == 0.0
    assert all(value != 0.0 for value in later)


def test_without_a_penalty_the_divergence_is_still_measured(flux_pipeline, tmp_path):
    trainer = trainer_for(flux_pipeline, tmp_path, beta=0.0, max_steps=4, logging_steps=2)
    trainer.train()
    assert len(history(trainer, "policy/kl")) == 2


def test_encoders_and_autoencoder_do_not_move(flux_pipeline, tmp_path):
    frozen = (flux_pipeline.vae, flux_pipeline.text_encoder, flux_pipeline.text_encoder_2)
    before = [parameters(model) for model in frozen]
    trainer_for(flux_pipeline, tmp_path).train()
    for model, expected in zip(frozen, before, strict=True):
        assert all(torch.equal(p, expected[name]) for name, p in model.named_parameters())


@pytest.mark.parametrize("reward", [level, failing])
@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_tied_and_failed_pairs_contribute_no_gradient(flux_pipeline, tmp_path, reward, beta):
    trainer = trainer_for(flux_pipeline, tmp_path, reward, beta=beta, weight_decay=0.0)
    # away from the base, where the KL penalty has a gradient of its own
    with torch.no_grad():
        for name, p in trainer.model.named_parameters():
            if "lora_B" in name:
                p.normal_(std=0.02, generator=torch.Generator().manual_seed(0))
    before = adapter(trainer)
    trainer.train()
    assert history(trainer, "grad_norm") == [0.0, 0.0]
    for name, after in adapter(trainer).items():
        assert torch.equal(before[name], after)


def test_a_failed_pair_leaves_the_gradient_of_the_others(flux_pipeline, tmp_path):
    def first_pair_only(prompts, completions, **columns):
        return [0.0, 1.0] + [None] * (len(completions) - 2)

    trainer = trainer_for(flux_pipeline, tmp_path, first_pair_only, max_steps=1)
    trainer.train()
    assert history(trainer, "rollout/decided_rate") == [0.5]
    assert history(trainer, "grad_norm")[0] > 0


def test_on_policy_ratio_is_one_and_the_stored_log_probability_agrees(flux_pipeline, tmp_path):
    trainer = trainer_for(flux_pipeline, tmp_path, gradient_accumulation_steps=2, per_device_train_batch_size=4)
    trainer.train()
    assert history(trainer, "policy/clip_fraction") == [0.0, 0.0]
    assert max(history(trainer, "policy/ratio_deviation")) < 1e-5


def test_a_second_pass_over_a_rollout_is_off_policy(flux_pipeline, tmp_path):
    trainer = trainer_for(flux_pipeline, tmp_path, num_iterations=2, max_steps=2)
    trainer.train()
    first, second = history(trainer, "policy/ratio_deviation")
    assert first < 1e-5 < second


@pytest.mark.parametrize(
    ("overrides", "steps", "rollouts"),
    [
        ({"max_steps": 3}, 3, 3),
        ({"max_steps": 3, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 4}, 3, 3),
        ({"max_steps": 4, "steps_per_generation": 2, "per_device_train_batch_size": 4}, 4, 2),
        ({"max_steps": 4, "num_iterations": 2}, 4, 2),
        ({"max_steps": -1, "num_train_epochs": 2, "rollout_batch_size": 1}, 4, 4),
    ],
)
def test_one_optimizer_step_per_planned_step(flux_pipeline, tmp_path, overrides, steps, rollouts):
    rolled_out = []

    def counting(prompts, completions, **columns):
        rolled_out.append(prompts[::2])
        return alternating(prompts, completions)

    trainer = trainer_for(flux_pipeline, tmp_path, counting, **overrides)
    trainer.create_optimizer()
    stepped = []
    trainer.optimizer.register_step_post_hook(lambda *_: stepped.append(1))
    trainer.train()
    assert trainer.state.global_step == len(stepped) == steps
    assert len(rolled_out) == rollouts
    # every prompt once per epoch of two rollouts
    for epoch in range(rollouts // 2):
        assert sorted(rolled_out[2 * epoch] + rolled_out[2 * epoch + 1]) == sorted(PROMPTS)


def test_same_seed_gives_the_same_adapter_and_another_seed_does_not(flux_pipeline, tmp_path):
    runs = []
    for seed in (1, 1, 2):
        trainer = trainer_for(copy.deepcopy(flux_pipeline), tmp_path, seed=seed)
        trainer.train()
        runs.append(adapter(trainer))
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])
    assert not all(torch.equal(runs[0][name], runs[2][name]) for name in runs[0])


@pytest.mark.parametrize("streamed", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_data_seed_orders_the_prompts_and_nothing_else_does(flux_pipeline, tmp_path, streamed):
    def order(**seeds):
        seen = []

        def note(prompts, completions, **columns):
            seen.extend(prompts[::2])
            return alternating(prompts, completions)

        dataset = Dataset.from_dict({"prompt": PROMPTS})
        dataset = dataset.to_iterable_dataset() if streamed else dataset
        trainer_for(copy.deepcopy(flux_pipeline), tmp_path, note, dataset, max_steps=4, **seeds).train()
        return seen

    assert order(seed=1, data_seed=5) == order(seed=2, data_seed=5) == order(seed=5)
    assert order(seed=5, data_seed=6) != order(seed=5)


def test_rewards_of_several_functions_are_weighted_and_one_that_failed_is_left_out(flux_pipeline, tmp_path):
    def weak(prompts, completions, **columns):
        return [0.4, 0.0, None, 0.0]

    trainer = trainer_for(flux_pipeline, tmp_path, [alternating, weak], reward_weights=[1.0, 2.0])
    rewards = torch.tensor([[0.0, 0.4], [1.0, 0.0], [0.0, math.nan], [1.0, 0.0]])
    combined = trainer._combine_rewards(rewards, 2)
    torch.testing.assert_close(combined, torch.tensor([[0.8, 1.0], [0.0, 1.0]]))


def test_columns_reach_the_reward_function_once_per_candidate(flux_pipeline, tmp_path):
    seen = {}

    async def remember(prompts, completions, **columns):
        seen.update(columns, prompts=prompts)
        columns["log_metric"]("mine/metric", 3.0)
        return alternating(prompts, completions)

    dataset = Dataset.from_dict({"prompt": PROMPTS[:2], "style": ["oil", "ink"]})
    trainer = trainer_for(flux_pipeline, tmp_path, remember, dataset, shuffle_dataset=False, max_steps=1)
    trainer.train()
    assert seen["prompts"] == [PROMPTS[0]] * 2 + [PROMPTS[1]] * 2
    assert seen["style"] == ["oil", "oil", "ink", "ink"]
    assert seen["num_generations"] == 2
    assert history(trainer, "mine/metric") == [3.0]


def test_reward_function_with_the_wrong_number_of_rewards_is_named(flux_pipeline, tmp_path):
    def too_few(prompts, completions, **columns):
        return [1.0]

    trainer = trainer_for(flux_pipeline, tmp_path, too_few)
    with pytest.raises(ValueError, match=r"'too_few' returned 1 rewards for 4 images"):
        trainer.train()


def test_four_candidates_train(flux_pipeline, tmp_path):
    trainer = trainer_for(flux_pipeline, tmp_path, brightness, num_generations=4, max_steps=1)
    before = adapter(trainer)
    trainer.train()
    assert all(not torch.equal(before[name], after) for name, after in adapter(trainer).items() if "lora_B" in name)


def test_streamed_prompts_train(flux_pipeline, tmp_path):
    stream = Dataset.from_dict({"prompt": PROMPTS}).to_iterable_dataset()
    trainer = trainer_for(flux_pipeline, tmp_path, dataset=stream)
    trainer.train()
    assert trainer.state.global_step == 2


def test_gradient_checkpointing_changes_no_result(flux_pipeline, tmp_path):
    runs = []
    for checkpointing in (False, True):
        trainer = trainer_for(copy.deepcopy(flux_pipeline), tmp_path, gradient_checkpointing=checkpointing)
        trainer.train()
        runs.append(adapter(trainer))
    for name, value in runs[0].items():
        torch.testing.assert_close(runs[1][name], value)


def test_untrained_adapter_ties_with_its_base(flux_pipeline, tmp_path):
    trainer = trainer_for(
        flux_pipeline, tmp_path, brightness, eval_dataset=Dataset.from_dict({"prompt": PROMPTS}),
        eval_funcs=lambda prompts, completions, **columns: [{"dark": False, "square": True}] * len(completions),
    )  # fmt: skip
    metrics = trainer.evaluate()
    assert metrics["eval_win_rate"] == 0.5
    assert metrics["eval_tie_rate"] == 1.0
    assert trainer.evaluation.trained.success == {"dark": 0.0, "square": 1.0}
    assert trainer.evaluation.trained.success_all == 0.0
    assert (tmp_path / "out" / "samples.png").is_file()


def test_evaluation_leaves_training_as_it_was(flux_pipeline, tmp_path):
    runs = []
    for strategy in ("no", "steps"):
        trainer = trainer_for(
            copy.deepcopy(flux_pipeline), tmp_path, brightness, eval_strategy=strategy, eval_steps=1,
            eval_dataset=Dataset.from_dict({"prompt": PROMPTS}),
        )  # fmt: skip
        trainer.train()
        runs.append(adapter(trainer))
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


def test_saved_adapter_loads_with_stock_diffusers_and_with_peft(saved_flux_pipeline, tmp_path):
    trainer = trainer_for(str(saved_flux_pipeline), tmp_path)
    trainer.train()
    trainer.save_model()
    assert trainer.adapter_folder == tmp_path / "out" / "ARR-tiny-flux"
    assert sorted(f.name for f in trainer.adapter_folder.iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "pytorch_lora_weights.safetensors",
    ]  # fmt: skip

    def picture(pipeline):
        return pipeline(
            PROMPTS[0], height=32, width=32, num_inference_steps=3, max_sequence_length=12, output_type="latent",
            generator=torch.Generator().manual_seed(0),
        ).images  # fmt: skip

    stock = FluxPipeline.from_pretrained(saved_flux_pipeline)
    base = picture(stock)
    stock.load_lora_weights(
        str(tmp_path / "out"), subfolder="ARR-tiny-flux", weight_name="pytorch_lora_weights.safetensors"
    )
    with_peft = FluxPipeline.from_pretrained(saved_flux_pipeline)
    with_peft.transformer = PeftModel.from_pretrained(with_peft.transformer, trainer.adapter_folder)
    trained = picture(trainer.policy.pipeline)
    assert (trained - base).abs().max() > 1e-2
    torch.testing.assert_close(picture(stock), trained, atol=1e-5, rtol=0)
    torch.testing.assert_close(picture(with_peft), trained, atol=1e-5, rtol=0)


@pytest.mark.parametrize("save_steps", [1, 2])
def test_resumed_run_equals_the_uninterrupted_one(flux_pipeline, tmp_path, save_steps):
    # two optimizer steps per rollout: after step 1 the checkpoint is in the middle of one
    settings = dict(
        steps_per_generation=2, per_device_train_batch_size=4, save_strategy="steps", save_steps=save_steps
    )
    whole = trainer_for(copy.deepcopy(flux_pipeline), tmp_path, brightness, max_steps=4, **settings)
    whole.train()
    resumed = trainer_for(copy.deepcopy(flux_pipeline), tmp_path, brightness, max_steps=4, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / f"checkpoint-{save_steps}"))
    assert all(torch.equal(value, adapter(resumed)[name]) for name, value in adapter(whole).items())


def test_candidates_are_written_when_asked_for(flux_pipeline, tmp_path):
    trainer_for(flux_pipeline, tmp_path, log_completions=True).train()
    assert [f.name for f in sorted((tmp_path / "out" / "completions").glob("*.png"))] == [
        "step_000001.png", "step_000002.png",
    ]  # fmt: skip


def test_a_policy_can_be_passed_in(flux_pipeline, tmp_path):
    policy = FluxPolicy(flux_pipeline, max_sequence_length=12)
    trainer = trainer_for(policy, tmp_path)
    trainer.train()
    assert trainer.policy is policy


def test_telemetry_does_not_stop_a_user_without_ci(flux_pipeline, tmp_path, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    trainer_for(flux_pipeline, tmp_path)


@pytest.mark.parametrize(("rows", "message"), [
    ({"prompt": []}, "train_dataset is empty"),
    ({"text": PROMPTS}, "train_dataset has no `prompt` column, only 'text'"),
    ({"prompt": [1, 2, 3, 4]}, "Row 0 of train_dataset has the prompt 1"),
    ({"prompt": [*PROMPTS, "  "]}, "Row 4 of train_dataset has the prompt '  '"),
    ({"prompt": PROMPTS[:1]}, "train_dataset has 1 prompts, and one rollout takes 2"),
])  # fmt: skip
def test_bad_prompts_are_refused_before_a_model_is_loaded(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        trainer_for("no/such-model", tmp_path, dataset=Dataset.from_dict(rows))


@pytest.mark.parametrize(("lora", "overrides", "sentence"), [
    ({"lora_dropout": 0.1}, {}, "lora_dropout=0.1 would make the network"),
    ({"use_dora": True}, {}, "use_dora=True in `peft_config` needs weights beside"),
])  # fmt: skip
def test_adapter_that_does_not_fit_is_refused_before_a_model_is_loaded(tmp_path, lora, overrides, sentence):
    with pytest.raises(ValueError, match=sentence):
        RPOTrainer(
            model="no/such-model",
            reward_funcs=level,
            args=config(tmp_path, **overrides),
            train_dataset=Dataset.from_dict({"prompt": PROMPTS}),
            peft_config=LoraConfig(**lora),
        )


def test_output_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "out").write_text("a file where the folder should go")
    with pytest.raises(OSError, match=r"cannot be written to \(.*\); choose another `output_dir`"):
        trainer_for("no/such-model", tmp_path)


def test_card_that_could_not_be_brought_up_to_date_is_refused_before_a_model_is_loaded(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text(
        '# Mine\n\n<!-- arr_trl:adapter {"subfolder": "a1"} -->\nits end is gone\n'
    )
    with pytest.raises(ValueError, match=r"The section of a1 in README\.md has lost its end marker"):
        trainer_for("no/such-model", tmp_path)


def test_cache_of_prompts_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "prompts").write_text("a file where the folder should go")
    with pytest.raises(OSError, match=r"cannot be written to \(.*\); choose another `prompt_cache_dir`"):
        trainer_for("no/such-model", tmp_path, prompt_cache_dir=str(tmp_path / "prompts"))


def test_fsdp_that_accelerate_leaves_out_on_cpus_is_told(flux_pipeline, tmp_path, caplog, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")  # what `--accelerate_config fsdp2` says to the processes
    monkeypatch.setenv("FSDP_VERSION", "2")
    trainer_for(flux_pipeline, tmp_path)
    assert "every process holds the whole base" in caplog.text


def test_what_is_not_said_is_the_familys_own(flux_pipeline, tmp_path, caplog):
    trainer = trainer_for(flux_pipeline, tmp_path, eval_num_inference_steps=None)
    assert (trainer.args.guidance_scale, trainer.args.eval_num_inference_steps) == (3.5, 30)
    assert "distilled" not in caplog.text


def test_distilled_base_is_told_and_has_few_steps(tmp_path, caplog):
    pipeline = build_z_image()  # with the scheduler of Z-Image-Turbo
    trainer = trainer_for(pipeline, tmp_path, eval_num_inference_steps=None)
    assert (trainer.args.guidance_scale, trainer.args.eval_num_inference_steps) == (0.0, 8)
    assert not trainer.policy.uses_cfg(trainer.args.guidance_scale)  # at twice the cost, on a model that has none
    assert "was distilled to few steps" in caplog.text


def test_old_name_of_the_setting_for_guidance_still_works(tmp_path):
    with pytest.warns(FutureWarning, match="`cfg` is now called `classifier_free_guidance`"):
        args = config(tmp_path, cfg="off")
    assert (args.classifier_free_guidance, args.cfg) == ("off", None)
