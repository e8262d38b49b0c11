"""The trunk in 8 bits: a third of the time of float32, where processors sum products of bytes (VNNI).

Kernels are int8, each output channel with its own unit, as weight files keep them.  What a ReLU made is uint8
from 0, what a block sees or adds to is uint8 about 128; the largest values told apart, their tops, are
measured when the weights are made.  Free side: the embeddings of this and of the float trunk have a cosine of
0.996; identity codes are much farther from either.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from facecodec.geometry import FRAME
from facecodec.networks.embedding import Bottleneck, Trunk

MIDDLE = 128
KERNEL_TOP = 127
MAP_TOP = 255
SHARE = 0.99999
"""The share of a map's values up to its top."""
REACH = 1.2
"""How far beyond its top the values of a ReLU are told apart: those clipped harm more than coarse ones."""


@dataclass(frozen=True)
class Scale:
    """What the bytes of a map stand for: ``unit * (byte - zero) + shift``."""

    unit: float
    zero: int = 0
    shift: float = 0.0


PIXELS = Scale(1 / 127.5, MIDDLE, (MIDDLE - 127.5) / 127.5)


def rectified(top: float) -> Scale:
    """Return the scale of what a ReLU makes."""
    return Scale(REACH * top / MAP_TOP)


def supported() -> bool:
    """Tell whether PyTorch has oneDNN here and the processor sums products of bytes without overflow."""
    there: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return there and bool(torch.cpu._is_vnni_supported())


class Convolution:
    """A convolution of square uint8 maps of one scale."""

    def __init__(self, layer: nn.Conv2d, side: int, given: Scale) -> None:
        """Take a float layer, the side of the maps that it will see, and their scale."""
        assert layer.bias is not None and isinstance(layer.padding[0], int)
        units = (layer.weight.abs().amax((1, 2, 3)) / KERNEL_TOP).clamp_min(1e-9)
        zeros = torch.zeros(len(units), dtype=torch.int32)
        place = (list(layer.stride), [layer.padding[0]] * 2, [1, 1], layer.groups)
        kernel = torch.round(layer.weight / units[:, None, None, None]).to(torch.int8)
        # Without a shape, oneDNN may pack kernels in an order that each call has to undo.
        shape = [1, layer.in_channels, side, side]
        packed = torch.ops.onednn.qconv_prepack(kernel, units, given.unit, given.zero, *place, shape)
        self.before = (given.unit, given.zero, packed, units, zeros)
        self.after = (layer.bias + given.shift * layer.weight.sum((1, 2, 3)), *place)

    def rectified(self, x: Tensor, made: Scale) -> Tensor:
        """Return the map (N, O, h, w) of a map (N, C, H, W) after a ReLU, uint8 of this scale."""
        return self._made(x, made.unit, made.zero, torch.uint8, "relu")

    def linear(self, x: Tensor, made: Scale) -> Tensor:
        """Return the map of a map, uint8 of this scale."""
        return self._made(x, made.unit, made.zero, torch.uint8, "none")

    def floats(self, x: Tensor) -> Tensor:
        """Return the float map of a map."""
        return self._made(x, 1.0, 0, torch.float32, "none")

    def onto(self, shortcut: Tensor, given: Scale, x: Tensor, made: Scale) -> Tensor:
        """Return the map of a map with another one, of the scale ``given``, added; spends ``shortcut``."""
        sums: Tensor = torch.ops.onednn.qconv2d_pointwise.binary(
            *(x, *self.before, shortcut, *self.after, made.unit, made.zero, torch.uint8),
            *(given.unit, given.zero, "sum", 1.0, "none", [], ""),
        )
        return sums

    def _made(self, x: Tensor, unit: float, zero: int, kind: torch.dtype, attribute: str) -> Tensor:
        made: Tensor = torch.ops.onednn.qconv2d_pointwise(
            x, *self.before, *self.after, unit, zero, kind, attribute, [], ""
        )
        return made


class Block:
    """Convolutions with a ReLU each, and a last one without, around a shortcut where the block has one."""

    def __init__(self, block: nn.Module, side: int, given: Scale, tops: list[float]) -> None:
        """Take a block of the trunk, side and scale of its maps, and the tops of what each layer makes."""
        self.given = given
        self.shortcut = isinstance(block, Bottleneck) and block.shortcut
        self.inner: list[tuple[Convolution, Scale]] = []
        *inner, last = convolutions(block)
        for layer, top in zip(inner, tops[:-1], strict=True):
            self.inner.append((Convolution(layer, side, given), rectified(top)))
            side, given = -(-side // layer.stride[0]), rectified(top)
        self.last = Convolution(last, side, given)
        self.side, self.made = side, Scale(tops[-1] / (MAP_TOP - MIDDLE), MIDDLE)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the map that the block makes of a map, which may be spent."""
        y = x
        for convolution, made in self.inner:
            y = convolution.rectified(y, made)
        if self.shortcut:
            return self.last.onto(x, self.given, y, self.made)
        return self.last.linear(y, self.made)


class EightBits:
    """A trunk whose convolutions run in 8 bits; what is linear in the features stays in float."""

    def __init__(self, trunk: Trunk, tops: Tensor) -> None:
        """Take a trunk and the ``tops`` of its maps."""
        *blocks, head = trunk.blocks
        *parts, last = torch.split(tops, [*(len(convolutions(block)) for block in blocks), 1])
        side, scale = FRAME, PIXELS
        self.blocks: list[Block] = []
        for block, part in zip(blocks, parts, strict=True):
            self.blocks.append(Block(block, side, scale, part.tolist()))
            side, scale = self.blocks[-1].side, self.blocks[-1].made
        first, second = convolutions(head)
        self.expanded = rectified(last.item())
        self.expand = Convolution(first, side, scale)
        self.project = Convolution(second, side, self.expanded)
        self.activation = head[-1]  # type: ignore[index]
        self.embed = trunk.embed

    def __call__(self, faces: Tensor) -> Tensor:
        """Return embeddings (N, 256) of faces uint8 (N, 3, 112, 112), channels last."""
        x = faces
        for block in self.blocks:
            x = block(x)
        features = self.activation(self.project.floats(self.expand.rectified(x, self.expanded)))
        embedding: Tensor = self.embed(features.flatten(1))
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
