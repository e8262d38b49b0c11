"""Training twins of the integer layers of ``exact``: float convolutions with activations on an integer grid.

An activation is an integer 0..511 that stands for itself / 64.  The twin clamps to that range and, once
``rounding`` is on, rounds to that grid with a straight-through gradient.  ``frozen`` makes of a layer the
integers that ``exact.Layer`` runs, with the largest shift for each channel that the proof of range allows.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

STEP = 1 / 64
TOP = 511
LIMIT = 1 << 24
MAX_SHIFT = 20


class Activation(nn.Module):
    """Clamp to the range of an integer activation; round to its grid when ``rounding`` is on."""

    def __init__(self, top: int = TOP) -> None:
        """Start in float mode; ``top`` is the largest integer."""
        super().__init__()
        self.rounding, self.top = False, top

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` in 0..top/64, on the grid of 1/64 if ``rounding``."""
        x = F.hardtanh(x, 0.0, self.top * STEP)
        return snapped(x, STEP) if self.rounding else x


def snapped(x: Tensor, step: float) -> Tensor:
    """Return ``x`` rounded half up to multiples of ``step``, with the gradient of the identity."""
    return x + (torch.floor(x.detach() / step + 0.5) * step - x.detach())


def set_rounding(model: nn.Module, on: bool) -> None:
    """Switch every activation of ``model`` to the integer grid, or back."""
    for module in model.modules():
        if isinstance(module, Activation):
            module.rounding = on


def frozen(
    layer: nn.Conv2d,
    *,
    input_bound: int | np.ndarray,
    input_step: float = STEP,
    output_step: float = STEP,
    top: int = 32767,
    usual: float | np.ndarray = 0.0,
) -> dict[str, np.ndarray]:
    """Return the integers of a layer: ``weight`` (O, C, k, k), ``bias`` int32 (O,), ``shift`` uint8 (O,).

    ``input_bound`` is the largest magnitude of an input, a number or (C,); steps are the real values of one
    integer unit of input and output; ``top`` is the largest magnitude of a stored weight.  The bias makes up
    for what rounding of weights changes where inputs are ``usual``, a number or (C,) in integer units.
    """
    weight = layer.weight.detach().double().numpy() * (input_step / output_step)
    bias = np.zeros(len(weight)) if layer.bias is None else layer.bias.detach().double().numpy() / output_step
    bound = np.broadcast_to(np.asarray(input_bound, np.float64), (weight.shape[1],))
    weights, biases, shifts = [], [], []
    for kernel, offset in zip(weight, bias, strict=True):
        for shift in range(MAX_SHIFT, -1, -1):
            integers = np.round(kernel * 2.0**shift)
            lost = ((kernel * 2.0**shift - integers).sum((1, 2)) * usual).sum()
            start = np.round(offset * 2.0**shift + lost)
            half = 2.0 ** (shift - 1) if shift else 0.0
            reach = (np.abs(integers).sum((1, 2)) * bound).sum() + abs(start) + half
            if reach < LIMIT and np.abs(integers).max() <= top:
                break
        else:
            raise ValueError("a layer's weights are too large for any shift")
        weights.append(integers)
        biases.append(start)
        shifts.append(shift)
    return {
        "weight": np.array(weights, np.int8 if top <= 127 else np.int16),
        "bias": np.array(biases, np.int32),
        "shift": np.array(shifts, np.uint8),
    }


@torch.no_grad()
def thaw(
    layer: nn.Conv2d, integers: dict[str, np.ndarray], *, input_step: float = STEP, output_step: float = STEP
) -> None:
    """Set a layer's weights to those that ``frozen`` made these integers of."""
    unit = np.ldexp(output_step, -integers["shift"].astype(np.int64))
    weight = integers["weight"] * (unit / input_step)[:, None, None, None]
    layer.weight.copy_(torch.from_numpy(weight))
    if layer.bias is not None:
        layer.bias.copy_(torch.from_numpy(integers["bias"] * unit))
