"""
The files of adapters, as they are read: PEFT's folder or a LoRA file as diffusers loads it, local or on the Hub, to be
trained further or compared with the base.
"""

import copy
import json
import math
import re
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from diffusers.loaders import FluxLoraLoaderMixin
from diffusers.loaders.lora_base import LoraBaseMixin
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HFValidationError, RepositoryNotFoundError
from peft import LoraConfig, PeftConfig, PeftModel, set_peft_model_state_dict
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from ..adapter_names import CONFIG_FILE, DIFFUSERS_WEIGHTS_FILE, PEFT_WEIGHTS_FILE
from ..data.hub import check_cache


_PEFT_PREFIX = "base_model.model."


# What a LoRA file of diffusers can say, and what does not change what an adapter computes. A field of a later PEFT is not
# among them, so that what nobody has looked at is refused unless it is left alone.
_HELD = (
    *("r", "lora_alpha", "target_modules", "exclude_modules", "rank_pattern", "alpha_pattern"),
    *("use_rslora", "use_dora", "lora_bias", "layers_to_transform", "layers_pattern"),
    *("lora_dropout", "init_lora_weights", "eva_config"),
    *(
        "task_type",
        "peft_type",
        "peft_version",
        "auto_mapping",
        "base_model_name_or_path",
        "revision",
        "inference_mode",
    ),
)


def check_lora_config(config: PeftConfig) -> None:
    """
    Refuse, before training, an adapter that would not be the same wherever people load it, or that would learn nothing.

    Args:
        config (`peft.PeftConfig`):
            Configuration of the adapter to train.

    Raises:
        `ValueError`: when the adapter is not LoRA, trains more than LoRA's two matrices, or changes the base's weights.
    """
    _check_held(config)
    for name in ("use_dora", "lora_bias"):
        if getattr(config, name):
            raise ValueError(
                f"{name}=True in `peft_config` needs weights beside the two matrices of a layer, which ComfyUI leaves out "
                "and SGLang refuses, so that the adapter would be another one there; leave it at False."
            )


