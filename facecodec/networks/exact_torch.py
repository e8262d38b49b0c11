"""The torch twin of `exact.conv2d`: the same integers, faster.

It needs plain float32 arithmetic and refuses to run where torch has been told to use less. Maps and kernels
of eight bits go through oneDNN's sums of products of bytes where the processor has them; they are exact, too.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch

from ..exact import BYTE_TOP, Layer, Map, add_clip
from .eight_bits import KERNEL_TOP, supported

NARROW = 2
"""Columns of maps whose strided sums oneDNN gets wrong with AMX (torch 2.13), differently each time."""
MAX_SHIFT = 13
"""Beyond it a quarter of the last bit would not count in the sums of maps that stay within eight bits."""


def conv2d(x: Map, layer: Layer, onto: Map | None = None) -> Map:
    """Convolve as `exact.conv2d` does, bit for bit, with torch on the CPU.

    Autocast does not reach it. Raises RuntimeError if torch is set to compute float32 convolutions or matrix
    products in TF32 or bfloat16, because the exactness proof of a layer does not cover those.
    """
    if x.dtype == np.uint8 and (kernel := _eight_bits(layer, x.shape[2:])):
        if onto is None:
            return kernel(x)
        if onto.dtype == np.uint8 and layer.lo <= -BYTE_TOP and layer.hi >= BYTE_TOP:
            return kernel.onto(onto, x)
        return add_clip(onto, kernel(x).astype(np.float32), 0, BYTE_TOP)
    convolution = getattr(torch.backends.mkldnn, "conv", None)  # torch 2.9 and later
    if torch.get_float32_matmul_precision() != "highest" or getattr(
        convolution, "fp32_precision", "none"
    ) not in ("none", "ieee"):
        raise RuntimeError("integer layers need torch's float32 precision to be 'highest' / 'ieee'")
    weight = _floats(layer)
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        sums = torch.nn.functional.conv2d(
            torch.tensor(x, dtype=torch.float32), weight, stride=layer.stride, padding=weight.shape[-1] // 2
        )
        sums.add_(torch.from_numpy(layer.bias)[:, :, None]).floor_().clamp_(layer.lo, layer.hi)
    result: Map = np.ascontiguousarray(sums.numpy())
    return result if onto is None else add_clip(onto, result, 0, BYTE_TOP)


@lru_cache(32)
def _floats(layer: Layer) -> torch.Tensor:
    """Return the weights of a layer (O, C, k, k) in their own order in memory."""
    return torch.from_numpy(layer.weight).contiguous()


@lru_cache(256)
def _eight_bits(layer: Layer, size: tuple[int, int]) -> _EightBits | None:
    """Return a layer as oneDNN runs it on maps of this size, None if it cannot."""
    weight = layer.weight * np.ldexp(np.float32(1), layer.shift)[:, None, None, None]
    if not supported() or np.abs(weight).max() > KERNEL_TOP or layer.shift.max() > MAX_SHIFT:
        return None
    if layer.stride == 2 and size[1] <= NARROW:
        return None
    return _EightBits(layer, torch.from_numpy(weight).to(torch.int8), size)


class _EightBits:
    """A layer on uint8 maps; the result is uint8 where it is 0..255, else float32."""

    def __init__(self, layer: Layer, weight: torch.Tensor, size: tuple[int, int]) -> None:
        outputs, inputs, kernel, _ = weight.shape
        self.place = ([layer.stride] * 2, [kernel // 2] * 2, [1, 1], 1)
        zeros, one = torch.zeros(outputs, dtype=torch.int32), torch.ones(outputs)
        packed = torch.ops.onednn.qconv_prepack(weight, one, 1.0, 0, *self.place, [1, inputs, *size])
        unit = np.ldexp(np.float32(1), -layer.shift)
        self.before = (1.0, 0, packed, torch.from_numpy(unit), zeros)
        self.bytes = (layer.lo, layer.hi) == (0, BYTE_TOP)
        # oneDNN rounds halves to even: a quarter of the last bit rounds them up, and moves nothing else.
        half = np.where(layer.shift > 0, np.float32(0.5), np.float32(0)) - unit / 4
        self.bias = torch.from_numpy(layer.bias[:, 0])
        self.bias_of_bytes = torch.from_numpy(layer.bias[:, 0] - half)
        self.range = (layer.lo, layer.hi)

    def __call__(self, x: Map) -> Map:
        kind: tuple[Any, ...] = (torch.uint8, "relu") if self.bytes else (torch.float32, "none")
        bias = self.bias_of_bytes if self.bytes else self.bias
        with torch.inference_mode():
            found = torch.ops.onednn.qconv2d_pointwise(
                torch.from_numpy(x), *self.before, bias, *self.place, 1.0, 0, *kind, [], ""
            )
            if not self.bytes:
                found.floor_().clamp_(*self.range)
        result: Map = found.numpy()
        return result

    def onto(self, shortcut: Map, x: Map) -> Map:
        """Return the sum of a map and of what the layer, whose range is -255..255 at least, makes of one."""
        sums = torch.from_numpy(shortcut).clone(memory_format=torch.channels_last)
        with torch.inference_mode():
            torch.ops.onednn.qconv2d_pointwise.binary(
                *(torch.from_numpy(x), *self.before, sums, self.bias_of_bytes, *self.place),
                *(1.0, 0, torch.uint8, 1.0, 0, "sum", 1.0, "relu", [], ""),
            )
        result: Map = sums.numpy()
        return result
