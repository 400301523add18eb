"""Where the parts of a pipeline are kept, and how those that live in the host's memory visit the device."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from accelerate.utils import send_to_device
from diffusers import DiffusionPipeline


_BESIDE = 2_000_000_000  # bytes that encoders compute with, beside their weights


TRANSFORMER = "transformer"  # what pipelines call the network that is trained


def move_pipeline(
    pipeline: DiffusionPipeline,
    device: torch.device,
    offload_encoders: bool = False,
    move_transformer: bool = True,
    keep_autoencoder: bool = False,
) -> list[str]:
    """
    Move the networks of a pipeline to a device.

    Args:
        pipeline ([`~diffusers.DiffusionPipeline`]): the pipeline.
        device (`torch.device`): where they compute.
        offload_encoders (`bool`, *optional*, defaults to `False`):
            Leave encoders and autoencoder in CPU memory, for [`visiting`].
        move_transformer (`bool`, *optional*, defaults to `True`):
            Without it the transformer stays where it is, for what shards it to place: whole it may not fit.
        keep_autoencoder (`bool`, *optional*, defaults to `False`):
            Leave the autoencoder out of `offload_encoders`: its weights would be gone in a backward pass through it.

    Returns:
        `list[str]`: names of the components that were left in CPU memory.
    """
    left = []
    for name, module in pipeline.components.items():
        if not isinstance(module, torch.nn.Module) or (name == TRANSFORMER and not move_transformer):
            continue
        stays = name == TRANSFORMER or (keep_autoencoder and name == "vae")
        if offload_encoders and not stays:
            module.to("cpu")
            left.append(name)
        else:
            module.to(device)
    return left


@contextmanager
def visiting(modules: Iterable[torch.nn.Module], device: torch.device) -> Iterator[None]:
    """
    Inside, networks that live in the host's memory compute on a device. Where it has room for all of them they are copied
    there once, however often they compute; otherwise layer by layer, each time. Nothing is copied back.

    Args:
        modules (`Iterable[torch.nn.Module]`): frozen networks.
        device (`torch.device`): where they compute.
    """
    modules = list(modules)
    home = {tensor: tensor.data for module in modules for tensor in (*module.parameters(), *module.buffers())}
    handles = []
    if _has_room(sum(data.nbytes for data in home.values()), device):
        _load(home, device)
    else:
        handles = _load_with_each_forward(modules, home, device)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        _unload(home)


def _load(home: dict[torch.Tensor, torch.Tensor], device: torch.device) -> None:
    for tensor, data in home.items():
        tensor.data = data.to(device, non_blocking=True)


def _unload(home: dict[torch.Tensor, torch.Tensor]) -> None:
    for tensor, data in home.items():
        tensor.data = data


def _load_with_each_forward(
    modules: list[torch.nn.Module], home: dict[torch.Tensor, torch.Tensor], device: torch.device
) -> list[torch.utils.hooks.RemovableHandle]:
    def move_inputs(module: torch.nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        # pipelines put them where the first weight is
        return send_to_device(args, device), send_to_device(kwargs, device)

    handles = [module.register_forward_pre_hook(move_inputs, with_kwargs=True) for module in modules]
    for layer in {layer for module in modules for layer in module.modules()}:
        own = [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]
        of_layer = {tensor: home[tensor] for tensor in own}
        if of_layer:
            handles.append(layer.register_forward_pre_hook(lambda *_, of_layer=of_layer: _load(of_layer, device)))
            handles.append(layer.register_forward_hook(lambda *_, of_layer=of_layer: _unload(of_layer)))
    return handles


def _has_room(size: int, device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return size + _BESIDE < free + unused
