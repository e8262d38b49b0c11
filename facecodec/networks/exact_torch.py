"""The torch twin of `exact.conv2d`: the same integers, faster for big batches.

It needs plain float32 arithmetic and refuses to run where torch has been told to use less.
"""

from __future__ import annotations

import numpy as np
import torch

from ..exact import Layer, Map


def conv2d(x: Map, layer: Layer) -> Map:
    """Convolve as `exact.conv2d` does, bit for bit, with torch on the CPU.

    Autocast does not reach it. Raises RuntimeError if torch is set to compute float32 convolutions or matrix
    products in TF32 or bfloat16, because the exactness proof of a layer does not cover those.
    """
    convolution = getattr(torch.backends.mkldnn, "conv", None)  # torch 2.9 and later
    if torch.get_float32_matmul_precision() != "highest" or getattr(
        convolution, "fp32_precision", "none"
    ) not in ("none", "ieee"):
        raise RuntimeError("integer layers need torch's float32 precision to be 'highest' / 'ieee'")
    weight = torch.from_numpy(layer.weight)
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        sums = torch.nn.functional.conv2d(
            torch.tensor(x), weight, stride=layer.stride, padding=weight.shape[-1] // 2
        )
        sums.add_(torch.from_numpy(layer.bias)[:, :, None]).floor_().clamp_(layer.lo, layer.hi)
    result: Map = np.ascontiguousarray(sums.numpy())
    return result
