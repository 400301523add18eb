"""
What can a GPU reach at the most, and how much memory does it need? Counted where there is none.

python benchmarks/estimate.py --json out.json
python benchmarks/estimate.py --model qwen-edit --rows 8 --training_rows 2

Runs the operations of a model at full size on torch's device without memory, with the kernels that GPUs have for attention
and RMSNorm. An operation takes at least as long as its arithmetic takes at the speed of a large matrix product, or as
reading its inputs and writing its outputs once; the sum is the least a pass can take without compiled blocks, whose fused
kernels read and write less. Memory is what is alive at the same time, without what an allocator adds. `full_size.py`
measures both on a GPU.
"""

import argparse
import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
from diffusers import FluxPipeline
from full_size import ENCODERS, MODELS, TEXT_TOKENS, build_policy, conditioning_of, in_bfloat16, velocity
from peft import LoraConfig, get_peft_model
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.utils.checkpoint import checkpoint
from transformers import BatchEncoding

from arr_trl.policies import FlowPolicy, FluxPolicy, QwenImageEditPolicy
from arr_trl.policies.base import decoded_together
from arr_trl.runtime.counted import Count, kernels_of_gpus
from arr_trl.runtime.full_weights import FullWeights
from arr_trl.runtime.memory import compute_in_base_precision
from arr_trl.sampling import denoise_with_gradient


SHORT_PROMPT = 64  # tokens of an instruction with its template, beside those of its source


def count(args: argparse.Namespace, run: Callable, *inputs) -> Count:
    counted = Count(args.tflops * 1e12, args.bandwidth * 1e12)
    with counted:
        run(*inputs)
    return counted


def velocity_and_gradient(args: argparse.Namespace, policy: FlowPolicy, model: nn.Module, rows: int) -> None:
    velocity(args, policy, model, rows).sum().backward()


