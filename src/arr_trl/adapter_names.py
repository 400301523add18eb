"""
What the files of an adapter are called, PEFT's two and the one that diffusers reads, an adapter that has no folder of its own,
and the folder of a transformer all of whose weights were trained.
"""

CONFIG_FILE = "adapter_config.json"
PEFT_WEIGHTS_FILE = "adapter_model.safetensors"
DIFFUSERS_WEIGHTS_FILE = "pytorch_lora_weights.safetensors"
ADAPTER_FILES = (CONFIG_FILE, PEFT_WEIGHTS_FILE, DIFFUSERS_WEIGHTS_FILE)

# Where diffusers looks for a pipeline's transformer, and so where a full fine-tune is in its folder.
TRANSFORMER_FOLDER = "transformer"
TRANSFORMER_WEIGHTS = "diffusion_pytorch_model.safetensors"

ROOT = "."  # the `adapter_subfolder` of one that lies at the root of its repository


def called(subfolder: str) -> str:
    """What an adapter is called where a name is needed: its subfolder, and `adapter` at the root."""
    return "adapter" if subfolder == ROOT else subfolder


def path_in_repo(subfolder: str, file: str) -> str:
    """Where a file of an adapter lies in its repository."""
    return file if subfolder == ROOT else f"{subfolder}/{file}"
