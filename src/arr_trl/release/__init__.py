from ..adapter_names import ADAPTER_FILES
from ..lazy import from_files
from .push import Push, PushError, push_to_hub
from .space import push_space, write_space
from .strength import weak_adapters


# the others need torch, and a push does not
__getattr__ = from_files(
    __name__,
    {
        "AdapterCard": ".model_card",
        "base_license": ".model_card",
        "convert_release": ".convert",
        "check_model_card": ".model_card",
        "check_lora_config": "..policies.adapter_files",
        "load_weights": "..policies.adapter_files",
        "public_name": ".adapter",
        "read_adapter": "..policies.adapter_files",
        "read_transformer": ".transformer",
        "record_results": ".model_card",
        "save_adapter": ".adapter",
        "save_transformer": ".transformer",
        "training_settings": ".model_card",
        "write_model_card": ".model_card",
    },
)
__all__ = [
    "ADAPTER_FILES",
    "AdapterCard",
    "Push",
    "PushError",
    "base_license",
    "check_lora_config",
    "check_model_card",
    "convert_release",
    "load_weights",
    "public_name",
    "push_space",
    "push_to_hub",
    "read_adapter",
    "read_transformer",
    "record_results",
    "save_adapter",
    "save_transformer",
    "training_settings",
    "weak_adapters",
    "write_model_card",
    "write_space",
]
