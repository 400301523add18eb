"""Classifier-free guidance in the rollout, in the loss, in both or in neither: what it costs and whether both agree."""

import copy

import pytest
from diffusers import QwenImageEditPipeline
from test_editing import edits, history, trainer_for
from tiny_pipelines import build_qwen_image

from arr_trl.tiny_scenes import build_pipeline


PROMPTS, CANDIDATES, STEPS = 2, 2, 3


@pytest.fixture(scope="module")
def pipeline():
    return build_qwen_image(pipeline_class=QwenImageEditPipeline)


@pytest.mark.parametrize(
    ("cfg", "sampled", "trained", "words"),
    [
        ("both", 2, 2, "24 passes for each prompt\nguidance        true_cfg_scale=4 doubles all passes"),
        (
            "rollout",
            2,
            1,
            "18 passes for each prompt\nguidance        true_cfg_scale=4 doubles the passes of sampling",
        ),
        ("off", 1, 1, "12 passes for each prompt\nguidance        true_cfg_scale=4 waits for evaluation"),
    ],
)
def test_cost_is_told_and_is_what_it_costs(pipeline, tmp_path, cfg, sampled, trained, words):
    trainer = trainer_for(
        copy.deepcopy(pipeline), tmp_path, classifier_free_guidance=cfg, guidance_scale=4.0, share_initial_noise=False
    )
    assert words in trainer.batch_arithmetic()
    trainer.train()
    images = PROMPTS * CANDIDATES
    assert trainer.transformer_forwards == sampled * images * STEPS + trained * images * 2


@pytest.mark.parametrize("cfg", ["both", "off"])
def test_rollout_and_loss_agree_where_both_or_neither_is_guided(pipeline, tmp_path, cfg):
    trainer = trainer_for(copy.deepcopy(pipeline), tmp_path, classifier_free_guidance=cfg, guidance_scale=4.0)
    trainer.train()
    assert history(trainer, "policy/ratio_deviation")[0] == 0.0


def test_guidance_in_the_rollout_alone_shows_as_a_deviation_and_still_trains(pipeline, tmp_path):
    trainer = trainer_for(copy.deepcopy(pipeline), tmp_path, classifier_free_guidance="rollout", guidance_scale=4.0)
    trainer.train()
    assert history(trainer, "policy/ratio_deviation")[0] > 1e-4
    assert history(trainer, "policy/clip_fraction") == [0.0]
    assert history(trainer, "grad_norm")[0] > 0


def test_guidance_in_the_rollout_alone_needs_one_update_per_rollout(pipeline, tmp_path):
    with pytest.raises(ValueError, match="classifier_free_guidance='rollout' has no old log-probabilities"):
        trainer_for(
            copy.deepcopy(pipeline), tmp_path, classifier_free_guidance="rollout", guidance_scale=4.0, num_iterations=2
        )


def test_guidance_that_is_an_input_of_the_network_stays(tmp_path):
    from test_rpo_trainer import trainer_for as flux_trainer

    trainer = flux_trainer(build_pipeline(seed=0), tmp_path, classifier_free_guidance="off", max_steps=1)
    assert "guidance" not in trainer.batch_arithmetic()
    scales = []
    velocity = trainer.policy.velocity
    trainer.policy.velocity = lambda *args: scales.append(args[-1]) or velocity(*args)
    trainer.train()
    assert set(scales) == {3.5}


def test_adapter_is_measured_at_the_guidance_it_was_trained_at_too(pipeline, tmp_path):
    compared = []

    def first_unless_equal(completions, **columns):
        base, trained = completions[::2], completions[1::2]
        compared.append((base, trained))
        return [float(i % 2 == 0 and base[i // 2] != trained[i // 2]) for i in range(len(completions))]

    trainer = trainer_for(
        copy.deepcopy(pipeline), tmp_path, first_unless_equal, classifier_free_guidance="off", guidance_scale=4.0
    )
    metrics = trainer.evaluate(edits())
    (base, unguided), (base_again, guided) = compared
    # nothing is trained yet, so that guidance alone tells them apart
    assert base == base_again == guided
    assert all(a != b for a, b in zip(base, unguided, strict=True))
    assert (metrics["eval_win_rate"], metrics["eval_as_trained/win_rate"]) == (0.5, 0.0)
    assert trainer.evaluation.as_trained == {"guidance_scale": 1.0, "win_rate": 0.0}


def test_same_guidance_is_measured_once(pipeline, tmp_path):
    trainer = trainer_for(copy.deepcopy(pipeline), tmp_path, classifier_free_guidance="both", guidance_scale=4.0)
    assert not any("as_trained" in name for name in trainer.evaluate(edits()))
