"""How a base that is larger than the device is kept: frozen weights in fewer bits."""

import torch


def compress_base(transformer: torch.nn.Module, precision: str | None, compute_dtype: torch.dtype) -> None:
    """
    Keep the frozen weights of a transformer in 8 bits. To be called before the adapter is added, which stays as it is.

    With `"fp8"` a layer's weights are widened to `compute_dtype` for its forward. The backward needs them once more and
    keeps them until then, so the memory is saved only with gradient checkpointing, block by block.

    Args:
        transformer (`torch.nn.Module`): the transformer.
        precision (`str`, *optional*): `"fp8"` (layerwise casting of diffusers), `"int8"` (torchao) or `None`.
        compute_dtype (`torch.dtype`): what the forward computes in.
    """
    if precision == "fp8":
        transformer.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=compute_dtype)
    elif precision == "int8":
        from torchao.quantization import Int8WeightOnlyConfig, quantize_

        quantize_(transformer, Int8WeightOnlyConfig())
