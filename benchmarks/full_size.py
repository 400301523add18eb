"""
FLUX.1-dev and Qwen-Image-Edit at full size on a GPU, with random weights: no download, and as fast as the real ones.

python benchmarks/full_size.py --json flux.json                                        # FLUX.1-dev at 512×512
python benchmarks/full_size.py --model qwen-edit --json qwen.json
python benchmarks/full_size.py --base_precision fp8 --offload_blocks --rollout_batch 4   # the recipe of a 24 GB card

Prints pairs per second, peak memory, the share of a step in each phase, and the use of the GPU (MFU): operations of the
model, counted by torch, against what a plain bfloat16 matrix product reaches on the same device. `--variants` repeats
the run with sampling one pair at a time and with compiled blocks. `--blocks 1 1 --narrow` makes a small model of it, which
runs anywhere and measures nothing.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
from datasets import Dataset
from diffusers import (
    AutoencoderKL,
    AutoencoderKLQwenImage,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    QwenImageEditPipeline,
    QwenImageTransformer2DModel,
    attention_backend,
)
from diffusers.models.attention_dispatch import dispatch_attention_fn
from peft import LoraConfig, get_peft_model
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    T5Config,
    T5EncoderModel,
)

from arr_trl import RPOConfig, RPOTrainer
from arr_trl.policies import FlowPolicy, policy_class_of
from arr_trl.runtime.attention import check_attention
from arr_trl.trainer.buffer import random_at
from arr_trl.trainer.cost import rollout_forwards
from arr_trl.trainer.trajectory_trainer import draw_window


TEXT_TOKENS = 512  # of a prompt, as FLUX.1-dev and Qwen-Image have at the most
DYNAMIC_SHIFT = dict(use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15)


def flux_transformer(args: argparse.Namespace) -> FluxTransformer2DModel:
    double, single = args.blocks or (19, 38)
    return FluxTransformer2DModel(
        guidance_embeds=True, num_layers=double, num_single_layers=single, num_attention_heads=1 if args.narrow else 24
    )


def qwen_transformer(args: argparse.Namespace) -> QwenImageTransformer2DModel:
    return QwenImageTransformer2DModel(
        num_layers=args.blocks[0] if args.blocks else 60, num_attention_heads=1 if args.narrow else 24
    )


def flux_pipeline(args: argparse.Namespace) -> FluxPipeline:
    transformer = flux_transformer(args)
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, **DYNAMIC_SHIFT),
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(32,) * 4 if args.narrow else (128, 256, 512, 512), layers_per_block=2, latent_channels=16, shift_factor=0.1159,
            scaling_factor=0.3611, use_quant_conv=False, use_post_quant_conv=False,
        ),
        text_encoder=None, tokenizer=None, text_encoder_2=None, tokenizer_2=None, transformer=transformer,
    )  # fmt: skip
    config = transformer.config

    def encode_prompt(prompt, device, **kwargs):
        embeds = torch.randn(len(prompt), args.text_tokens, config.joint_attention_dim, device=device)
        pooled = torch.randn(len(prompt), config.pooled_projection_dim, device=device)
        return embeds.to(transformer.dtype), pooled.to(transformer.dtype), None

    pipeline.encode_prompt = encode_prompt
    return pipeline


def qwen_pipeline(args: argparse.Namespace) -> QwenImageEditPipeline:
    transformer = qwen_transformer(args)
    pipeline = QwenImageEditPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0, shift_terminal=0.02, **DYNAMIC_SHIFT),
        vae=AutoencoderKLQwenImage(base_dim=8 if args.narrow else 96), text_encoder=None, tokenizer=None, processor=None, transformer=transformer,
    )  # fmt: skip

    def encode_prompt(prompt, device, **kwargs):
        embeds = torch.randn(len(prompt), args.text_tokens, transformer.config.joint_attention_dim, device=device)
        return embeds.to(transformer.dtype), None

    pipeline.encode_prompt = encode_prompt
    return pipeline


def flux_encoders() -> list[torch.nn.Module]:
    t5 = dict(
        d_model=4096, d_ff=10240, num_heads=64, num_layers=24, feed_forward_proj="gated-gelu", vocab_size=32128,
    )  # fmt: skip
    clip = dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
    return [CLIPTextModel(CLIPTextConfig(**clip)), T5EncoderModel(T5Config(**t5))]


def qwen_encoders() -> list[torch.nn.Module]:
    text = dict(
        hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28, num_key_value_heads=4,
        vocab_size=152064, rope_parameters={"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    )  # fmt: skip
    vision = dict(hidden_size=1280, out_hidden_size=3584)
    return [Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision))]


ENCODERS = {"flux": flux_encoders, "qwen-edit": qwen_encoders}
VARIANTS = ("batched", "one pair at a time", "compiled")
MODELS = {"flux": flux_pipeline, "qwen-edit": qwen_pipeline}


def in_bfloat16(build: Callable, device: str):
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            return build()
    finally:
        torch.set_default_dtype(default)


def build_policy(args: argparse.Namespace, device: str) -> FlowPolicy:
    pipeline = in_bfloat16(lambda: MODELS[args.model](args), device)
    kwargs = {"condition_size": args.size} if args.model == "qwen-edit" else {}

    class WithoutEncoders(policy_class_of(pipeline)):
        may_lack = (
            "text_encoder",
            "tokenizer",
            "text_encoder_2",
            "tokenizer_2",
            "processor",
        )  # `encode_prompt` is ours

    policy = WithoutEncoders(pipeline, **kwargs)
    policy.num_tokens = lambda prompt: args.text_tokens
    return policy


def rows(args: argparse.Namespace, count: int) -> Dataset:
    columns = {"prompt": [f"prompt {i}" for i in range(count)]}
    if args.model == "qwen-edit":
        columns["source_image"] = [Image.new("RGB", (args.size, args.size), "white")] * count
    return Dataset.from_dict(columns)


def first_wins(prompts, completions, num_generations, **columns):
    return [float(i % num_generations == 0) for i in range(len(completions))]


def save_configurations(pipeline: DiffusionPipeline, folder: Path) -> None:
    """The files of a model folder from which its memory is counted, without weights and encoders."""
    index = {"_class_name": type(pipeline).__name__}
    for name in ("transformer", "vae", "scheduler"):
        component = getattr(pipeline, name)
        component.save_config(folder / name)
        index[name] = ["diffusers", type(component).__name__]
    (folder / "model_index.json").write_text(json.dumps(index))


def why_not(backend: str, device: str) -> str | None:
    """Why kernels cannot be used here, where they cannot: they are tried on a small attention."""
    try:
        check_attention(backend)
        with attention_backend(backend):
            dispatch_attention_fn(*torch.zeros(3, 1, 128, 2, 128, device=device, dtype=torch.bfloat16))
    except (ValueError, RuntimeError) as error:
        return f"attn_backend={backend!r} cannot be used here: {str(error).strip().splitlines()[0]}"
    return None


def configuration(
    args: argparse.Namespace, variant: str, folder: str, device: str, bf16: bool, **of_family: int
) -> RPOConfig:
    return RPOConfig(
        output_dir=folder, height=args.size, width=args.size, num_inference_steps=8, sde_window_size=2,
        sde_window_range=[0, 4], beta=0.01, kl_fraction=args.kl_fraction, classifier_free_guidance="off",
        per_device_train_batch_size=args.batch, gradient_accumulation_steps=args.pairs * 4 // args.batch,
        rollout_batch_size=1 if variant == "one pair at a time" else args.rollout_batch,
        compile_blocks=variant == "compiled", base_precision=args.base_precision,
        attn_backend=args.attn_backend, offload_blocks=args.offload_blocks, max_steps=args.steps + 1,
        logging_steps=1, save_strategy="no", report_to=[], bf16=bf16, use_cpu=device == "cpu",
        gradient_checkpointing=not args.no_checkpointing, disable_tqdm=True, **of_family,
    )  # fmt: skip


def train(args: argparse.Namespace, device: str, variant: str) -> dict:
    """One run; the first step is warm-up and does not count."""
    torch.manual_seed(0)
    policy = build_policy(args, device)
    with tempfile.TemporaryDirectory() as folder:
        config = configuration(args, variant, folder, device, bf16=device != "cpu")
        micro_steps = config.gradient_accumulation_steps
        trainer = RPOTrainer(
            policy, first_wins, config, rows(args, args.pairs), peft_config=LoraConfig(r=16, lora_alpha=32)
        )
        marks = []
        step = trainer.training_step

        def timed(*inputs):
            if not trainer._step % micro_steps:
                if device != "cpu":
                    torch.cuda.synchronize()
                marks.append(time.perf_counter())
                if len(marks) == 2 and device != "cpu":
                    torch.cuda.reset_peak_memory_stats()
            return step(*inputs)

        trainer.training_step = timed
        trainer.train()
        if device != "cpu":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - marks[1]
    history = [entry for entry in trainer.state.log_history if "loss" in entry][1:]
    spent = {phase: sum(entry[f"rollout/{phase}_s"] for entry in history) for phase in ("sample", "decode", "reward")}
    spent["train"] = seconds - sum(spent.values())
    passes = [
        rollout_forwards(config, args.pairs, draw_window(config, random_at(config.seed, 1 + i)).start)
        for i in range(args.steps)
    ]
    return {
        "variant": variant,
        "pairs_per_s": args.pairs * args.steps / seconds,
        "peak_memory_gb": None if device == "cpu" else torch.cuda.max_memory_allocated() / 1e9,
        "seconds": spent,
        "passes": {name: sum(getattr(p, name) for p in passes) for name in ("sampling", "training", "reference")},
    }


def conditioning_of(policy: FlowPolicy, model: str, size: int, rows: int, device: str) -> dict[str, torch.Tensor]:
    if model == "flux":
        return policy.encode([{"prompt": str(i)} for i in range(rows)], size, size)
    side = size // 16
    bf16 = dict(device=device, dtype=torch.bfloat16)
    return {
        "prompt_embeds": torch.empty(
            rows, policy.num_tokens(""), policy.pipeline.transformer.config.joint_attention_dim, **bf16
        ),
        "prompt_mask": torch.ones(rows, policy.num_tokens(""), dtype=torch.bool),
        "source_latents": torch.empty(rows, side * side, 64, **bf16),
        "shapes": torch.tensor([[[side, side], [side, side]]]).expand(rows, -1, -1),
    }


def velocity(args: argparse.Namespace, policy: FlowPolicy, model: torch.nn.Module, rows: int, device: str = "meta"):
    """What the transformer makes of numbers that are none, for `rows` transitions."""
    side = args.size // 16
    latents = torch.empty(rows, side * side, 64, device=device)
    conditioning = conditioning_of(policy, args.model, args.size, rows, device)
    return policy.velocity(model, latents, torch.ones(rows, device=device), conditioning, 1.0)


def operations(args: argparse.Namespace) -> tuple[float, float]:
    """Of a forward pass for one picture, and of a forward and backward pass with LoRA, on a device without memory."""
    policy = build_policy(args, "meta")
    policy.pipeline.transformer.requires_grad_(False)
    config = LoraConfig(r=16, lora_alpha=32, target_modules=list(policy.target_modules))
    model = get_peft_model(policy.pipeline.transformer, config)
    counts = []
    for with_gradient in (False, True):
        with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(with_gradient):
            predicted = velocity(args, policy, model, 1)
            if with_gradient:
                predicted.sum().backward()
        counts.append(float(counter.get_total_flops()))
    return counts[0], counts[1]


def matmul_ceiling(device: str) -> float:
    """Operations per second of a bfloat16 matrix product."""
    size = 256 if device == "cpu" else 8192
    a, b = torch.randn(2, size, size, device=device, dtype=torch.bfloat16)
    for repeats in (3, 20):  # the first is warm-up
        if device != "cpu":
            torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(repeats):
            a @ b
        if device != "cpu":
            torch.cuda.synchronize()
    return 2 * size**3 * repeats / (time.perf_counter() - started)


def copy_bandwidth(device: str) -> float:
    """Bytes a second that are read and written, of a copy on the device."""
    size = 2**22 if device == "cpu" else 2**32
    source = torch.ones(size, device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    for repeats in (3, 20):  # the first is warm-up
        if device != "cpu":
            torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(repeats):
            target.copy_(source)
        if device != "cpu":
            torch.cuda.synchronize()
    return 2 * size * repeats / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=sorted(MODELS), default="flux")
    parser.add_argument("--size", type=int, default=512, help="height and width in pixels")
    parser.add_argument("--text_tokens", type=int, default=TEXT_TOKENS, help="of a prompt")
    parser.add_argument("--pairs", type=int, default=8, help="pairs for each optimizer step")
    parser.add_argument("--steps", type=int, default=3, help="optimizer steps that are measured")
    parser.add_argument("--batch", type=int, default=4, help="transitions in one pass of training")
    parser.add_argument("--rollout_batch", type=int, help="pairs that are sampled at a time; all by default")
    parser.add_argument("--kl_fraction", type=float, default=0.25)
    parser.add_argument("--base_precision", choices=["fp8", "int8"])
    parser.add_argument("--offload_blocks", action="store_true")
    parser.add_argument("--attn_backend", help="kernels of diffusers' dispatcher, `_native_flash` for PyTorch's flash")
    parser.add_argument("--no_checkpointing", action="store_true")
    parser.add_argument("--variant", choices=VARIANTS, default=VARIANTS[0], help="what is run")
    parser.add_argument("--variants", action="store_true", help="all of them, one after the other")
    parser.add_argument("--blocks", type=int, nargs=2, help="double and single blocks of a smaller model")
    parser.add_argument("--narrow", action="store_true", help="one attention head, and as narrow an autoencoder")
    parser.add_argument("--json", type=Path, help="file for the figures")
    args = parser.parse_args()
    if not torch.cuda.is_available() and args.blocks is None:
        raise SystemExit("There is no GPU here; python benchmarks/throughput.py measures TinyScenes on a CPU.")

    variants = VARIANTS if args.variants else (args.variant,)
    if "compiled" in variants and (args.base_precision or args.offload_blocks):
        parser.error("Compiled blocks go with neither --base_precision nor --offload_blocks.")

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if args.attn_backend is not None and (reason := why_not(args.attn_backend, device)):
        print(reason)
        raise SystemExit(os.EX_UNAVAILABLE)
    forward, forward_backward = operations(args)
    ceiling = matmul_ceiling(device)
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    print(
        f"{name}: {ceiling / 1e12:.1f} TFLOP/s; {forward / 1e12:.1f} and {forward_backward / 1e12:.1f} TFLOP a pass\n"
    )
    print("| variant | pairs/s | peak GB | sampling | decoding | judge | training | MFU sampling | MFU training |")
    print("|---|---|---|---|---|---|---|---|---|")
    runs = []
    for variant in variants:
        run = train(args, device, variant)
        passes, spent = run["passes"], run["seconds"]
        run["mfu_sampling"] = passes["sampling"] * forward / spent["sample"] / ceiling
        trained = passes["training"] * forward_backward + passes["reference"] * forward
        run["mfu_training"] = trained / spent["train"] / ceiling
        runs.append(run)
        total = sum(spent.values())
        shares = " | ".join(f"{spent[phase] / total:.0%}" for phase in ("sample", "decode", "reward", "train"))
        peak = "–" if run["peak_memory_gb"] is None else f"{run['peak_memory_gb']:.1f}"
        print(
            f"| {variant} | {run['pairs_per_s']:.3f} | {peak} | {shares} | {run['mfu_sampling']:.0%} "
            f"| {run['mfu_training']:.0%} |",
            flush=True,
        )
    if args.json:
        settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
        figures = {
            "date": date.today().isoformat(),
            "device": name,
            "torch": torch.__version__,
            "settings": settings,
            "tflop_forward": forward / 1e12,
            "tflop_forward_backward": forward_backward / 1e12,
            "tflops_matmul": ceiling / 1e12,
            "bandwidth_tb_s": copy_bandwidth(device) / 1e12,
            "runs": runs,
        }
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
