"""Training twins of the integer layers of ``exact``: float convolutions with activations on an integer grid.

An activation is an integer 0..511 that stands for itself / 64.  The twin clamps to that range and, once
``rounding`` is on, rounds to that grid with a straight-through gradient.  ``frozen`` makes of a layer the
integers that ``exact.Layer`` runs, with the largest shift for each channel that the proof of range allows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

STEP = 1 / 64
TOP = 511
LIMIT = 1 << 24
MAX_SHIFT = 20
DAMPING = 0.01
"""By this share of the mean variance are those of inputs widened, so that no weight strays far."""


class Activation(nn.Module):
    """Clamp to the range of an integer activation; round to its grid when ``rounding`` is on."""

    def __init__(self, top: int = TOP) -> None:
        """Start in float mode; ``top`` is the largest integer."""
        super().__init__()
        self.rounding, self.top = False, top

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` in 0..top/64, on the grid of 1/64 if ``rounding``."""
        if not self.rounding:
            return F.hardtanh(x, 0.0, self.top * STEP)
        result: Tensor = _Stepped.apply(x, self.top * STEP)  # type: ignore[no-untyped-call]
        return result


class _Stepped(torch.autograd.Function):
    """Clamp and round, with the gradient of clamping alone.

    Halves go up, as in the integer layers; but in bfloat16 a half is often what is left of a little less, and
    goes to the even side.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, top: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.top = top
        steps = x.clamp(0.0, top).mul_(1 / STEP)
        whole = steps.round_() if x.dtype == torch.bfloat16 else steps.add_(0.5).floor_()
        return whole.mul_(STEP)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(gradient, x, 0.0, ctx.top), None


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
    spread: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Return the integers of a layer: ``weight`` (O, C, k, k), ``bias`` int32 (O,), ``shift`` uint8 (O,).

    ``input_bound`` is the largest magnitude of an input, a number or (C,); steps are the real values of one
    integer unit of input and output; ``top`` is the largest magnitude of a stored weight.  The bias makes up
    for what rounding of weights changes where inputs are ``usual``, a number or (C,) in integer units.  With
    ``spread``, the covariance (C*k*k, C*k*k) of the inputs that each weight meets, later weights make up for
    what the rounding of earlier ones changes (GPTQ, Frantar et al. 2023).
    """
    weight = layer.weight.detach().double().numpy() * (input_step / output_step)
    bias = np.zeros(len(weight)) if layer.bias is None else layer.bias.detach().double().numpy() / output_step
    bound = np.broadcast_to(np.asarray(input_bound, np.float64), (weight.shape[1],))
    weights, biases, shifts = [], [], []
    factor = None if spread is None else _factor(spread)
    for kernel, offset in zip(weight, bias, strict=True):
        for shift in range(MAX_SHIFT, -1, -1):
            integers = np.round(kernel * 2.0**shift)
            if factor is not None and np.abs(integers).max() <= top:
                integers = _rounded(kernel.ravel() * 2.0**shift, factor).reshape(kernel.shape)
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


def _factor(spread: np.ndarray) -> np.ndarray:
    """Return the upper factor of Cholesky of the inverse of a covariance, slightly widened."""
    widened = spread + (DAMPING * np.diag(spread).mean() + 1e-9) * np.eye(len(spread))
    factor: np.ndarray = np.linalg.cholesky(np.linalg.inv(widened)).T
    return factor


def _rounded(values: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Return values rounded one after the other, each given what the ones before it changed."""
    left, whole = values.copy(), np.empty_like(values)
    for at, row in enumerate(factor):
        whole[at] = np.round(left[at])
        left[at + 1 :] -= (left[at] - whole[at]) / row[at] * row[at + 1 :]
    return whole


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
