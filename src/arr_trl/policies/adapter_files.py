"""
The files of adapters, as they are read: PEFT's folder or a LoRA file as diffusers loads it, local or on the Hub, to be
trained further or compared with the base.
"""

import json
import warnings
from collections import Counter
from dataclasses import fields
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HFValidationError, RepositoryNotFoundError
from peft import LoraConfig, PeftConfig, PeftModel, set_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from ..data.hub import check_cache


CONFIG_FILE = "adapter_config.json"
PEFT_WEIGHTS_FILE = "adapter_model.safetensors"
DIFFUSERS_WEIGHTS_FILE = "pytorch_lora_weights.safetensors"
ADAPTER_FILES = (CONFIG_FILE, PEFT_WEIGHTS_FILE, DIFFUSERS_WEIGHTS_FILE)
_PEFT_PREFIX = "base_model.model."


def check_lora_config(config: PeftConfig) -> None:
    """
    Refuse, before training, an adapter that stock diffusers could not load.

    Args:
        config (`peft.PeftConfig`):
            Configuration of the adapter to train.

    Raises:
        `ValueError`: when the adapter is not LoRA, trains more than LoRA weights, or changes the base's weights.
    """
    if not isinstance(config, LoraConfig):
        raise ValueError(
            f"`peft_config` is a {type(config).__name__}; diffusers loads LoRA adapters, so pass a `peft.LoraConfig`."
        )
    if config.r < 1:
        raise ValueError(f"The LoRA rank r={config.r} has to be at least 1.")
    for name, allowed in (("modules_to_save", None), ("bias", "none"), ("trainable_token_indices", None)):
        found = getattr(config, name)
        if found != allowed and found:
            raise ValueError(
                f"`{name}={found!r}` in `peft_config` trains weights that a diffusers LoRA file cannot hold; "
                f"leave it at {allowed!r}."
            )
    if config.init_lora_weights not in (True, False, "gaussian", "orthogonal", "eva"):
        raise ValueError(
            f"`init_lora_weights={config.init_lora_weights!r}` in `peft_config` changes the base model's weights, so "
            "the adapter would not load on the published base; use True, False, 'gaussian', 'orthogonal' or 'eva'."
        )


def read_adapter(
    path: str, pipeline_class: type[DiffusionPipeline], token: str | None = None
) -> tuple[LoraConfig, dict[str, torch.Tensor]]:
    """
    Configuration and weights of an adapter, ready to be trained further.

    Args:
        path (`str`):
            A folder with PEFT's or diffusers' files, a `.safetensors` file that the pipeline's `load_lora_weights`
            takes, or either on the Hub as `"user/repo"`, `"user/repo/subfolder"` or `"user/repo/subfolder/file"`.
        pipeline_class (`type`):
            Class of the pipeline that it is for; it knows the formats that others write LoRA files in.
        token (`str`, *optional*):
            Token for the Hub.

    Returns:
        `tuple(LoraConfig, dict[str, torch.Tensor])`: the weights by module, such as
        `transformer_blocks.0.attn.to_q.lora_A.weight`.

    Raises:
        `FileNotFoundError`: when there is no adapter at `path`.
        `ValueError`: when it cannot be read, is not LoRA alone, or does more than diffusers' files can hold.
    """
    config, weights = read_files(path, pipeline_class, token)
    check_lora_config(config)
    # as PEFT saves it, the adapter is for inference
    config.inference_mode, config.lora_dropout, config.init_lora_weights = False, 0.0, True
    return config, weights


def read_files(
    path: str, pipeline_class: type[DiffusionPipeline] | None, token: str | None = None, setting: str = "adapter_path"
) -> tuple[PeftConfig, dict[str, torch.Tensor]]:
    """
    Configuration and weights of an adapter as they were saved, of any type that PEFT knows.

    Args:
        path (`str`): where it is, as in [`read_adapter`].
        pipeline_class (`type`, *optional*): class of the pipeline that it is for; PEFT's files are read without.
        token (`str`, *optional*): token for the Hub.
        setting (`str`, *optional*, defaults to `"adapter_path"`): what the user gave `path` as, for the error.

    Raises:
        `FileNotFoundError`: when there is no adapter at `path`.
        `ValueError`: when it cannot be read, or a LoRA file holds something else too.
    """
    file = _find(path, token, setting)
    try:
        return _read_peft(file) if file.name == CONFIG_FILE else _read_diffusers(file, path, pipeline_class)
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"The adapter {path} cannot be read: {error}.") from error


def load_weights(model: PeftModel, weights: dict[str, torch.Tensor], adapter_name: str, path: str) -> None:
    """
    Give an adapter the weights that [`read_adapter`] returned.

    Raises:
        `ValueError`: when they do not fit the model.
    """
    try:
        missing, unexpected = set_weights(model, weights, adapter_name)
    except RuntimeError as error:  # sizes differ
        raise ValueError(f"The adapter {path} is not for this base: {str(error).splitlines()[-1].strip()}") from error
    if missing or unexpected:
        raise ValueError(
            f"The adapter {path} is not for this base: {len(missing)} of its modules have no weights and "
            f"{len(unexpected)} weights have no module, such as {(missing + unexpected)[0]}."
        )


