from ..policies.adapter_files import ADAPTER_FILES, check_lora_config, load_weights, read_adapter
from .adapter import public_name, save_adapter
from .model_card import AdapterCard, base_license, record_results, training_settings, write_model_card
from .push import Push, PushError, push_to_hub


__all__ = [
    "ADAPTER_FILES",
    "AdapterCard",
    "Push",
    "PushError",
    "base_license",
    "check_lora_config",
    "load_weights",
    "public_name",
    "push_to_hub",
    "read_adapter",
    "record_results",
    "save_adapter",
    "training_settings",
    "write_model_card",
]
