"""Where the parts of a pipeline are kept."""

import torch
from diffusers import DiffusionPipeline
from diffusers.hooks import apply_group_offloading


def move_pipeline(
    pipeline: DiffusionPipeline, device: torch.device, offload_encoders: bool = False, move_transformer: bool = True
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
    """
    for name, module in pipeline.components.items():
        if not isinstance(module, torch.nn.Module) or (name == pipeline.transformer_name and not move_transformer):
            continue
        if offload_encoders and name != pipeline.transformer_name:
            apply_group_offloading(module, device, offload_type="leaf_level")
        else:
            module.to(device)
