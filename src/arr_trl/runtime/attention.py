"""Which of the attention kernels that diffusers knows a transformer computes with."""

import torch
from diffusers import attention_backend


def check_attention(backend: str) -> None:
    """
    Refuse kernels that are not there, and those without a backward.

    Args:
        backend (`str`): name in diffusers' dispatcher.

    Raises:
        `ValueError`: with a sentence that says what to change.
    """
    if "sage" in backend:
        raise ValueError(
            f"attn_backend={backend!r} has no backward: nothing before an attention would be trained. Take one of the "
            "flash kernels, or leave it out."
        )
    try:
        with attention_backend(backend):
            pass
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"attn_backend={backend!r} cannot be used here: {error} Or leave it out.") from error


def set_attention(transformer: torch.nn.Module, backend: str) -> None:
    """
    Let a transformer of diffusers compute with some kernels, and no other network: `set_attention_backend` changes the
    dispatcher's own setting too, which is every network's of this process, and it is as before afterwards.

    Args:
        transformer (`torch.nn.Module`): the transformer.
        backend (`str`): name in diffusers' dispatcher.

    Raises:
        `ValueError`: when it computes attention without the dispatcher.
    """
    processors = [getattr(module, "processor", None) for module in transformer.modules()]
    if not any(hasattr(processor, "_attention_backend") for processor in processors):
        raise ValueError(
            f"attn_backend={backend!r} is nothing that {type(transformer).__name__} takes: it calls PyTorch's attention "
            "itself. Leave it out."
        )
    with attention_backend(backend):
        transformer.set_attention_backend(backend)


def takes_lengths(backend: str | None) -> bool:
    """Whether kernels get rows of different lengths as they are, without the padding that a mask says."""
    return backend is not None and "varlen" in backend