def gradient_through_steps(args: argparse.Namespace, policy: FlowPolicy, model: nn.Module, steps: int) -> None:
    """Some steps of a picture's way that keep their gradient, as `AlignPropTrainer` does it, and the backward of all."""
    rows, side = args.training_rows, args.size // 16
    conditioning = conditioning_of(policy, args.model, args.size, rows, "meta")

    def predict(latents: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return policy.velocity(model, latents, sigma, conditioning, 1.0)

    latents = torch.empty(rows, side * side, 64, device="meta")
    sigmas = torch.linspace(1, 0, steps + 1, device="meta")
    denoise_with_gradient(predict, latents, sigmas, range(steps)).sum().backward()


def decoding_with_gradient(args: argparse.Namespace, policy: FlowPolicy, checkpointed: bool) -> None:
    """One picture of a batch at a time; with `checkpointed` as `AlignPropTrainer` does it."""
    vae, side = policy.pipeline.vae, args.size // 8
    vae.enable_gradient_checkpointing() if checkpointed else vae.disable_gradient_checkpointing()
    latents = torch.empty(args.training_rows, 16, side, side, device="meta", dtype=torch.bfloat16, requires_grad=True)

    def decode(one: torch.Tensor) -> torch.Tensor:
        return vae.decode(one, return_dict=False)[0]

    pictures = [
        checkpoint(decode, one, use_reentrant=False) if checkpointed else decode(one) for one in latents.split(1)
    ]
    torch.cat(pictures).sum().backward()


class OfOneLength:
    """A tokenizer that makes a number of tokens of any text."""

    def __init__(self, length: int):
        self.model_max_length = length

    def __call__(self, text: str | list[str], padding: str | None = None, **kwargs) -> BatchEncoding:
        rows = 1 if isinstance(text, str) else len(text)
        length = self.model_max_length if padding == "max_length" else 1
        return BatchEncoding({"input_ids": torch.zeros(rows, length, dtype=torch.long)})

    def tokenize(self, text: str) -> list[str]:
        return []  # where a pipeline looks for tokens that an embedding of the user's stands for


def encoders_of(args: argparse.Namespace) -> list[nn.Module]:
    return [encoder.eval() for encoder in in_bfloat16(ENCODERS[args.model], "meta")]


def encoding(args: argparse.Namespace, policy: FlowPolicy, encoders: list[nn.Module]) -> Count:
    """What the prompts of a rollout take that are new, eight at a time; of editing rows one, however many there are."""
    with torch.no_grad():
        if args.model == "flux":
            rows = [{"prompt": str(i)} for i in range(args.rows)]
            return count(args, reading_prompts(args, policy, *encoders).encode, rows, args.size, args.size)
        return count(args, read_source, policy, encoders[0])


def reading_prompts(args: argparse.Namespace, policy: FluxPolicy, clip: nn.Module, t5: nn.Module) -> FluxPolicy:
    """The policy with encoders, whose own code then says how many prompts are read at a time."""
    tokenizers = (OfOneLength(clip.config.max_position_embeddings), OfOneLength(args.text_tokens))
    parts = {name: getattr(policy.pipeline, name) for name in ("transformer", "vae", "scheduler")}
    pipeline = FluxPipeline(
        text_encoder=clip, tokenizer=tokenizers[0], text_encoder_2=t5, tokenizer_2=tokenizers[1], **parts
    )
    return FluxPolicy(pipeline, max_sequence_length=args.text_tokens)


def read_source(policy: QwenImageEditPolicy, encoder: nn.Module) -> None:
    """
    The text with its source, and the source by the autoencoder. What reads the source before, patch by patch, is narrower
    and gone by then: it asks for numbers that meta has not.
    """
    assert policy.encoded_together == 1
    side, config = policy.condition_size, encoder.config.vision_config
    length = (side // (config.patch_size * config.spatial_merge_size)) ** 2 + SHORT_PROMPT
    width = encoder.config.text_config.hidden_size
    embeds = torch.empty(1, length, width, device="meta", dtype=encoder.dtype)
    positions = torch.zeros(3, 1, length, dtype=torch.long, device="meta")
    encoder.model.language_model(inputs_embeds=embeds, position_ids=positions, use_cache=False)
    vae = policy.pipeline.vae
    vae.encode(torch.empty(1, 3, 1, side, side, device="meta", dtype=vae.dtype))


def decoding(args: argparse.Namespace, policy: FlowPolicy) -> None:
    """As many pictures as are decoded at a time."""
    rows, side = min(args.rows, decoded_together(args.size, args.size)), args.size // 8
    frame = (1,) if args.model == "qwen-edit" else ()
    policy.pipeline.vae.decode(torch.empty(rows, 16, *frame, side, side, device="meta", dtype=torch.bfloat16))


def sampling_under_autocast(args: argparse.Namespace) -> Count:
    """With the rules of a GPU, for which a build of torch for GPUs is enough: the tensors only claim to be on one."""
    policy = build_policy(args, "meta")
    lora = LoraConfig(r=args.rank, lora_alpha=args.rank, target_modules=list(policy.target_modules))
    model = get_peft_model(policy.pipeline.transformer, lora)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        for module in model.modules():
            for tensors in (module._parameters, module._buffers):
                tensors.update({k: torch.empty_like(x, device="cuda") for k, x in tensors.items() if x is not None})
        torch.set_autocast_enabled("cuda", True)
        torch.set_autocast_dtype("cuda", torch.bfloat16)
        counted = count(args, velocity, args, policy, model, args.rows, "cuda")
        torch.set_autocast_enabled("cuda", False)
    return counted


def with_adapter(args: argparse.Namespace, policy: FlowPolicy, layers: str) -> dict[str, Count]:
    """What passes of a network with an adapter take, whose layers are `"PEFT's"` or `"our"` own."""
    transformer = policy.pipeline.transformer.requires_grad_(False)
    lora = LoraConfig(r=args.rank, lora_alpha=args.rank, target_modules=list(policy.target_modules))
    model = get_peft_model(transformer, lora)
    if layers == "our":
        compute_in_base_precision(model, policy.dtype)
    counted = {}
    with torch.no_grad():
        counted[f"sampling, {layers} layers"] = count(args, velocity, args, policy, model, args.rows)
    for checkpointing in ("", ", checkpointing"):
        if checkpointing:
            transformer.enable_gradient_checkpointing()
        counted[f"training, {layers} layers{checkpointing}"] = count(
            args, velocity_and_gradient, args, policy, model, args.training_rows
        )
    return counted


def of_trained_network(args: argparse.Namespace) -> dict[str, Count]:
    """What passes take as they are trained here."""
    with kernels_of_gpus():
        return with_adapter(args, build_policy(args, "meta"), "our")


def passes(args: argparse.Namespace) -> dict[str, Count]:
    """What each kind of pass takes."""
    counted = {}
    with kernels_of_gpus():
        if torch.version.cuda is not None:
            counted["sampling, PEFT's layers, autocast"] = sampling_under_autocast(args)
        policy = build_policy(args, "meta")
        transformer = policy.pipeline.transformer
        with torch.no_grad():
            counted["sampling, no adapter"] = count(args, velocity, args, policy, transformer, args.rows)
        counted |= with_adapter(args, policy, "PEFT's")
        policy = build_policy(args, "meta")
        counted |= with_adapter(args, policy, "our")
        for steps in args.backprop_steps:  # with our layers and checkpointing
            counted[f"training, gradient through {steps} steps"] = count(
                args, gradient_through_steps, args, policy, policy.pipeline.transformer, steps
            )
        counted |= passes_of_all_weights(args)
        if args.model == "flux":
            for checkpointed in (False, True):
                counted["training, decoding with gradient" + ", a picture at a time" * checkpointed] = count(
                    args, decoding_with_gradient, args, policy, checkpointed
                )
        counted["encoding"] = encoding(args, policy, encoders_of(args))
        with torch.no_grad():
            counted["decoding"] = count(args, decoding, args, policy)
    return counted


def passes_of_all_weights(args: argparse.Namespace) -> dict[str, Count]:
    """As `use_peft=False` has it: weights kept in float32 are rounded when they are read. With checkpointing."""
    policy = build_policy(args, "meta")
    model = FullWeights(policy.pipeline.transformer)
    model.read_as_loaded()
    policy.pipeline.transformer.enable_gradient_checkpointing()
    for weight in model.parameters():  # which is there from the first micro-step on, 4 of the 16 bytes of a weight
        weight.grad = torch.empty_like(weight)
    with torch.no_grad():
        sampling = count(args, velocity, args, policy, model, args.rows)
    training = count(args, velocity_and_gradient, args, policy, model, args.training_rows)
    return {"sampling, all weights": sampling, "training, all weights, checkpointed": training}


def rows_of(name: str, args: argparse.Namespace) -> int:
    if name == "encoding":
        return args.rows if args.model == "flux" else QwenImageEditPolicy.encoded_together
    if name == "decoding":
        return min(args.rows, decoded_together(args.size, args.size))
    return args.training_rows if name.startswith("training") else args.rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=sorted(MODELS), default="flux")
    parser.add_argument("--size", type=int, default=512, help="height and width in pixels")
    parser.add_argument("--text_tokens", type=int, default=TEXT_TOKENS, help="of a prompt")
    parser.add_argument("--rows", type=int, default=16, help="pictures that are sampled at a time")
    parser.add_argument("--training_rows", type=int, default=4, help="transitions in one pass of training")
    parser.add_argument(
        "--backprop_steps", type=int, nargs="*", default=[], help="numbers of steps that a reward goes back through"
    )
    parser.add_argument("--rank", type=int, default=16, help="of the adapter")
    parser.add_argument("--blocks", type=int, nargs=2, help="double and single blocks of a smaller model")
    parser.set_defaults(narrow=False)
    parser.add_argument("--tflops", type=float, default=790, help="of a large bfloat16 matrix product; an H100's")
    parser.add_argument("--bandwidth", type=float, default=3.0, help="TB/s that are read and written; an H100's")
    parser.add_argument("--json", type=Path, help="file for the figures")
    args = parser.parse_args()

    counted = passes(args)
    print("| pass | rows | TFLOP | ms, at least | MFU, at most | peak GB beside weights |\n|---|---|---|---|---|---|")
    figures = {}
    for name, c in counted.items():
        rows = rows_of(name, args)
        # what checkpointing computes a second time is no use of the GPU
        useful = (
            counted[name.removesuffix(", checkpointing")].flops if name.endswith("layers, checkpointing") else c.flops
        )
        mfu = useful / c.seconds / c.flops_per_s
        print(
            f"| {name} | {rows} | {c.flops / 1e12:.0f} | {c.seconds * 1e3:.0f} | {mfu:.0%} | {c.peak_bytes / 1e9:.1f} |"
        )
        figures[name] = {
            "rows": rows, "tflop": c.flops / 1e12, "ms": c.seconds * 1e3, "mfu": mfu, "peak_gb": c.peak_bytes / 1e9,
        }  # fmt: skip
    if args.json is not None:
        settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
        args.json.write_text(
            json.dumps({"date": date.today().isoformat(), "settings": settings, "passes": figures}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
