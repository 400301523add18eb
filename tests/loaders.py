"""
How others than diffusers and PEFT apply an adapter to a transformer, written down from their sources: what they take for
its scale is what matters.
"""

import json
import math
import re
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file


def _add(transformer, weights, scale_of):
    """Add `scale · B · A` to the weights of a transformer without an adapter."""
    downs = [name for name in weights if name.endswith(".lora_A.weight")]
    assert downs
    for name in downs:
        module = name.removesuffix(".lora_A.weight")
        down, up = weights[name], weights[f"{module}.lora_B.weight"]
        with torch.no_grad():
            transformer.get_submodule(module).weight += scale_of(module, len(down)) * (up @ down)
    return transformer


def comfyui(transformer, file, prefix="transformer."):
    """
    `.alpha` beside the matrices over the rank, else 1; the header is not read, and what is not a matrix is left out.
    comfy/lora.py and comfy/weight_adapter/lora.py; Forge has its code.
    """
    weights = {name.removeprefix(prefix): weight for name, weight in load_file(file).items()}
    alphas = {
        name.removesuffix(".alpha"): float(weight) for name, weight in weights.items() if name.endswith(".alpha")
    }
    return _add(transformer, weights, lambda module, rank: alphas[module] / rank if module in alphas else 1.0)


def _of_peft(folder):
    folder = Path(folder)
    weights = load_file(folder / "adapter_model.safetensors")
    weights = {name.removeprefix("base_model.model."): weight for name, weight in weights.items()}
    return json.loads((folder / "adapter_config.json").read_text()), weights


def vllm_omni_folder(transformer, folder):
    """One rank and one alpha for all modules, those of adapter_config.json: vllm/lora/peft_helper.py."""
    config, weights = _of_peft(folder)
    assert not config["use_dora"]
    scale = config["lora_alpha"] / (math.sqrt(config["r"]) if config["use_rslora"] else config["r"])
    return _add(transformer, weights, lambda module, rank: scale)


def vllm_omni_file(transformer, file):
    """`.alpha` tensors, else 1, and no header; it refuses what is not a matrix: vllm_omni/diffusion/lora/utils.py."""
    assert all(name.endswith((".lora_A.weight", ".lora_B.weight", ".alpha")) for name in load_file(file))
    return comfyui(transformer, file)


def sglang(transformer, folder, lora_weight_name="adapter_model.safetensors"):
    """
    adapter_config.json beside the file that is named, held against the header of the file; a pattern of alpha, the rank of
    each matrix, and rslora: runtime/pipelines_core/lora/peft_adapter.py.
    """
    config, weights = _of_peft(folder)
    file = Path(folder, lora_weight_name)
    with safe_open(file, "pt") as opened:
        header = json.loads((opened.metadata() or {}).get("lora_adapter_metadata", "{}"))
    if header.get("transformer.lora_alpha", config["lora_alpha"]) != config["lora_alpha"]:
        raise ValueError("adapter_config.json lora_alpha conflicts with safetensors metadata")

    def scale_of(module, rank):
        alphas = (a for key, a in (config["alpha_pattern"] or {}).items() if re.match(rf"(.*\.)?({key})$", module))
        return next(alphas, config["lora_alpha"]) / rank * (math.sqrt(rank) if config["use_rslora"] else 1)

    return _add(transformer, weights, scale_of)
