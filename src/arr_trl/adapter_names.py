"""What the files of an adapter are called: PEFT's two, and the one that diffusers reads."""

CONFIG_FILE = "adapter_config.json"
PEFT_WEIGHTS_FILE = "adapter_model.safetensors"
DIFFUSERS_WEIGHTS_FILE = "pytorch_lora_weights.safetensors"
ADAPTER_FILES = (CONFIG_FILE, PEFT_WEIGHTS_FILE, DIFFUSERS_WEIGHTS_FILE)
