"""Where the parts of a pipeline are kept."""

import torch
from diffusers import DiffusionPipeline
from diffusers.hooks import apply_group_offloading


TRANSFORMER = "transformer"  # what pipelines call the network that is trained


def move_pipeline(
    pipeline: DiffusionPipeline,
    device: torch.device,
    offload_encoders: bool = False,
    move_transformer: bool = True,
    keep_autoencoder: bool = False,
) -> None:
    """
    Move the networks of a pipeline to a device.

    Args:
        pipeline ([`~diffusers.DiffusionPipeline`]): the pipeline.
        device (`torch.device`): where they compute.
        offload_encoders (`bool`, *optional*, defaults to `False`):
            Leave encoders and autoencoder in CPU memory; diffusers brings each layer to `device` for its forward.
        move_transformer (`bool`, *optional*, defaults to `True`):
            Without it the transformer stays where it is, for what shards it to place: whole it may not fit.
        keep_autoencoder (`bool`, *optional*, defaults to `False`):
            Leave the autoencoder out of `offload_encoders`: its layers would be gone in a backward pass through it.
    """
    for name, module in pipeline.components.items():
        if not isinstance(module, torch.nn.Module) or (name == TRANSFORMER and not move_transformer):
            continue
        stays = name == TRANSFORMER or (keep_autoencoder and name == "vae")
        if offload_encoders and not stays:
            apply_group_offloading(module, device, offload_type="leaf_level")
        else:
            module.to(device)
