"""
How much memory of a card does each recipe take, phase by phase? Counted, for the table in docs/source/speed.md.

python benchmarks/recipes_by_card.py

Sampling, decoding and training are what `arr-trl doctor` counts of a run, encoding what estimate.py does, all of FLUX.1-dev
at full size, on torch's device without memory. recipe_memory.py counts the same as a run allocates it.
"""

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import estimate
import full_size
import torch
from peft import LoraConfig

from arr_trl import RPOConfig
from arr_trl.policies.placement import _BESIDE
from arr_trl.runtime.counted import kernels_of_gpus
from arr_trl.trainer.fit import bytes_of, memory_of


PHASES = ("sampling", "decoding", "training")
LORA = LoraConfig(r=16, lora_alpha=32)


@dataclass(frozen=True)
class Recipe:
    """A configuration and the card, in GB, that it is for."""

    card_gb: int
    words: str
    config: RPOConfig


def recipes() -> list[Recipe]:
    """Those of the table; nothing is written to their output folder."""
    here = {"output_dir": "unused", "use_cpu": True}
    small = "rpo_flux_24gb"

    def of(recipe: str, **changed) -> RPOConfig:
        return RPOConfig.from_recipe(recipe, **here, **changed)

    fast = {"gradient_checkpointing": False, "rollout_batch_size": 8}
    return [
        Recipe(24, "rpo_flux_24gb", of(small)),
        Recipe(24, "the same for a slow bus", of(small, offload_blocks=False, max_cached_prompts=256)),
        Recipe(48, "rpo_flux, offload_encoders", of("rpo_flux", offload_encoders=True)),
        Recipe(80, "rpo_flux", of("rpo_flux")),
        Recipe(80, "the README's Python", RPOConfig(**here, per_device_train_batch_size=4, gradient_accumulation_steps=112)),
        Recipe(80, "rpo_flux, faster", of("rpo_flux", **fast)),
        Recipe(
            141, "rpo_flux, faster still",
            of("rpo_flux", **fast | {"rollout_batch_size": 16}, per_device_train_batch_size=8, gradient_accumulation_steps=56),
        ),
    ]  # fmt: skip


def peaks(
    recipe: Recipe, folder: str, encoders: list[torch.nn.Module], vae: torch.nn.Module, reading: float
) -> dict[str, float]:
    """
    The most memory in use in each phase, in GB, and that of a run whose cache of encoded prompts is full.

    Args:
        recipe (`Recipe`): the recipe.
        folder (`str`): a model folder without weights and encoders.
        encoders (`list[torch.nn.Module]`): text encoders, without memory.
        vae (`torch.nn.Module`): the autoencoder.
        reading (`float`): GB that they compute with.
    """
    config, texts = recipe.config, sum(map(bytes_of, encoders)) / 1e9
    memory = memory_of(folder, config, LORA)
    stays = (memory.transformer + memory.adapter + memory.encoders) / 1e9
    come = texts
    if config.offload_encoders and stays + texts + _BESIDE / 1e9 > recipe.card_gb:  # layer by layer
        own = (bytes_of_own(module) for encoder in encoders for module in encoder.modules())
        come = max(own) / 1e9
    found = {"encoding": stays + come + reading}
    for phase in PHASES:
        found[phase] = stays + memory.phases[phase] / 1e9 + (0 if config.offload_encoders else texts)
    found["decoding"] += bytes_of(vae) / 1e9 if config.offload_encoders else 0
    return found | {"with the cache": max(found.values()) + memory.prompts / 1e9}


def bytes_of_own(module: torch.nn.Module) -> int:
    return sum(p.nbytes for p in module.parameters(recurse=False))


def table() -> list[str]:
    """The lines of the table."""
    args = argparse.Namespace(
        model="flux", blocks=None, narrow=False, size=512, text_tokens=full_size.TEXT_TOKENS, rows=32, tflops=1.0, bandwidth=1.0
    )  # fmt: skip
    policy, encoders = full_size.build_policy(args, "meta"), estimate.encoders_of(args)
    with kernels_of_gpus():
        reading = estimate.encoding(args, policy, encoders).peak_bytes / 1e9
    lines = [f"| card | recipe | encoding | {' | '.join(PHASES)} | with the cache |", "|---" * 7 + "|"]
    with tempfile.TemporaryDirectory() as folder:
        full_size.save_configurations(policy.pipeline, Path(folder))
        for recipe in recipes():
            found = peaks(recipe, folder, encoders, policy.pipeline.vae, reading)
            cells = " | ".join(f"{gb:.1f} GB" for gb in found.values())
            lines.append(f"| {recipe.card_gb} GB | {recipe.words} | {cells} |")
            print(lines[-1], flush=True)
    return lines


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print("\n" + "\n".join(table()))


if __name__ == "__main__":
    main()
