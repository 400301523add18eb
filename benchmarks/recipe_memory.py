"""
How much memory of a card does a run take? Counted where there is no GPU.

python benchmarks/recipe_memory.py --batch 4 --rollout_batch 4 --offload_encoders --json out.json
python benchmarks/recipe_memory.py --blocks 2 4 --base_precision fp8 --offload_blocks --offload_encoders

Trains FLUX.1-dev or Qwen-Image-Edit at full size, with random weights, through `RPOTrainer` on the device that
tests/second_device compiles, whose memory is counted as it is allocated. What is large is allocated and not computed, with
the kernels that GPUs have for attention and RMSNorm, so that a run takes minutes and the weights no memory of the host,
unless blocks are offloaded to it. Encoders are counted without weights on torch's device for it. Its numbers mean nothing; those of `torch.cuda.max_memory_allocated` should be these.
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

import estimate  # noqa: E402
import full_size  # noqa: E402
import torch  # noqa: E402
from diffusers.models.transformers.transformer_qwenimage import QwenEmbedRope  # noqa: E402
from peft import LoraConfig  # noqa: E402
from torch.utils._pytree import tree_leaves, tree_map_only  # noqa: E402

from arr_trl import RPOConfig, RPOTrainer  # noqa: E402
from arr_trl.policies import FlowPolicy  # noqa: E402
from arr_trl.runtime.counted import attention, rms_norm  # noqa: E402


COMPUTED = 1_000_000  # numbers; operations on more than that are only allocated
ATTENTION = ("_scaled_dot_product_flash_attention", "_scaled_dot_product_flash_attention_backward")
SKIPPED = (
    "mm", "addmm", "bmm", "baddbmm", "convolution_overrideable", "convolution_backward_overrideable", "add.Tensor",
    "sub.Tensor", "mul.Tensor", "div.Tensor", "mul.Scalar", "neg", "pow.Tensor_Scalar", "rsqrt", "mean.dim", "sum.dim_IntList",
    "gelu", "gelu_backward", "silu", "silu_backward", "native_layer_norm", "native_layer_norm_backward",
    "native_group_norm", "cat", "stack", "upsample_nearest2d", "upsample_nearest2d_backward", "_softmax", *ATTENTION,
)  # fmt: skip


def skip_large_operations() -> torch.library.Library:
    """Give the device operations that allocate their results. They last as long as what is returned."""
    library = torch.library.Library("aten", "IMPL", "HPU")
    for name in SKIPPED:
        packet, _, overload = name.partition(".")
        op = getattr(getattr(torch.ops.aten, packet), overload or "default")
        library.impl(name, allocating(op), allow_override=True)
    library.impl("_to_copy", convert)
    return library


def convert(x, *, dtype=None, layout=None, device=None, pin_memory=None, non_blocking=False, memory_format=None):
    made = torch.empty_like(x, dtype=dtype, device=device)
    stays = made.device.type == "hpu" and x.numel() > COMPUTED
    return made if stays else made.copy_(x, non_blocking=non_blocking)


def allocating(op: torch._ops.OpOverload):
    name = op.name().removeprefix("aten::")
    if name.endswith("_overrideable"):  # only devices that are not torch's own have these
        op = getattr(torch.ops.aten, name.removesuffix("_overrideable")).default

    def kernel(*args, **kwargs):
        numel = max(x.numel() for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor))
        if numel <= COMPUTED and name not in ATTENTION:
            args, kwargs = tree_map_only(torch.Tensor, lambda x: x.cpu(), (args, kwargs))
            return tree_map_only(torch.Tensor, lambda x: x.to("hpu"), op(*args, **kwargs))
        args, kwargs = tree_map_only(torch.Tensor, without_memory, (args, kwargs))
        return tree_map_only(torch.Tensor, allocated, op(*args, **kwargs))

    return kernel


def without_memory(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")


def allocated(x: torch.Tensor) -> torch.Tensor:
    made = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="hpu")
    return made.zero_() if x.numel() <= COMPUTED else made


def build_policy(args: argparse.Namespace) -> FlowPolicy:
    if args.offload_blocks:
        return full_size.build_policy(args, "cpu")
    policy = full_size.build_policy(args, "meta")
    policy.pipeline.vae.to_empty(device="cpu")
    transformer = policy.pipeline.transformer
    if args.model == "qwen-edit":  # its rotations are tensors that nothing moves
        transformer.pos_embed = QwenEmbedRope(10000, list(transformer.config.axes_dims_rope), scale_rope=True)
    apply = transformer._apply

    def on_the_device(function, recurse=True):  # where it would be copied there, it is allocated there
        return apply(lambda x: torch.empty_like(x, device="hpu") if x.is_meta else function(x), recurse)

    transformer._apply = on_the_device
    return policy


def train(args: argparse.Namespace) -> dict[str, float]:
    """The most memory in use in each phase of two optimizer steps, in GB."""
    policy = build_policy(args)
    pairs = max(args.rollout_batch, args.batch // 2)
    peaks = {}
    with tempfile.TemporaryDirectory() as folder:
        config = RPOConfig(
            output_dir=folder, height=args.size, width=args.size, num_inference_steps=2, sde_window_size=1,
            share_initial_noise=False, beta=0.01, classifier_free_guidance="off", max_steps=2, per_device_train_batch_size=args.batch,
            gradient_accumulation_steps=2 * pairs // args.batch, rollout_batch_size=args.rollout_batch,
            base_precision=args.base_precision, offload_blocks=args.offload_blocks,
            offload_encoders=args.offload_encoders, gradient_checkpointing=not args.no_checkpointing,
            save_strategy="no", report_to=[], dataloader_pin_memory=False, bf16=False, disable_tqdm=True,
        )  # fmt: skip
        trainer = RPOTrainer(
            policy,
            full_size.first_wins,
            config,
            full_size.rows(args, pairs),
            peft_config=LoraConfig(r=args.rank, lora_alpha=args.rank),
        )
        peaks["weights"] = device.memory_allocated() / 1e9
        decode, training_step = policy.decode, trainer.training_step

        def ends(phase):
            peaks[phase] = max(peaks.get(phase, 0), device.max_memory_allocated() / 1e9)
            device.reset_peak_memory_stats()

        def decoding(*inputs):
            ends("sampling")
            pictures = decode(*inputs)
            ends("decoding")
            return pictures

        def training(*inputs):
            loss = training_step(*inputs)
            ends("training")
            return loss

        policy.decode, trainer.training_step = decoding, training
        device.reset_peak_memory_stats()
        trainer.train()
    return with_encoders(args, policy, peaks)


def with_encoders(args: argparse.Namespace, policy: FlowPolicy, peaks: dict[str, float]) -> dict[str, float]:
    """
    With what encoders take, which are counted on torch's device without memory: their weights, where they stay on the card
    in every phase, and in encoding, beside an adapter with its gradients and moments, what they compute with too.
    """
    encoders = estimate.encoders_of(args)
    weights = sum(p.numel() * p.element_size() for encoder in encoders for p in encoder.parameters()) / 1e9
    asked = argparse.Namespace(**vars(args), rows=2 * args.rollout_batch, tflops=1.0, bandwidth=1.0)
    computing = estimate.encoding(asked, full_size.build_policy(args, "meta"), encoders).peak_bytes / 1e9
    adapter = (
        sum(p.numel() * p.element_size() for p in policy.pipeline.transformer.parameters() if p.requires_grad) / 1e9
    )
    stays = 0.0 if args.offload_encoders else weights
    return {"encoding": peaks["weights"] + 3 * adapter + weights + computing} | {
        name: gb + stays for name, gb in peaks.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=sorted(full_size.MODELS), default="flux")
    parser.add_argument("--size", type=int, default=512, help="height and width in pixels")
    parser.add_argument("--text_tokens", type=int, default=full_size.TEXT_TOKENS, help="of a prompt")
    parser.add_argument("--batch", type=int, default=4, help="transitions in one pass of training")
    parser.add_argument("--rollout_batch", type=int, default=4, help="pairs that are sampled at a time")
    parser.add_argument("--rank", type=int, default=16, help="of the adapter")
    parser.add_argument("--base_precision", choices=["fp8"])
    parser.add_argument("--offload_blocks", action="store_true")
    parser.add_argument("--offload_encoders", action="store_true")
    parser.add_argument("--no_checkpointing", action="store_true")
    parser.add_argument("--blocks", type=int, nargs=2, help="double and single blocks of a smaller model")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.set_defaults(narrow=False)
    args = parser.parse_args()

    torch.nn.functional.rms_norm, torch.nn.functional.scaled_dot_product_attention = (
        rms_norm,
        attention,
    )
    skipped = skip_large_operations()
    peaks = train(args)
    del skipped
    print("| " + " | ".join(f"{phase}, GB" for phase in peaks) + " |\n" + "|---" * len(peaks) + "|")
    print("| " + " | ".join(f"{peak:.2f}" for peak in peaks.values()) + " |")
    if args.json is not None:
        settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
        figures = {"date": date.today().isoformat(), "settings": settings, "peak_gb": peaks}
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
