"""`use_peft=False`: all weights are trained, compared with the base, kept, gone on from and released."""

import copy
import re
import shutil

import numpy as np
import pytest
import torch
from datasets import Dataset
from given_pairs import rows as pairs
from peft import LoraConfig
from safetensors.torch import load_file
from test_diffusion_nft_trainer import SMALL

from arr_trl import (
    AlignPropConfig,
    AlignPropTrainer,
    DiffusionDPOConfig,
    DiffusionDPOTrainer,
    DiffusionNFTTrainer,
    FlowGRPOTrainer,
    RPOConfig,
    RPOTrainer,
)
from arr_trl.release import push_to_hub, read_transformer, write_space
from arr_trl.runtime.checkpoints import CheckpointError
from arr_trl.runtime.full_weights import BASE
from arr_trl.trainer.evaluation import draw_rows
from arr_trl.trainer.frozen_adapters import EMA, OLD
from arr_trl.trainer.frozen_copies import use_frozen_copy


PROMPTS = [{"prompt": f"a red circle {i}"} for i in range(4)]
ONLINE = dict(num_generations=2, per_device_train_batch_size=4, steps_per_generation=1, learning_rate=1e-3)


def brightness(prompts, completions, **columns):
    return [float(np.asarray(image).mean()) for image in completions]


def darkness(prompts, pixels, **columns):
    return -pixels.mean((1, 2, 3))


def build(pipeline, tmp_path, trainer_class=RPOTrainer, reward=brightness, eval_dataset=None, **overrides):
    steps = {"sde_window_size": 1} if trainer_class in (RPOTrainer, FlowGRPOTrainer) else {}
    settings = {"output_dir": str(tmp_path / "out"), "adapter_subfolder": "ARR-full", **SMALL, **ONLINE, **steps}
    return trainer_class(
        model=copy.deepcopy(pipeline),
        reward_funcs=reward,
        args=trainer_class._config_class(use_peft=False, **{**settings, **overrides}),
        train_dataset=Dataset.from_list(PROMPTS),
        eval_dataset=eval_dataset,
    )


def weights(trainer):
    return {name: weight.clone() for name, weight in trainer.model.transformer.state_dict().items()}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        assert torch.equal(found[name], weight), name


HELD_OUT = Dataset.from_list(PROMPTS[:2])


def align_prop(pipeline, tmp_path, **overrides):
    settings = {"output_dir": str(tmp_path / "out"), **SMALL, "learning_rate": 1e-3, **overrides}
    return AlignPropTrainer(
        model=copy.deepcopy(pipeline),
        reward_funcs=darkness,
        args=AlignPropConfig(use_peft=False, per_device_train_batch_size=2, **settings),
        train_dataset=Dataset.from_list(PROMPTS),
    )


def dpo(pipeline, tmp_path, **overrides):
    settings = {**SMALL, "learning_rate": 1e-3, "num_train_points": 1, "per_device_train_batch_size": 2, **overrides}
    settings.pop("num_inference_steps")
    return DiffusionDPOTrainer(
        model=copy.deepcopy(pipeline),
        args=DiffusionDPOConfig(output_dir=str(tmp_path / "out"), use_peft=False, **settings),
        train_dataset=pairs(),
    )


TRAINERS = {
    "rpo": lambda *args, **kwargs: build(*args, beta=0.1, **kwargs),
    "grpo": lambda *args, **kwargs: build(*args, FlowGRPOTrainer, beta=0.1, **kwargs),
    "nft": lambda *args, **kwargs: build(*args, DiffusionNFTTrainer, beta=0.1, **kwargs),
    "align_prop": lambda *args, **kwargs: align_prop(*args, beta=0.1, **kwargs),
    "dpo": dpo,
}


@pytest.mark.parametrize("method", TRAINERS)
def test_every_trainer_moves_all_weights_away_from_a_reference_that_stays(flux_pipeline, tmp_path, method):
    trainer = TRAINERS[method](flux_pipeline, tmp_path, max_steps=2, logging_steps=1)
    before = weights(trainer)
    trainer.train()
    moved = [name for name, weight in weights(trainer).items() if not torch.equal(weight, before[name])]
    # what of the last block nothing follows from has no gradient
    assert len(moved) > 0.9 * len(before)
    assert_same(trainer.model.copies[BASE], {name: before[name] for name in trainer.model.copies[BASE]})
    distances = [entry["policy/kl"] for entry in trainer.state.log_history if "policy/kl" in entry]
    if method == "dpo":
        margins = [entry["rewards/margins"] for entry in trainer.state.log_history if "loss" in entry]
        distances = [abs(margin) for margin in margins]
    assert distances[0] == pytest.approx(0, abs=1e-9)
    assert distances[1] > 1e-9


