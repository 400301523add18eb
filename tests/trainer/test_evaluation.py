"""The evaluation of a run: its pictures are those that whoever loads the adapter gets."""

import numpy as np
import torch
from datasets import Dataset
from diffusers import FluxPipeline
from peft import LoraConfig
from PIL import Image

from arr_trl import RPOConfig, RPOTrainer
from arr_trl.evaluation import AdapterSource, InferenceSettings, draw, load_adapters
from arr_trl.policies import policy_for
from arr_trl.tiny_scenes import BASE_MODEL
from arr_trl.trainer.evaluation import draw_rows, save_gallery


def base():
    pipeline = FluxPipeline.from_pretrained(BASE_MODEL, dtype=torch.bfloat16)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def alternating(prompts, completions, **columns):
    return [float(i % 2) for i in range(len(completions))]


def grey_levels(images, others):
    pairs = zip(images, others, strict=True)
    return max(np.abs(np.asarray(a).astype(float) - np.asarray(b).astype(float)).mean() for a, b in pairs)


def test_pictures_of_a_half_precision_base_are_those_of_stock_loading(tmp_path):
    rows = [{"prompt": "a red circle left of a blue square"}, {"prompt": "a green triangle above a red square"}]
    args = RPOConfig(
        output_dir=str(tmp_path), height=32, width=32, max_sequence_length=12, num_inference_steps=3, sde_window_size=1,
        per_device_train_batch_size=4, gradient_accumulation_steps=1, max_steps=1, bf16=False, use_cpu=True, report_to=[],
        save_strategy="no", disable_tqdm=True, eval_num_inference_steps=6,
    )  # fmt: skip
    trainer = RPOTrainer(
        model=base(), reward_funcs=alternating, args=args, train_dataset=Dataset.from_list(rows * 2),
        eval_dataset=Dataset.from_list(rows), peft_config=LoraConfig(r=16, lora_alpha=20, target_modules=["attn.to_q"]),
    )  # fmt: skip
    trainer.train()
    with torch.no_grad():
        for name, weight in trainer.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    trainer.save_model()
    drawn = []

    def keep(prompts, completions, **columns):
        drawn.extend(completions[1::2])
        return alternating(prompts, completions)

    trainer.reward_funcs = [keep]
    trainer.evaluate()

    settings = InferenceSettings(32, 32, 6, 3.5, 1, trainer.args.eval_seed)
    seeds = [settings.seed_of(i, 0) for i in range(2)]
    stock = base()
    stock.load_lora_weights(str(trainer.adapter_folder), weight_name="pytorch_lora_weights.safetensors")
    of_stock = draw(policy_for(stock, max_sequence_length=12), stock.transformer, rows, seeds, settings)
    pipeline = base()
    network = load_adapters(pipeline.transformer, [AdapterSource("a", str(trainer.adapter_folder))])
    of_evaluate = draw(policy_for(pipeline, max_sequence_length=12), network, rows, seeds, settings)
    without = draw_rows(trainer.policy, trainer.model, rows, [0, 1], trainer.args)

    assert grey_levels(of_evaluate, of_stock) == 0
    assert grey_levels(drawn, of_stock) == 0
    # as the rollouts compute, which train what they draw, the sum is rounded once and not twice
    assert 0 < grey_levels(without, of_stock) < 1


def test_what_a_picture_of_the_gallery_was_edited_from_is_kept_beside_it(tmp_path):
    red, white = (Image.new("RGB", (8, 8), color) for color in ("red", "white"))
    of_several = {"prompt": "b", "source_image": [red, white]}
    first = [{"prompt": "a", "source_image": red, "mask_image": white}, of_several]
    gallery = save_gallery(tmp_path, "ARR", first, [white, white], 2)
    assert gallery == [{"file": f"gallery/ARR/{i}.png", "prompt": prompt} for i, prompt in ((1, "a"), (2, "b"))]
    files = sorted(path.name for path in (tmp_path / "gallery" / "ARR").iterdir())
    assert files == ["1-mask.png", "1-source.png", "1.png", "2.png"]
    assert Image.open(tmp_path / "gallery" / "ARR" / "1-source.png").tobytes() == red.tobytes()
    # an evaluation of other rows
    save_gallery(tmp_path, "ARR", [{"prompt": "c"}], [red], 1)
    assert not list((tmp_path / "gallery" / "ARR").glob("1-*.png"))
