"""What a configuration refuses, and the arithmetic it does."""

import pytest

from arr_trl import RPOConfig


def config(**overrides):
    return RPOConfig(
        **{
            "output_dir": "unused",
            "bf16": False,
            "use_cpu": True,
            "per_device_train_batch_size": 14,
            "gradient_accumulation_steps": 1,
            **overrides,
        }
    )


def test_defaults_are_the_papers_for_flux():
    args = RPOConfig(output_dir="unused", use_cpu=True)
    assert args.prompts_per_rollout == 32
    assert (args.learning_rate, args.num_inference_steps, args.epsilon, args.beta) == (5e-5, 8, 0.2, 0.01)
    assert (args.positive_reward, args.negative_reward, args.num_generations) == (1.0, 0.1, 2)
    assert args.max_grad_norm == 1.0


def test_without_a_window_every_step_but_the_last_is_trained():
    args = config()
    assert args.sde_window_range == [0, 7]
    assert args.window_size == 7
    assert args.prompts_per_rollout == 1


def test_settings_of_the_policy_are_those_that_were_given():
    assert config(max_cached_prompts=256).policy_kwargs == {"max_cached_prompts": 256}
    assert config().policy_kwargs == {}


def test_batch_arithmetic_counts_transitions():
    args = config(per_device_train_batch_size=16, gradient_accumulation_steps=4, sde_window_size=2)
    assert args.steps_per_generation == 4
    assert args.prompts_per_rollout == 16


@pytest.mark.parametrize(("overrides", "message"), [
    ({"num_generations": 1}, "num_generations=1 leaves nothing to compare"),
    ({"num_inference_steps": 1}, "num_inference_steps=1 leaves no step to train"),
    ({"sde_window_range": [0, 8]}, r"sde_window_range=\[0, 8\] is not inside the schedule"),
    ({"sde_window_range": [3, 3]}, r"sde_window_range=\[3, 3\] is not inside the schedule"),
    ({"sde_window_range": [0, 3], "sde_window_size": 4}, r"sde_window_size=4 does not fit .* use 1 to 3"),
    ({"sde_window_size": 0}, "sde_window_size=0 does not fit"),
    ({"sde_type": "ode"}, "sde_type='ode' is not one of"),
    ({"sde_type": "cps", "noise_level": 1.2}, "noise_level=1.2 must be at most 1"),
    ({"noise_level": 0}, "noise_level=0 must be greater than 0"),
    ({"epsilon": -0.2}, "epsilon=-0.2 must be greater than 0"),
    ({"beta": -1}, "beta=-1 must be at least 0"),
    ({"negative_reward": -0.1}, "negative_reward=-0.1 must be at least 0; it is a magnitude"),
    ({"log_completions_hub_repo": "user/x"}, "log_completions_hub_repo='user/x' gets nothing without log_completions"),
    ({"max_steps": 0}, "max_steps=0 with num_train_epochs=3.0 is a training without a step"),
    ({"num_train_epochs": 0}, "max_steps=-1 with num_train_epochs=0 is a training without a step"),
    ({"max_cached_prompts": 0}, "max_cached_prompts=0 has to be at least 1"),
    ({"kl_type": "k3"}, "kl_type='k3' is not one of"),
    ({"kl_fraction": 0}, "kl_fraction=0 is a share .* switch the penalty off with beta=0"),
    ({"auto_find_batch_size": True}, "auto_find_batch_size=True would begin again with rollouts as large as before"),
    ({"neftune_noise_alpha": 5.0}, "neftune_noise_alpha=5.0 is for models with token embeddings"),
    (
        {"per_device_train_batch_size": 28, "steps_per_generation": 3, "gradient_accumulation_steps": 2},
        "= 3 micro-steps per rollout and gradient_accumulation_steps=2 do not divide",
    ),
    ({"per_device_train_batch_size": 15}, "15 × 1 = 15 transitions do not divide .* a multiple of 14"),
])  # fmt: skip
def test_bad_settings_get_a_sentence(overrides, message):
    with pytest.raises(ValueError, match=message):
        config(**overrides)
