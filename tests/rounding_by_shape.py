"""
A pytest plugin, `pytest -p rounding_by_shape`: what layers give differs in its last bits by the shape of what they get, as
it does where a library has another kernel for another batch (Intel's with AVX-512, say). A test that fails with it asks for
the same bits of different shapes, and holds on some machines alone.
"""

import zlib
from contextlib import suppress

import torch
import torch.nn.functional as F


with suppress(ImportError):  # which finds the layers of its tensors by what they are called with as it is imported
    import torchao.quantization  # noqa: F401


def _rounded(layer):
    def rounded(input, *args, **kwargs):
        output = layer(input, *args, **kwargs)
        if output.dtype not in (torch.float32, torch.float64):  # which round more than kernels differ
            return output
        last_bits = zlib.crc32(repr(tuple(input.shape)).encode()) % 5 - 2
        return output * (1 + last_bits * torch.finfo(output.dtype).eps)

    return rounded


for _name in ("linear", "conv2d", "conv3d"):
    setattr(F, _name, _rounded(getattr(F, _name)))
