"""Several adapters on one base, or full fine-tunes of it, each as it was when it was trained, and the base itself."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from peft import LoraConfig, PeftModel

from ..adapter_names import ADAPTER_FILES, CONFIG_FILE, DIFFUSERS_WEIGHTS_FILE, PEFT_WEIGHTS_FILE
from ..policies.adapter_files import read_files, set_weights, with_scale_inside
from .fine_tunes import WithFineTunes, is_fine_tune, load_fine_tune


@dataclass(frozen=True)
class AdapterSource:
    """
    Where an adapter is.

    Args:
        name (`str`): what it is called in an evaluation.
        path (`str`): folder that holds PEFT's or diffusers' files, LoRA file, or repository on the Hub.
        subfolder (`str`, *optional*): folder or file inside the repository.
    """

    name: str
    path: str
    subfolder: str | None = None

    @property
    def where(self) -> str:
        """Folder, file, or `user/repo/subfolder`."""
        return f"{self.path}/{self.subfolder}" if self.subfolder else self.path


def parse_adapters(references: Sequence[str]) -> list[AdapterSource]:
    """
    Adapters as they are written on a command line: a local folder, a LoRA file, `user/repo`, `user/repo/subfolder` or
    `user/repo/subfolder/file`.

    They are named after their folder, or a file that has a name of its own; where two would have the same name, after the folder above it as well.

    Raises:
        `FileNotFoundError`: when a local folder holds no adapter; folders below it that do are named.
        `ValueError`: when a reference is neither a folder or file nor a name on the Hub, or stands there twice.
    """
    if len(set(references)) < len(references):
        raise ValueError(f"An adapter is given twice in {', '.join(references)}; give each once.")
    places = [_place(reference) for reference in references]
    parts = [_named_after(Path(path, subfolder or "")).parts for path, subfolder in places]
    last = [part[-1] for part in parts]
    names = [part[-1] if last.count(part[-1]) == 1 and part[-1] != "base" else "/".join(part[-2:]) for part in parts]
    return [AdapterSource(name, *place) for name, place in zip(names, places, strict=True)]


def _place(reference: str) -> tuple[str, str | None]:
    folder = Path(reference)
    if folder.is_file() and folder.name in (CONFIG_FILE, PEFT_WEIGHTS_FILE):
        folder = folder.parent
    if folder.is_dir():
        if is_fine_tune(folder):
            return str(folder.resolve()), None
        if not any((folder / name).is_file() for name in (CONFIG_FILE, DIFFUSERS_WEIGHTS_FILE)):
            found = {path.parent for path in folder.glob("*/*") if path.name in (CONFIG_FILE, DIFFUSERS_WEIGHTS_FILE)}
            inside = ", ".join(map(str, sorted(found)))
            raise FileNotFoundError(
                f"{folder} holds no {CONFIG_FILE}; there are adapters in {inside}."
                if inside
                else f"{folder} holds neither {CONFIG_FILE} nor {DIFFUSERS_WEIGHTS_FILE}."
            )
        return str(folder.resolve()), None
    if folder.is_file() and folder.suffix == ".safetensors":
        return str(folder.resolve()), None
    parts = reference.split("/")
    if reference.startswith((".", "/", "~")) or len(parts) < 2:
        raise ValueError(
            f"There is no adapter at {reference}; give a folder with {CONFIG_FILE}, a LoRA file, or `user/repo/subfolder` "
            "on the Hub."
        )
    return "/".join(parts[:2]), "/".join(parts[2:]) or None


def _named_after(place: Path) -> Path:
    if place.name in ADAPTER_FILES:  # which every adapter has
        return place.parent
    return place.with_suffix("") if place.suffix == ".safetensors" else place


def load_adapters(
    transformer: torch.nn.Module,
    sources: Sequence[AdapterSource],
    pipeline_class: type[DiffusionPipeline] | None = None,
) -> PeftModel | torch.nn.Module:
    """
    Put adapters on a network, in its precision, as the pipeline's own `load_lora_weights` does for who uses them. Full
    fine-tunes, folders with a `transformer` in them, are loaded beside.

    Args:
        transformer (`torch.nn.Module`): the pipeline's network; it is changed.
        sources (`Sequence[AdapterSource]`): the adapters; with none the network is returned as it is.
        pipeline_class (`type`, *optional*): class of the pipeline, which LoRA files are read with.

    Raises:
        `FileNotFoundError`: when a repository or its subfolder does not exist.
        `ValueError`: when an adapter cannot be read or does not fit the network.
    """
    of_adapters, fine_tunes = [], {}
    for source in sources:
        if source.subfolder is None and is_fine_tune(Path(source.path)):
            fine_tunes[source.name] = load_fine_tune(Path(source.path), transformer)
        else:
            of_adapters.append(source)
    model = transformer
    for source in of_adapters:
        config, weights = read_files(source.where, pipeline_class, setting="adapter")
        if isinstance(config, LoraConfig) and _is_two_matrices(config, weights):
            # rounded to the network's precision with its scale, as diffusers does with the file of a release
            config, weights = with_scale_inside(config, weights)
        config.inference_mode = True
        name = _module_name(source.name)
        try:
            if model is transformer:
                model = PeftModel(transformer, config, adapter_name=name)
            else:
                model.add_adapter(name, config)
            missing, unexpected = set_weights(model, weights, name)
        except (ValueError, RuntimeError) as error:
            raise ValueError(
                f"The adapter {source.where} does not fit the base: {' '.join(str(error).split())}"
            ) from error
        if missing or unexpected:
            raise ValueError(
                f"The adapter {source.where} does not fit the base: {len(missing)} of its weights are missing and "
                f"{len(unexpected)} belong nowhere, such as {[*missing, *unexpected][0]}."
            )
        for weight in weights_of(model, name):
            weight.data = weight.data.to(transformer.dtype)
    return (WithFineTunes(model, fine_tunes) if fine_tunes else model).eval()


def _is_two_matrices(config: LoraConfig, weights: dict[str, torch.Tensor]) -> bool:
    """Whether the adapter is `[r, in]` and `[out, r]` for each module, and nothing beside."""
    return not config.target_parameters and all(".lora_A." in name or ".lora_B." in name for name in weights)


@contextmanager
def active(model: torch.nn.Module, name: str | None) -> Iterator[None]:
    """Run with the adapter or the fine-tune `name` alone, or with `None` as the base."""
    if isinstance(model, WithFineTunes):
        with model.use(name) if name in model.fine_tunes else active(model.base, name):
            yield
    elif name is not None:
        model.set_adapter(_module_name(name))
        yield
    elif isinstance(model, PeftModel):
        with model.disable_adapter():
            yield
    else:
        yield


def weights_digest(model: torch.nn.Module, name: str) -> str:
    """A digest of the weights of an adapter or a fine-tune: another one when it has been trained further."""
    digest, weights = hashlib.sha256(), weights_of(model, _module_name(name))
    if isinstance(model, WithFineTunes) and name in model.fine_tunes:
        weights = model.fine_tunes[name].parameters()
    for weight in weights:
        digest.update(weight.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()[:16]


def weights_of(model: torch.nn.Module, name: str) -> Iterator[torch.nn.Parameter]:
    """The weights of an adapter, by its name as PEFT has it."""
    return (parameter for key, parameter in model.named_parameters() if f".{name}." in key.partition(".lora_")[2])


def _module_name(name: str) -> str:
    """PEFT makes an adapter's name that of a module, which has no dots."""
    return name.replace(".", "_")
