"""`torch.compile` of the blocks that a transformer repeats."""

import torch


# A block is compiled for sampling, the reference and training, for each memory layout that diffusers gives it, for the
# first shape and for changing ones, and again for the pictures of an evaluation: 15 of FLUX.1's two kinds of block before
# the first evaluation, counted. At 8 of a kind torch would run all that is new uncompiled, with one line in the log.
RECOMPILE_LIMIT = 64


def compile_blocks(transformer: torch.nn.Module) -> None:
    """
    Compile the blocks that a transformer of diffusers repeats, each kind once for all of them.

    Args:
        transformer (`torch.nn.Module`): the transformer, with its adapter.
    """
    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, RECOMPILE_LIMIT)
    transformer.compile_repeated_blocks()