def _check_held(config: PeftConfig) -> None:
    """What a LoRA file of diffusers cannot say."""
    if not isinstance(config, LoraConfig):
        raise ValueError(
            f"`peft_config` is a {type(config).__name__}; diffusers loads LoRA adapters, so pass a `peft.LoraConfig`."
        )
    for name, values in (
        ("r", [config.r]),
        ("rank_pattern", (config.rank_pattern or {}).values()),
        ("lora_alpha", [config.lora_alpha]),
        ("alpha_pattern", (config.alpha_pattern or {}).values()),
    ):
        least = 1 if name in ("r", "rank_pattern") else 0
        if any(value < least or value == 0 for value in values):
            named = f"The LoRA rank r={config.r}" if name == "r" else f"{name}={getattr(config, name)!r}"
            raise ValueError(
                f"{named} has to be at least 1."
                if least
                else f"{named} scales an adapter to nothing, or turns it round; it has to be greater than 0."
            )
    default = LoraConfig()
    for field in fields(config):
        found, usual = getattr(config, field.name, None), getattr(default, field.name, None)
        if field.name not in _HELD and found != usual and found:
            raise ValueError(
                f"`{field.name}={found!r}` in `peft_config` trains or computes what a diffusers LoRA file cannot hold; "
                f"leave it at {usual!r}."
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
    _check_held(config)
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


def with_scale_inside(
    config: LoraConfig, weights: dict[str, torch.Tensor]
) -> tuple[LoraConfig, dict[str, torch.Tensor]]:
    """
    The same adapter as weights that need no scale, since B has it: alpha is the rank of each module.

    Who knows no alpha takes an adapter at scale 1: ComfyUI where there is no `.alpha` tensor
    (https://github.com/Comfy-Org/ComfyUI/issues/12191), vLLM-Omni and diffusers where a file has no header.

    Args:
        config (`peft.LoraConfig`): whose ranks and alphas, of each module, say the scale.
        weights (`dict[str, torch.Tensor]`): `<module>.lora_A.weight` `[r, in]` and `<module>.lora_B.weight` `[out, r]`.

    Returns:
        `tuple(LoraConfig, dict[str, torch.Tensor])`: both anew; what was given stays as it is.
    """
    patterns = config.alpha_pattern or {}

    def scale(module: str) -> float:
        alpha = patterns.get(get_pattern_key(patterns, module), config.lora_alpha)
        rank = len(weights[f"{module}.lora_A.weight"])
        return alpha / (math.sqrt(rank) if config.use_rslora else rank)

    scaled = {
        name: weight * scale(name.split(".lora_")[0]) if ".lora_B." in name else weight
        for name, weight in weights.items()
    }
    config = copy.copy(config)
    config.lora_alpha, config.alpha_pattern, config.use_rslora = config.r, dict(config.rank_pattern or {}), False
    return config, scaled


def _find(path: str, token: str | None, setting: str) -> Path:
    """PEFT's configuration file where there is one, else the LoRA file."""
    local = Path(path)
    if local.is_file():
        if local.suffix not in (".safetensors", ".json"):
            raise ValueError(
                f"{setting}={path} is no .safetensors file, and other forms may run code when they are read; convert it, "
                "for example with `safetensors.torch.save_file(torch.load(path, weights_only=True), ...)`."
            )
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


def lora_loader(pipeline_class: type[DiffusionPipeline]) -> type[LoraBaseMixin]:
    """
    What reads and writes the LoRA files of a pipeline: its class, or that of FLUX.1 where it has no `load_lora_weights` and
    its transformer loads the same files.
    """
    return pipeline_class if issubclass(pipeline_class, LoraBaseMixin) else FluxLoraLoaderMixin


def _read_diffusers(
    file: Path, path: str, pipeline_class: type[DiffusionPipeline] | None
) -> tuple[LoraConfig, dict[str, torch.Tensor]]:
    if pipeline_class is None:
        raise ValueError(f"The adapter {path} is a LoRA file of diffusers; name the `pipeline_class` that it is for.")
    with safe_open(file, "pt") as opened:
        header = opened.metadata() or {}
    metadata = json.loads(header.get("lora_adapter_metadata", "{}"))
    raw = _renamed(load_file(file), path)
    loader = lora_loader(pipeline_class)
    prefix = loader.transformer_name + "."
    # the pipeline drops these when it is not asked for them, and not every pipeline can be asked
    alphas = {name: raw.pop(name).item() for name in list(raw) if name.startswith(prefix) and name.endswith(".alpha")}
    weights = loader.lora_state_dict(raw)
    foreign = [name for name in weights if not name.startswith(prefix) or ".lora_" not in name]
    if foreign or not weights:
        raise ValueError(
            f"The adapter {path} holds {f'weights such as {foreign[0]}' if foreign else 'no weights'}; only LoRA weights "
            f"of the {loader.transformer_name} can be trained further."
        )
    weights = {name.removeprefix(prefix): weight for name, weight in weights.items()}
    if metadata:
        known = {field.name for field in fields(LoraConfig)}
        settings = {name.removeprefix(prefix): value for name, value in metadata.items()}
        return LoraConfig(**{name: value for name, value in settings.items() if name in known}), weights
    ranks = {name.split(".lora_")[0]: len(weight) for name, weight in weights.items() if ".lora_A." in name}
    scales = {module: alphas.get(f"{prefix}{module}.alpha", float(r)) for module, r in ranks.items()}
    return _config_of(ranks, scales, weights, path), weights


def _renamed(raw: dict[str, torch.Tensor], path: str) -> dict[str, torch.Tensor]:
    """The weights by the names that diffusers' own conversion takes, or the reason why it would not do them justice."""
    for name in raw:
        if name.startswith(_PEFT_PREFIX):
            raise ValueError(
                f"The adapter {path} has PEFT's weights without its {CONFIG_FILE}, which alone says alpha; put both into a "
                "folder, and give the folder."
            )
        if "dora_scale" in name:
            raise ValueError(
                f"The adapter {path} is DoRA as kohya's scripts write it, whose scales diffusers drops; convert it to PEFT's "
                "form, or use another adapter."
            )
    for old, new in ((".lora.down.", ".lora_A."), (".lora.up.", ".lora_B.")):
        raw = {name.replace(old, new): weight for name, weight in raw.items()}
    return raw


def _config_of(
    ranks: dict[str, int], alphas: dict[str, float], weights: dict[str, torch.Tensor], path: str
) -> LoraConfig:
    """A configuration that gives each module of a file its own rank and alpha, and other modules none."""
    rank = Counter(ranks.values()).most_common(1)[0][0]
    alpha = Counter(alphas.values()).most_common(1)[0][0]
    dora, bias = (
        {name.rpartition(ending)[0].removesuffix(".") for name in weights if name.endswith(ending)}
        for ending in (".lora_magnitude_vector", "lora_B.bias")
    )
    for found, what in ((dora, "DoRA"), (bias, "a bias")):
        if found and found != ranks.keys():
            raise ValueError(
                f"The adapter {path} has {what} in {len(found)} of its {len(ranks)} modules; PEFT knows all or none."
            )
    return LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=_exactly(ranks),
        # anchored: PEFT takes a key for every module whose name ends with it
        rank_pattern={f"^{re.escape(module)}": r for module, r in ranks.items() if r != rank},
        alpha_pattern={f"^{re.escape(module)}": a for module, a in alphas.items() if a != alpha},
        use_dora=bool(dora),
        lora_bias=bool(bias),
    )


def _exactly(modules: Iterable[str]) -> list[str] | str:
    """
    Targets that are these modules and no others. PEFT takes a name of a list for every module whose name ends with it, as
    FLUX's `proj_out` for that of each single block, and a pattern for whole names.
    """
    modules = sorted(modules)
    if all("." in module for module in modules):
        return modules
    return "|".join(re.escape(module) for module in modules)
