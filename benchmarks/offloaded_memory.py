"""
How much memory of the device does a small card's recipe take, where there is no GPU?

python benchmarks/offloaded_memory.py --blocks 2 4 --rows 1 --json out.json

Trains FLUX.1-dev at its full width and 512×512, with random weights and as many of its 19 and 38 blocks as are asked for,
on the device that tests/second_device compiles: its memory is counted, its kernels are the CPU's. Blocks, encoders and
autoencoder are offloaded. One optimizer step of two denoising steps; a minute for every three blocks and row.
"""

import argparse
import json
import os
import sys
import tempfile
from datetime import date
from pathlib import Path


sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "second_device"))

import second_device


device = second_device.register()  # first: libraries ask torch for an accelerator when they are imported
os.environ["ACCELERATE_TORCH_DEVICE"] = "hpu"

import torch  # noqa: E402
from full_size import build_policy, first_wins, rows  # noqa: E402
from peft import LoraConfig  # noqa: E402

from arr_trl import RPOConfig, RPOTrainer  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, nargs=2, default=(2, 4), help="double and single blocks")
    parser.add_argument("--rows", type=int, default=1, help="prompts that are sampled, and rows of a training pass")
    parser.add_argument("--base_precision", choices=["fp8", "none"], default="fp8")
    parser.add_argument("--json", type=Path, help="file for the figures")
    args = parser.parse_args()
    args.model, args.size = "flux", 512

    torch.manual_seed(0)
    policy = build_policy(args, "cpu")
    weights = sum(p.numel() * p.element_size() for p in policy.pipeline.transformer.parameters()) / 1e9
    with tempfile.TemporaryDirectory() as folder:
        config = RPOConfig(
            output_dir=folder, height=512, width=512, num_inference_steps=2, sde_window_size=1, beta=0.0,
            per_device_train_batch_size=2 * args.rows, gradient_accumulation_steps=1, max_steps=1, save_strategy="no",
            base_precision=None if args.base_precision == "none" else args.base_precision, offload_blocks=True,
            offload_encoders=True, gradient_checkpointing=True, bf16=False, report_to=[], dataloader_pin_memory=False,
            disable_tqdm=True,
        )  # fmt: skip
        trainer = RPOTrainer(
            policy, first_wins, config, rows(args, args.rows), peft_config=LoraConfig(r=16, lora_alpha=32)
        )
        peaks = {}
        compute_loss = trainer.compute_loss

        def after_sampling(*inputs, **kwargs):
            peaks["sampling"] = device.max_memory_allocated() / 1e9
            device.reset_peak_memory_stats()
            return compute_loss(*inputs, **kwargs)

        trainer.compute_loss = after_sampling
        trainer.train()
        peaks["training"] = device.max_memory_allocated() / 1e9
    print(
        "| blocks | rows | weights, GB | peak of sampling and decoding, GB | peak of training, GB |\n|---|---|---|---|---|"
    )
    print(f"| {args.blocks} | {args.rows} | {weights:.2f} | {peaks['sampling']:.2f} | {peaks['training']:.2f} |")
    if args.json is not None:
        figures = {"date": date.today().isoformat(), "blocks": args.blocks, "rows": args.rows, "weights_gb": weights}
        args.json.write_text(json.dumps(figures | {f"peak_{name}_gb": peak for name, peak in peaks.items()}, indent=2))


if __name__ == "__main__":
    main()