def test_small_steps_are_not_lost_in_the_precision_of_the_base(flux_pipeline, tmp_path):
    trainer = build(flux_pipeline.to(torch.bfloat16), tmp_path, bf16=True, learning_rate=1e-6, logging_steps=1)
    before = weights(trainer)
    trainer.train()
    place = "transformer_blocks.0.attn.to_q.weight"
    after = weights(trainer)[place]
    assert after.dtype == torch.float32
    assert (after != before[place]).float().mean() > 0.99
    assert (after.bfloat16() != before[place].bfloat16()).float().mean() < 0.05  # nearly all would have stayed
    assert trainer.state.log_history[0]["policy/ratio_deviation"] == 0


def test_nothing_is_kept_beside_the_weights_that_nothing_needs(flux_pipeline, tmp_path):
    trainer = build(flux_pipeline, tmp_path, beta=0.0, logging_steps=1)
    trainer.train()
    assert trainer.model.copies == {}
    assert "policy/kl" not in trainer.state.log_history[0]  # there is nothing to measure it from
    with pytest.raises(RuntimeError, match="Give the trainer an `eval_dataset`"):
        trainer.evaluate(HELD_OUT)


def test_evaluation_compares_with_the_base_and_the_release_is_what_it_drew(flux_pipeline, tmp_path):
    pipeline = flux_pipeline.to(torch.bfloat16)
    trainer = build(pipeline, tmp_path, eval_dataset=HELD_OUT, bf16=True, max_steps=2, learning_rate=1e-2)
    trainer.train()
    seen = []
    trainer.reward_funcs[0] = lambda prompts, completions, **columns: (
        seen.extend(image.tobytes() for image in completions) or [0.0] * len(completions)
    )
    trainer.evaluate()
    args, policy = trainer.args, copy.copy(trainer.policy)
    base = draw_rows(policy, pipeline.transformer, PROMPTS[:2], [0, 1], args)
    assert [image.tobytes() for image in base] == seen[::2]
    trainer.save_model()
    folder = tmp_path / "out" / "ARR-full" / "transformer"
    loaded = type(pipeline.transformer).from_pretrained(folder, dtype=torch.bfloat16)
    drawn = draw_rows(policy, loaded, PROMPTS[:2], [0, 1], args)
    assert [image.tobytes() for image in drawn] == seen[1::2] != seen[::2]


def test_average_is_what_is_drawn_with_and_released(flux_pipeline, tmp_path):
    settings = dict(ema_decay=0.9, max_steps=3, save_strategy="steps", save_steps=3, eval_dataset=HELD_OUT)
    trainer = build(flux_pipeline, tmp_path, **settings)
    trainer.train()
    trained, average = weights(trainer), dict(trainer.model.copies[EMA])
    trainer.save_model()
    assert_same(read_transformer(tmp_path / "out" / "ARR-full" / "transformer"), average)
    assert_same(read_transformer(tmp_path / "out" / "checkpoint-3" / "transformer"), trained)
    assert_same(load_file(tmp_path / "out" / "checkpoint-3" / "frozen_ema.safetensors"), average)
    shutil.rmtree(tmp_path / "out" / "ARR-full")
    trainer._release_checkpoint(tmp_path / "out" / "checkpoint-3")  # of a push beside training
    assert_same(read_transformer(tmp_path / "out" / "ARR-full" / "transformer"), average)
    seen = []
    trainer.reward_funcs[0] = lambda prompts, completions, **columns: (
        seen.extend(completions) or [0.0] * len(completions)
    )
    trainer.evaluate()
    with use_frozen_copy(trainer.model, EMA):
        expected = draw_rows(trainer.policy, trainer.model, PROMPTS[:2], [0, 1], trainer.args)
    assert [image.tobytes() for image in seen[1::2]] == [image.tobytes() for image in expected]
    assert_same(weights(trainer), trained)


def test_old_policy_draws_and_a_resumed_run_ends_with_the_same_bytes(flux_pipeline, tmp_path):
    settings = dict(old_policy_decay=0.5, old_policy_ramp=0.2, ema_decay=0.5, beta=0.1, max_steps=4, logging_steps=1)
    settings |= dict(save_strategy="steps", save_steps=1)
    whole = build(flux_pipeline, tmp_path / "whole", DiffusionNFTTrainer, **settings)
    whole.train()
    assert [entry["policy/old_deviation"] > 0 for entry in whole.state.log_history if "loss" in entry][1:] == [
        True
    ] * 3
    resumed = build(flux_pipeline, tmp_path / "resumed", DiffusionNFTTrainer, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "out" / "checkpoint-2"))
    assert_same(weights(resumed), weights(whole))
    for name in (EMA, OLD, BASE):
        assert_same(resumed.model.copies[name], whole.model.copies[name])
    last = [tmp_path / run / "out" / "checkpoint-4" / "transformer" for run in ("whole", "resumed")]
    names = sorted(file.name for file in last[0].iterdir())
    assert names == ["config.json", "diffusion_pytorch_model.safetensors"]
    for name in names:
        assert (last[0] / name).read_bytes() == (last[1] / name).read_bytes()


