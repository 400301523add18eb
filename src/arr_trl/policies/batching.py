"""Rows of different shapes in one batch: padding, the way back, and groups of equal rows."""

from collections.abc import Callable

import torch
from torch import distributed
from torch.distributed.fsdp import FSDPModule
from torch.nn.functional import pad
from transformers.integrations import is_deepspeed_zero3_enabled


# Batch-first tensors that the transformer needs beside latents and noise level. Those that shapes follow from, such as
# sizes and masks, lie on the CPU: a forward that asked the device for them would wait until it had done all before.
Conditioning = dict[str, torch.Tensor]


def concatenate(parts: list[Conditioning]) -> Conditioning:
    """
    Conditioning of several batches as one; where lengths differ the shorter are padded with zeros at their end. Masks
    travel in the same dictionary, so padding is masked.
    """
    return {name: _padded_cat([part[name] for part in parts]) for name in parts[0]}


def _padded_cat(tensors: list[torch.Tensor]) -> torch.Tensor:
    longest = [max(sizes) for sizes in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
    return torch.cat([
        # `pad` counts dimensions from the last one
        pad(tensor, [n for i in reversed(range(len(longest))) for n in (0, longest[i] - tensor.shape[i + 1])])
        for tensor in tensors
    ])  # fmt: skip


def select(tensors: dict[str, torch.Tensor], rows: torch.Tensor) -> dict[str, torch.Tensor]:
    """The `rows` (integers, best on the CPU) of tensors that lie on several devices."""
    return {name: tensor[rows.to(tensor.device, non_blocking=True)] for name, tensor in tensors.items()}


def trim(embeds: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """
    Take off the padding that no row needs, so that a row does not depend on how long the rows were that it met before.

    Args:
        embeds (`torch.Tensor`): `[B, L, C]`.
        mask (`torch.Tensor`): `[B, L]`, bool, on the CPU.

    Returns:
        `tuple(torch.Tensor, torch.Tensor)`: both up to the longest row, on the device of `embeds`; `None`
        for the mask where nothing is padded, as pipelines do it, since attention is faster without one.
    """
    longest = int(mask.sum(1).max())
    embeds, mask = embeds[:, :longest], mask[:, :longest]
    return embeds, None if mask.all() else mask.to(embeds.device, non_blocking=True)


def in_groups(
    function: Callable[[torch.Tensor, torch.Tensor, Conditioning], torch.Tensor],
    model: torch.nn.Module,
    keys: torch.Tensor,
    latents: torch.Tensor,
    sigma: torch.Tensor,
    conditioning: Conditioning,
) -> torch.Tensor:
    """
    Call `function` once for each group of rows that have equal `keys`, and put its outputs back in order.

    For transformers that take one set of position ids for the whole batch: rows whose pictures differ in shape cannot
    share a forward.

    Processes that gather sharded weights do so together, in every forward, so that all need as many of them: who has fewer
    groups than another calls `function` for its first row until it has caught up. Nothing depends on what comes of it, and
    with gradient its backward, which gathers weights as well, adds exactly 0.

    Args:
        function (`Callable`): from `latents`, `sigma` and `conditioning` of a group to one output row for each.
        model (`torch.nn.Module`): the network that `function` calls once, wrapped or not.
        keys (`torch.Tensor`): `[B, ...]`, integers, on the CPU.
        latents (`torch.Tensor`): `[B, L, C]`.
        sigma (`torch.Tensor`): `[B]`.
        conditioning (`dict[str, torch.Tensor]`): `B` rows.

    Returns:
        `torch.Tensor`: `B` rows.
    """

    def of_rows(rows: list[int]) -> torch.Tensor:
        index = torch.tensor(rows)
        inputs = select({"latents": latents, "sigma": sigma}, index)
        return function(*inputs.values(), select(conditioning, index))

    groups: dict[tuple[int, ...], list[int]] = {}
    for i, key in enumerate(keys.flatten(1).tolist()):
        groups.setdefault(tuple(key), []).append(i)
    missing = passes_of_all(model, [len(groups)], latents.device)[0] - len(groups)
    if len(groups) == 1:
        outputs = function(latents, sigma, conditioning)
    else:
        order = torch.tensor([i for rows in groups.values() for i in rows]).argsort()
        outputs = torch.cat([of_rows(rows) for rows in groups.values()])
        outputs = outputs[order.to(latents.device, non_blocking=True)]
    for _ in range(missing):
        unused = of_rows([0])
        if outputs.requires_grad:
            outputs = outputs + 0 * unused.sum()
    return outputs


def passes_of_all(model: torch.nn.Module, passes: list[int], device: torch.device) -> list[int]:
    """
    How many passes of a network each process makes, at each of several moments, where this one needs `passes`: as many as the
    one that needs most, where they gather sharded weights together (FSDP2, ZeRO-3); otherwise what it needs.
    """
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return passes
    if not (is_deepspeed_zero3_enabled() or any(isinstance(module, FSDPModule) for module in model.modules())):
        return passes
    most = torch.tensor(passes, device=device)
    distributed.all_reduce(most, distributed.ReduceOp.MAX)
    return most.tolist()