def set_weights(model: PeftModel, weights: dict[str, torch.Tensor], adapter_name: str) -> tuple[list[str], list[str]]:
    """
    Give an adapter its weights, in the precision that it has on the model.

    Returns:
        `tuple(list[str], list[str])`: those that are missing, and those that the model has no place for.

    Raises:
        `RuntimeError`: when sizes differ.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT warns of what is returned here
        result = set_peft_model_state_dict(
            model, {_PEFT_PREFIX + name: weight for name, weight in weights.items()}, adapter_name
        )
    # those of the base and of other adapters are missing too
    missing = [name for name in result.missing_keys if f".{adapter_name}." in name.partition(".lora_")[2]]
    return tuple([name.removeprefix(_PEFT_PREFIX) for name in names] for names in (missing, result.unexpected_keys))


def _find(path: str, token: str | None, setting: str) -> Path:
    """PEFT's configuration file where there is one, else the LoRA file."""
    local = Path(path)
    if local.is_file():
        return local.with_name(CONFIG_FILE) if local.name in (CONFIG_FILE, PEFT_WEIGHTS_FILE) else local
    if local.is_dir():
        for name in (CONFIG_FILE, DIFFUSERS_WEIGHTS_FILE):
            if (local / name).is_file():
                return local / name
        raise FileNotFoundError(
            f"The folder {path} holds neither {CONFIG_FILE} nor {DIFFUSERS_WEIGHTS_FILE}; give the adapter's own "
            "folder, or the file."
        )
    user, name, *inside = path.split("/") if path.count("/") else (path, "")
    check_cache(f"{user}/{name}")
    try:
        if inside and inside[-1].endswith(".safetensors") and inside[-1] != PEFT_WEIGHTS_FILE:
            return Path(hf_hub_download(f"{user}/{name}", "/".join(inside), token=token))
        folder = "/".join(part for part in inside if part != PEFT_WEIGHTS_FILE) or None
        try:
            config = Path(hf_hub_download(f"{user}/{name}", CONFIG_FILE, subfolder=folder, token=token))
        except EntryNotFoundError:
            return Path(hf_hub_download(f"{user}/{name}", DIFFUSERS_WEIGHTS_FILE, subfolder=folder, token=token))
        hf_hub_download(f"{user}/{name}", PEFT_WEIGHTS_FILE, subfolder=folder, token=token)
        return config
    except (EntryNotFoundError, RepositoryNotFoundError, HFValidationError, OSError) as error:
        raise FileNotFoundError(
            f"There is no adapter at {path}, neither here nor on the Hub ({' '.join(str(error).split())[:300]}); check "
            f"`{setting}`, which may be a folder, a file, or user/repo/subfolder."
        ) from error


def _read_peft(file: Path) -> tuple[PeftConfig, dict[str, torch.Tensor]]:
    weights_file = file.with_name(PEFT_WEIGHTS_FILE)
    if not weights_file.is_file():
        raise FileNotFoundError(f"The adapter {file.parent} lacks {PEFT_WEIGHTS_FILE}.")
    return PeftConfig.from_pretrained(file.parent), {
        name.removeprefix(_PEFT_PREFIX): weight for name, weight in load_file(weights_file).items()
    }


def _read_diffusers(
    file: Path, path: str, pipeline_class: type[DiffusionPipeline] | None
) -> tuple[LoraConfig, dict[str, torch.Tensor]]:
    if pipeline_class is None:
        raise ValueError(f"The adapter {path} is a LoRA file of diffusers; name the `pipeline_class` that it is for.")
    with safe_open(file, "pt") as opened:
        header = opened.metadata() or {}
    metadata = json.loads(header.get("lora_adapter_metadata", "{}"))
    raw = load_file(file)
    prefix = pipeline_class.transformer_name + "."
    # the pipeline drops these when it is not asked for them, and not every pipeline can be asked
    alphas = {name: raw.pop(name).item() for name in list(raw) if name.startswith(prefix) and name.endswith(".alpha")}
    weights = pipeline_class.lora_state_dict(raw)
    foreign = [name for name in weights if not name.startswith(prefix) or ".lora_" not in name]
    if foreign or not weights:
        raise ValueError(
            f"The adapter {path} holds {f'weights such as {foreign[0]}' if foreign else 'no weights'}; only LoRA weights "
            f"of the {pipeline_class.transformer_name} can be trained further."
        )
    weights = {name.removeprefix(prefix): weight for name, weight in weights.items()}
    if metadata:
        known = {field.name for field in fields(LoraConfig)}
        settings = {name.removeprefix(prefix): value for name, value in metadata.items()}
        return LoraConfig(**{name: value for name, value in settings.items() if name in known}), weights
    ranks = {name.split(".lora_")[0]: len(weight) for name, weight in weights.items() if ".lora_A." in name}
    rank = Counter(ranks.values()).most_common(1)[0][0]
    scales = {module: alphas.get(f"{prefix}{module}.alpha", float(r)) for module, r in ranks.items()}
    alpha = Counter(scales.values()).most_common(1)[0][0]
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=sorted(ranks),
        rank_pattern={module: r for module, r in ranks.items() if r != rank},
        alpha_pattern={module: scale for module, scale in scales.items() if scale != alpha},
    )
    return config, weights
