"""Several adapters on one base, each as it was when it was trained, and the base itself with all of them off."""

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub.errors import EntryNotFoundError, HFValidationError, RepositoryNotFoundError
from peft import PeftConfig, PeftModel


_CONFIG_FILE = "adapter_config.json"


@dataclass(frozen=True)
class AdapterSource:
    """
    Where an adapter is.

    Args:
        name (`str`): what it is called in an evaluation.
        path (`str`): folder that holds PEFT's files, or repository on the Hub.
        subfolder (`str`, *optional*): folder inside the repository.
    """

    name: str
    path: str
    subfolder: str | None = None


def parse_adapters(references: Sequence[str]) -> list[AdapterSource]:
    """
    Adapters as they are written on a command line: a local folder, `user/repo`, or `user/repo/subfolder`.

    They are named after their folder; where two would have the same name, after the folder above it as well.

    Raises:
        `FileNotFoundError`: when a local folder holds no adapter; folders below it that do are named.
        `ValueError`: when a reference is neither a folder nor a name on the Hub, or stands there twice.
    """
    if len(set(references)) < len(references):
        raise ValueError(f"An adapter is given twice in {', '.join(references)}; give each once.")
    places = [_place(reference) for reference in references]
    parts = [Path(path, subfolder or "").parts for path, subfolder in places]
    last = [part[-1] for part in parts]
    names = [part[-1] if last.count(part[-1]) == 1 and part[-1] != "base" else "/".join(part[-2:]) for part in parts]
    return [AdapterSource(name, *place) for name, place in zip(names, places, strict=True)]


def _place(reference: str) -> tuple[str, str | None]:
    folder = Path(reference)
    if folder.is_dir():
        if not (folder / _CONFIG_FILE).is_file():
            inside = ", ".join(str(path.parent) for path in sorted(folder.glob(f"*/{_CONFIG_FILE}")))
            raise FileNotFoundError(
                f"{folder} holds no {_CONFIG_FILE}" + (f"; there are adapters in {inside}." if inside else ".")
            )
        return str(folder.resolve()), None
    parts = reference.split("/")
    if reference.startswith((".", "/", "~")) or len(parts) < 2:
        raise ValueError(
            f"There is no adapter at {reference}; give a folder with {_CONFIG_FILE}, or `user/repo/subfolder` on the Hub."
        )
    return "/".join(parts[:2]), "/".join(parts[2:]) or None


def load_adapters(transformer: torch.nn.Module, sources: Sequence[AdapterSource]) -> PeftModel | torch.nn.Module:
    """
    Put adapters on a network. Their weights stay in float32 whatever the precision of the base, as in training.

    Args:
        transformer (`torch.nn.Module`): the pipeline's network; it is changed.
        sources (`Sequence[AdapterSource]`): the adapters; with none the network is returned as it is.

    Raises:
        `FileNotFoundError`: when a repository or its subfolder does not exist.
        `ValueError`: when an adapter does not fit the network.
    """
    model = transformer
    for source in sources:
        where = f"{source.path}/{source.subfolder}" if source.subfolder else source.path
        try:
            config = PeftConfig.from_pretrained(source.path, subfolder=source.subfolder)
        except (ValueError, EntryNotFoundError, RepositoryNotFoundError, HFValidationError) as error:
            raise FileNotFoundError(
                f"There is no adapter at {where} ({' '.join(str(error).split())}); name its subfolder as "
                "`user/repo/subfolder`, and log in if the repository is private."
            ) from error
        name = _module_name(source.name)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # PEFT only warns of what does not fit; it is an error below
                if model is transformer:
                    model = PeftModel(transformer, config, adapter_name=name)
                loaded = model.load_adapter(source.path, adapter_name=name, subfolder=source.subfolder)
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"The adapter {where} does not fit the base: {' '.join(str(error).split())}") from error
        missing = [key for key in loaded.missing_keys if "lora_" in key and f".{name}." in key]
        if missing or loaded.unexpected_keys:
            raise ValueError(
                f"The adapter {where} does not fit the base: {len(missing)} of its weights are missing and "
                f"{len(loaded.unexpected_keys)} belong nowhere, such as {[*missing, *loaded.unexpected_keys][0]}."
            )
    return model.eval()


@contextmanager
def active(model: torch.nn.Module, name: str | None) -> Iterator[None]:
    """Run with the adapter `name` alone, or with `None` as the base."""
    if name is not None:
        model.set_adapter(_module_name(name))
        yield
    elif isinstance(model, PeftModel):
        with model.disable_adapter():
            yield
    else:
        yield


def weights_digest(model: torch.nn.Module, name: str) -> str:
    """A digest of an adapter's weights: another one when it has been trained further."""
    digest = hashlib.sha256()
    for key, parameter in model.named_parameters():
        if f".{_module_name(name)}." in key:
            digest.update(parameter.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()[:16]


def _module_name(name: str) -> str:
    """PEFT makes an adapter's name that of a module, which has no dots."""
    return name.replace(".", "_")
