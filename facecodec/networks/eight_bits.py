"""The trunk in 8 bits: less than half the time of float32, where processors sum products of bytes (VNNI).

Kernels are int8, each output channel with its own unit, as weight files keep them.  What a ReLU made is uint8
from 0, what a block sees is uint8 about 128; the largest values told apart, their tops, are measured when the
weights are made.  The sums along the shortcuts stay in float.  Free side: the embeddings of this and of the
float trunk have a cosine of 0.996; identity codes are much farther from either.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from facecodec.networks.embedding import Bottleneck, Trunk

PIXEL_UNIT = 1 / 127.5
MIDDLE = 128
PIXEL_SHIFT = (MIDDLE - 127.5) * PIXEL_UNIT
KERNEL_TOP = 127
MAP_TOP = 255
SHARE = 0.99999
"""The share of a map's values up to its top; the few beyond are clipped to it."""


def supported() -> bool:
    """Tell whether PyTorch has oneDNN here and the processor sums products of bytes without overflow."""
    there: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return there and bool(torch.cpu._is_vnni_supported())


class Convolution:
    """A convolution of uint8 maps, whose values are ``unit * (x - zero) + shift``."""

    def __init__(self, layer: nn.Conv2d, unit: float, *, zero: int = 0, shift: float = 0.0) -> None:
        """Take a float layer."""
        assert layer.bias is not None and isinstance(layer.padding[0], int)
        units = (layer.weight.abs().amax((1, 2, 3)) / KERNEL_TOP).clamp_min(1e-9)
        zeros = torch.zeros(len(units), dtype=torch.int32)
        place = (list(layer.stride), [layer.padding[0]] * 2, [1, 1], layer.groups)
        kernel = torch.round(layer.weight / units[:, None, None, None]).to(torch.int8)
        packed = torch.ops.onednn.qconv_prepack(kernel, units, unit, zero, *place, None)
        self.before = (unit, zero, packed, units, zeros)
        self.after = (layer.bias + shift * layer.weight.sum((1, 2, 3)), *place)

    def rectified(self, x: Tensor, unit: float) -> Tensor:
        """Return the map (N, O, h, w) of a map (N, C, H, W) after a ReLU, uint8 in this unit."""
        made: Tensor = torch.ops.onednn.qconv2d_pointwise(
            x, *self.before, *self.after, unit, 0, torch.uint8, "relu", [], ""
        )
        return made

    def linear(self, x: Tensor) -> Tensor:
        """Return the float map of a map."""
        made: Tensor = torch.ops.onednn.qconv2d_pointwise(
            x, *self.before, *self.after, 1.0, 0, torch.float32, "none", [], ""
        )
        return made

    def onto(self, shortcut: Tensor, x: Tensor) -> Tensor:
        """Return the float map of a map with another float one added; spends ``shortcut``."""
        made: Tensor = torch.ops.onednn.qconv2d_pointwise.binary(
            *(x, *self.before, shortcut, *self.after, 1.0, 0, torch.float32),
            *(1.0, 0, "sum", 1.0, "none", [], ""),
        )
        return made


class Block:
    """Convolutions with a ReLU each, and a last one without, around a shortcut where the block has one."""

    def __init__(self, block: nn.Module, unit: float, tops: Iterator[float], shift: float = 0.0) -> None:
        """Take a block of the trunk, the unit of its input, and the tops of what its ReLUs make."""
        self.given = unit
        self.shortcut = isinstance(block, Bottleneck) and block.shortcut
        self.inner: list[tuple[Convolution, float]] = []
        *inner, last = convolutions(block)
        zero = MIDDLE
        for layer in inner:
            convolution = Convolution(layer, unit, zero=zero, shift=shift)
            unit, zero, shift = next(tops) / MAP_TOP, 0, 0.0
            self.inner.append((convolution, unit))
        self.last = Convolution(last, unit)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the float map of a float one, which may be spent."""
        y = (x / self.given).add_(MIDDLE + 0.5).clamp_(0, MAP_TOP).to(torch.uint8)
        return self.last.onto(x, self.seen(y)) if self.shortcut else self.last.linear(self.seen(y))

    def seen(self, y: Tensor) -> Tensor:
        """Return what the last convolution sees where the first one sees ``y``."""
        for convolution, unit in self.inner:
            y = convolution.rectified(y, unit)
        return y


class EightBits:
    """A trunk whose convolutions run in 8 bits; what is linear in the features stays in float."""

    def __init__(self, trunk: Trunk, tops: Tensor) -> None:
        """Take a trunk and the ``tops`` of its maps."""
        remaining = iter(tops.tolist())
        stem, *others = trunk.blocks
        self.stem = Block(stem, PIXEL_UNIT, remaining, PIXEL_SHIFT)
        self.others = [Block(block, next(remaining) / (MAP_TOP - MIDDLE), remaining) for block in others]
        self.activation = others[-1][-1]  # type: ignore[index]
        self.embed = trunk.embed

    def __call__(self, faces: Tensor) -> Tensor:
        """Return embeddings (N, 256) of faces uint8 (N, 3, 112, 112), channels last."""
        x = self.stem.last.linear(self.stem.seen(faces))
        for block in self.others:
            x = block(x)
        embedding: Tensor = self.embed(self.activation(x).flatten(1))
        return embedding


@torch.no_grad()
def tops(trunk: Trunk, faces: Tensor) -> Tensor:
    """Return the tops (48,) of a trunk's maps, in the order in which they are seen, as these faces show them.

    ``faces`` is float (N, 3, 112, 112), 0..255.
    """
    found: list[Tensor] = []

    def look(values: Tensor) -> None:
        found.append(values.flatten().kthvalue(round(SHARE * values.numel())).values)

    looked = [
        layer.register_forward_hook(lambda _layer, _given, made: look(made.relu()))
        for block in trunk.blocks
        for layer in convolutions(block)[:-1]
    ] + [
        block.register_forward_pre_hook(lambda _block, given: look(given[0].abs()))
        for block in list(trunk.blocks)[1:]
    ]
    trunk(faces)
    for handle in looked:
        handle.remove()
    return torch.stack(found)


def convolutions(block: nn.Module) -> list[nn.Conv2d]:
    """Return the convolutions of a block, in order; a ReLU follows each but the last."""
    return [layer for layer in block.modules() if isinstance(layer, nn.Conv2d)]
