"""The trunk in 8 bits: half the time of bfloat16, on processors with instructions for sums of bytes (VNNI).

Kernels are int8, each output channel with its own unit, as weight files keep them.  Maps are uint8, 255 for
the largest value that is told apart: their tops are measured when the weights are made.  Free side: the
embeddings of this and of the float trunk have a cosine of 0.998; identity codes are much farther from either.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from facecodec.networks.embedding import Residual, Trunk

PIXEL_UNIT, PIXEL_ZERO = 1 / 127.5, 128
PIXEL_SHIFT = (PIXEL_ZERO - 127.5) * PIXEL_UNIT
KERNEL_TOP = 127
MAP_TOP = 255
SHARE = 0.9999
"""The share of a map's values up to its top; the few beyond are clipped to it."""


def supported() -> bool:
    """Tell whether PyTorch has oneDNN here and the processor sums products of bytes without overflow."""
    there: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return there and bool(torch.cpu._is_vnni_supported())


class Convolution:
    """A convolution and ReLU from uint8 maps to uint8 maps."""

    def __init__(
        self, layer: nn.Conv2d, unit: float, top: float, *, zero: int = 0, shift: float = 0.0
    ) -> None:
        """Take a float layer of inputs ``unit * (x - zero) + shift`` for x, and of outputs up to ``top``."""
        assert layer.bias is not None and isinstance(layer.padding[0], int)
        units = (layer.weight.abs().amax((1, 2, 3)) / KERNEL_TOP).clamp_min(1e-9)
        zeros = torch.zeros(len(units), dtype=torch.int32)
        place = (list(layer.stride), [layer.padding[0]] * 2, [1, 1], 1)
        kernel = torch.round(layer.weight / units[:, None, None, None]).to(torch.int8)
        packed = torch.ops.onednn.qconv_prepack(kernel, units, unit, zero, *place, None)
        self.before = (unit, zero, packed, units, zeros)
        self.after = (layer.bias + shift * layer.weight.sum((1, 2, 3)), *place)
        self.unit = top / MAP_TOP

    def __call__(self, x: Tensor) -> Tensor:
        """Return the map (N, O, h, w) of a map (N, C, H, W), both uint8."""
        made: Tensor = torch.ops.onednn.qconv2d_pointwise(
            x, *self.before, *self.after, self.unit, 0, torch.uint8, "relu", [], ""
        )
        return made

    def onto(self, shortcut: Tensor, unit: float, x: Tensor) -> Tensor:
        """Return the map of ``x`` with a map in this unit added before the ReLU; spends ``shortcut``."""
        made: Tensor = torch.ops.onednn.qconv2d_pointwise.binary(
            *(x, *self.before, shortcut, *self.after, self.unit, 0, torch.uint8),
            *(unit, 0, "sum", 1.0, "relu", [], ""),
        )
        return made


class EightBits:
    """A trunk whose stages run in 8 bits; gathering and embedding stay in float."""

    def __init__(self, trunk: Trunk, tops: Tensor) -> None:
        """Take a trunk without batch normalisations, and the ``tops`` of its maps."""
        self.trunk = trunk
        self.layers: list[tuple[Convolution, Convolution | None]] = []
        unit, zero, shift = PIXEL_UNIT, PIXEL_ZERO, PIXEL_SHIFT
        remaining = iter(tops.tolist())
        for module in _modules(trunk):
            if isinstance(module, nn.Conv2d):
                last = Convolution(module, unit, next(remaining), zero=zero, shift=shift)
                self.layers.append((last, None))
            elif isinstance(module, Residual):
                first = Convolution(module.first, unit, next(remaining))  # type: ignore[arg-type]
                last = Convolution(module.second, first.unit, next(remaining))  # type: ignore[arg-type]
                self.layers.append((first, last))
            unit, zero, shift = last.unit, 0, 0.0

    def __call__(self, faces: Tensor) -> Tensor:
        """Return embeddings (N, 256) of faces uint8 (N, 3, 112, 112), channels last."""
        x, unit = faces, PIXEL_UNIT
        for first, second in self.layers:
            x = first(x) if second is None else second.onto(x, unit, first(x))
            unit = (second or first).unit
        features: Tensor = self.trunk.gather(x * unit).flatten(1)
        embedding: Tensor = self.trunk.embed(features)
        return embedding


@torch.no_grad()
def tops(trunk: Trunk, faces: Tensor) -> Tensor:
    """Return the tops (20,) of a trunk's maps, in the order in which they are made, as these faces show them.

    ``faces`` is float (N, 3, 112, 112), 0..255.
    """
    found: list[Tensor] = []

    def look(_module: nn.Module, _given: object, made: Tensor) -> None:
        found.append(made.flatten().kthvalue(round(SHARE * made.numel())).values)

    looked = [
        part.register_forward_hook(look)
        for module in _modules(trunk)
        if isinstance(module, (nn.ReLU, Residual))
        for part in ([module.first, module] if isinstance(module, Residual) else [module])
    ]
    trunk(faces)
    for handle in looked:
        handle.remove()
    return torch.stack(found)


def _modules(trunk: Trunk) -> Iterator[nn.Module]:
    """Yield the parts of a trunk's stages, in order."""
    for stage in trunk.stages:
        yield from stage.children()