def test_best_weights_are_loaded_at_the_end(flux_pipeline, tmp_path):
    settings = dict(max_steps=2, save_strategy="steps", save_steps=1, eval_dataset=HELD_OUT)
    trainer = build(flux_pipeline, tmp_path, **settings)
    trainer.train()
    trainer.args.metric_for_best_model = "win_rate"
    trainer.state.best_model_checkpoint = str(tmp_path / "out" / "checkpoint-1")
    trainer._load_best_model()
    assert_same(weights(trainer), read_transformer(tmp_path / "out" / "checkpoint-1" / "transformer"))
    assert trainer.released.startswith("step 1 of 2")


def test_checkpoint_of_an_adapter_is_refused(flux_pipeline, tmp_path):
    adapter = RPOTrainer(
        model=copy.deepcopy(flux_pipeline),
        reward_funcs=brightness,
        args=RPOConfig(
            **{**SMALL, **ONLINE, "save_strategy": "steps", "save_steps": 1},
            output_dir=str(tmp_path / "adapter"),
            sde_window_size=1,
        ),
        train_dataset=Dataset.from_list(PROMPTS),
        peft_config=LoraConfig(r=2),
    )
    adapter.train()
    checkpoint = str(tmp_path / "adapter" / "checkpoint-1")
    with pytest.raises(CheckpointError, match="written with use_peft=True, and this run has use_peft=False"):
        build(flux_pipeline, tmp_path, resume_from_checkpoint=checkpoint)


def test_code_of_the_card_draws_with_the_trained_transformer(flux_pipeline, tmp_path):
    flux_pipeline.save_pretrained(tmp_path / "tiny-flux")
    trainer = build(str(tmp_path / "tiny-flux"), tmp_path, model_init_kwargs={}, learning_rate=1e-2)
    trainer.train()
    trainer.save_model()
    trainer.create_model_card()
    card = (tmp_path / "out" / "README.md").read_text()
    assert "full-finetuning" in card
    assert "peft" not in card.split("### Details")[0]
    assert "load_lora_weights" not in card
    assert "A full fine-tune of `tiny-flux`" in card
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)[1]
    code = code.replace('"path/to/tiny-flux"', repr(str(tmp_path / "tiny-flux")))
    code = code.replace('"path/to/this/folder"', repr(str(tmp_path / "out"))).replace("image.save(", "(")
    found = {}
    exec(code, found)
    assert_same(dict(found["pipe"].transformer.state_dict()), weights(trainer))
    assert str(tmp_path) not in (tmp_path / "out" / "ARR-full" / "transformer" / "config.json").read_text()
    sent = push_to_hub(tmp_path / "out", "user/name", dry_run=True).files
    assert {"ARR-full/transformer/config.json", "ARR-full/transformer/diffusion_pytorch_model.safetensors"} <= set(
        sent
    )
    with pytest.raises(ValueError, match="a full fine-tune, and a Space"):
        write_space(tmp_path / "out")
    (tmp_path / "out" / "ARR-full" / "transformer" / "config.json").unlink()
    with pytest.raises(ValueError, match=r"lacks transformer/config\.json"):
        push_to_hub(tmp_path / "out", "user/name", dry_run=True)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"adapter_path": "user/adapter"}, "an adapter can be fused into the base before"),
        ({"base_precision": "fp8"}, "keeps a frozen base in 8 bits"),
        ({"offload_blocks": True, "gradient_checkpointing": True}, "shard with `--accelerate_config fsdp2`"),
        ({"compile_blocks": True}, "tried with adapters on frozen weights alone"),
        ({"reference": "adapter"}, "needs `adapter_path`"),
    ],
)
def test_settings_of_adapters_and_frozen_bases_are_refused(tmp_path, settings, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        RPOConfig(**{**SMALL, "output_dir": str(tmp_path), "use_peft": False, **settings})


def test_configuration_of_an_adapter_is_refused(flux_pipeline, tmp_path):
    args = RPOConfig(output_dir=str(tmp_path), use_peft=False, **{**SMALL, **ONLINE}, sde_window_size=1)
    with pytest.raises(ValueError, match="`peft_config` is of an adapter"):
        RPOTrainer(flux_pipeline, brightness, args, Dataset.from_list(PROMPTS), peft_config=LoraConfig(r=2))
