"""Integer layers, carried by float32: the arithmetic of every network that decoding runs.

A float32 holds every integer up to 2^24. A layer whose sums provably stay below that is exact whatever the
order of its additions, so an ordinary float32 matrix product is the integer convolution, on any machine,
with any number of threads. Each `Layer` proves this bound when it is made.

Maps are arrays (N, C, H, W) of float32 that hold integers, or of uint8. Frozen: bitstream_spec.md,
"Integer layers".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from .errors import WeightsError

LIMIT = 1 << 24
"""Integers below this in magnitude are exact in float32."""

MAX_SHIFT = 24

ACTIVATION_TOP = 511
"""The largest activation of the generator of previews between its layers."""

BYTE_TOP = 255
"""The largest activation of the texture networks: what eight bits hold."""

_COLUMNS = 1 << 18
"""Floats gathered for one matrix product; 2^16 to 2^20 are equally fast (measured), and memory is bounded."""

Map: TypeAlias = npt.NDArray[Any]
Sample = TypeVar("Sample", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Layer:
    """One integer convolution with its rounding and clipping, proved exact and arranged for matrix products.

    `bands` is float32 (k, O, k*C): for each kernel row, a matrix over (kernel column, input channel).
    `bias` is float32 (O, 1) and includes the rounding half. Both are divided by 2^shift, which is exact.
    `shift` is int32 (O,).
    """

    bands: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    shift: npt.NDArray[np.int32]
    stride: int
    lo: int
    hi: int

    @classmethod
    def from_integers(
        cls,
        weight: npt.NDArray[Any],
        bias: npt.NDArray[Any],
        shift: npt.NDArray[Any],
        *,
        input_bound: int | npt.NDArray[Any],
        lo: int,
        hi: int,
        stride: int = 1,
        name: str = "layer",
        room: Map | None = None,
    ) -> Layer:
        """Make a layer from its stored integers, or refuse them.

        `weight` is (O, C, k, k) with k odd, `bias` (O,), `shift` (O,) in 0..24, all of integer dtype.
        `input_bound` is the largest magnitude an input can have, one for all channels or (C,). Outputs are
        clipped to `lo`..`hi`. The bands are put into `room`, float32 (O*C*k*k,), if it is given. Raises
        WeightsError with `name`, and the channel where there is one, if a shape or range is wrong or if
        sum |w| * bound + |bias| + 2^(shift-1) reaches 2^24. Spec: "Integer layers".
        """
        if any(np.asarray(array).dtype.kind not in "iu" for array in (weight, bias, shift, input_bound)):
            raise WeightsError(f"{name}: weights, biases, shifts and bounds must be integers")
        if (
            weight.ndim != 4
            or weight.shape[2] != weight.shape[3]
            or weight.shape[2] % 2 == 0
            or weight.size == 0
        ):
            raise WeightsError(f"{name}: weights of shape {weight.shape}, not (O, C, k, k) with k odd")
        outputs, inputs, kernel, _ = weight.shape
        if (
            bias.shape != (outputs,)
            or shift.shape != (outputs,)
            or np.shape(input_bound) not in ((), (inputs,))
        ):
            raise WeightsError(
                f"{name}: biases, shifts or bounds do not match weights of shape {weight.shape}"
            )
        if stride not in (1, 2) or not -LIMIT < lo <= hi < LIMIT:
            raise WeightsError(f"{name}: stride {stride} or range {lo}..{hi} is not allowed")
        for channel in np.flatnonzero((shift < 0) | (shift > MAX_SHIFT))[:1]:
            raise WeightsError(f"{name}: channel {channel}: shift {shift[channel]} is not in 0..{MAX_SHIFT}")

        bound = np.broadcast_to(np.asarray(input_bound, np.float64), (inputs,))
        if bound.min() < 0:
            raise WeightsError(f"{name}: an input bound is negative")

        # The magnitude of an integer fits the unsigned type of its width, even that of the least one. Sums of
        # non-negative integers are exact in float64 far beyond the limit, and cannot come back below it.
        magnitude = np.abs(weight).view(f"u{weight.itemsize}")
        exponent = shift.astype(np.int32)
        half = np.where(exponent > 0, np.ldexp(1.0, exponent - 1), 0.0)
        reach = np.einsum("ocyx,c->o", magnitude, bound) + np.abs(bias.astype(np.float64)) + half
        for channel in np.flatnonzero(reach >= LIMIT)[:1]:
            raise WeightsError(
                f"{name}: channel {channel}: sums may reach {reach[channel]:.0f}, not below {LIMIT}"
            )

        scale = np.ldexp(np.float32(1), -exponent)[:, None]
        bands = np.empty(weight.size, np.float32) if room is None else room
        bands = bands.reshape(kernel, outputs, kernel, inputs)
        # In one go: another thread that loads the same layer may be using this room.
        np.multiply(weight.transpose(2, 0, 3, 1), scale[:, None], out=bands)
        bands = bands.reshape(kernel, outputs, -1)
        return cls(bands, (bias + half).astype(np.float32)[:, None] * scale, exponent, stride, lo, hi)

    @property
    def weight(self) -> Map:
        """The weights divided by 2^shift, float32 (O, C, k, k), a view."""
        kernel, outputs, columns = self.bands.shape
        split = self.bands.reshape(kernel, outputs, kernel, columns // kernel)
        result: Map = split.transpose(1, 3, 0, 2)
        return result

    @property
    def bound(self) -> int:
        """The largest magnitude of an output: the input bound of a layer that follows."""
        return max(abs(self.lo), abs(self.hi))


class Conv2d(Protocol):
    """What networks are run with: `conv2d` here, or its bit-identical twin in torch."""

    def __call__(self, x: Map, layer: Layer, onto: Map | None = None, /) -> Map:
        """Convolve as `conv2d` does."""


def conv2d(x: Map, layer: Layer, onto: Map | None = None) -> Map:
    """Convolve with zero padding of (k-1)/2, shift right with rounding, and clip.

    `x` is (N, C, H, W), within the input bounds of the layer; the result is (N, O, ceil(H/stride),
    ceil(W/stride)). With `onto`, of the shape of the result and 0..255, it is their sum, clipped to that
    range. The input is copied once for each kernel column; each kernel row is then one matrix product over a
    contiguous band of that copy. Spec: "Integer layers".
    """
    stride, (kernel, outputs, _) = layer.stride, layer.bands.shape
    batch, channels, height, width = x.shape
    reach, pad = (kernel - 1) // stride, kernel // 2
    rows, columns = -(-height // stride), -(-width // stride)

    padded = np.zeros((batch, channels, stride * (rows + reach), stride * (columns + reach)), np.float32)
    padded[:, :, pad : pad + height, pad : pad + width] = x
    result = np.empty((batch, outputs, rows, columns), np.float32)
    block = max(1, min(rows, _COLUMNS // (kernel * stride * channels * columns)))
    for n, top in np.ndindex(batch, -(-rows // block)):
        first, last = top * block, min(rows, (top + 1) * block)
        band = padded[n, :, stride * first : stride * (last + reach)]
        gathered = np.empty((kernel, channels, stride, last - first + reach, columns), np.float32)
        for kx in range(kernel):
            shifted = band[:, :, kx : kx + stride * (columns - 1) + 1 : stride]
            gathered[kx] = shifted.reshape(channels, -1, stride, columns).swapaxes(1, 2)
        flat = gathered.reshape(kernel * channels, stride, -1)

        acc = np.full((outputs, (last - first) * columns), layer.bias)
        # A BLAS may leave a floating-point flag behind for finite numbers (OpenBLAS issue 1924), which numpy
        # would report; the proof of range leaves nothing to report.
        with np.errstate(all="ignore"):
            for ky, matrix in enumerate(layer.bands):
                start = ky // stride * columns
                acc += matrix @ flat[:, ky % stride, start : start + acc.shape[1]]
        np.floor(acc, out=acc)
        np.clip(acc.reshape(outputs, -1, columns), layer.lo, layer.hi, out=result[n, :, first:last])
    return result if onto is None else add_clip(onto, result, 0, BYTE_TOP)


def linear(x: Map, layer: Layer, convolve: Conv2d = conv2d) -> Map:
    """Apply a 1x1 layer to vectors (N, C); the result is (N, O). Spec: "Integer layers"."""
    result: Map = convolve(x.T[None, :, :, None], layer)[0, :, :, 0].T
    return result


def depth_to_space(x: npt.NDArray[Sample], factor: int) -> npt.NDArray[Sample]:
    """Turn each factor*factor channels into a block of pixels: (N, C*f*f, H, W) to (N, C, H*f, W*f)."""
    batch, channels, height, width = x.shape
    split = x.reshape(batch, channels // factor**2, factor, factor, height, width)
    shape = batch, channels // factor**2, height * factor, width * factor
    result: npt.NDArray[Sample] = split.transpose(0, 1, 4, 2, 5, 3).reshape(shape)
    return result


def space_to_depth(x: npt.NDArray[Sample], factor: int) -> npt.NDArray[Sample]:
    """Undo `depth_to_space`: (N, C, H*f, W*f) to (N, C*f*f, H, W)."""
    batch, channels, height, width = x.shape
    split = x.reshape(batch, channels, height // factor, factor, width // factor, factor)
    shape = batch, channels * factor**2, height // factor, width // factor
    result: npt.NDArray[Sample] = split.transpose(0, 1, 3, 5, 2, 4).reshape(shape)
    return result


def upsample2(x: npt.NDArray[Sample]) -> npt.NDArray[Sample]:
    """Repeat each value in a 2x2 block: (N, C, H, W) to (N, C, 2*H, 2*W), in the same order in memory."""
    if x.flags.c_contiguous:
        return x.repeat(2, axis=2).repeat(2, axis=3)
    result: npt.NDArray[Sample] = np.moveaxis(np.moveaxis(x, 1, 3).repeat(2, axis=1).repeat(2, axis=2), 3, 1)
    return result


def add_clip(x: Map, y: Map, lo: int, hi: int) -> Map:
    """Add two maps whose sums stay below 2^24 in magnitude, and clip to `lo`..`hi`."""
    result: Map = np.clip(x + y, lo, hi)
    return result


def tiled(
    function: Callable[..., Sequence[npt.NDArray[Any]]],
    arrays: Sequence[npt.NDArray[Any]],
    *,
    tile: int,
    halo: int,
    scales: Sequence[int],
) -> list[npt.NDArray[Any]]:
    """Evaluate a convolutional function tile by tile, with the results of `function(*arrays)` in less memory.

    Arguments and errors are those of `strips`.
    """
    results: list[npt.NDArray[Any]] = []
    for top, strip in strips(function, arrays, tile=tile, halo=halo, scales=scales):
        height, width = (size * scales[0] for size in arrays[0].shape[2:4])
        if not results:
            results = [
                np.empty((*part.shape[:2], height * part.shape[3] // width, part.shape[3]), part.dtype)
                for part in strip
            ]
        for result, part in zip(results, strip, strict=True):
            first = top * part.shape[3] // width
            result[:, :, first : first + part.shape[2]] = part
    return results


def strips(
    function: Callable[..., Sequence[npt.NDArray[Any]]],
    arrays: Sequence[npt.NDArray[Any]],
    *,
    tile: int,
    halo: int,
    scales: Sequence[int],
) -> Iterator[tuple[int, list[npt.NDArray[Any]]]]:
    """Yield the results of a convolutional function a row of tiles at a time: where it begins, and its parts.

    `scales[i]` is the number of pixels a sample of `arrays[i]` (N, C, H_i, W_i, ...) spans; one of a result
    of `function` spans a whole number of pixels, too, and has any dtype. `tile` and `halo` are in pixels,
    multiples of every span and of every stride inside; `halo` is at least the distance at which an input can
    still change a pixel. Windows end at the borders of the picture, so zero padding appears where it does
    without tiles, and only there. Raises ValueError if the sizes do not fit.
    """
    height, width = (size * scales[0] for size in arrays[0].shape[2:4])
    if not (height and width):
        raise ValueError("an empty picture has no tiles")
    if (
        any((tile % scale, halo % scale) != (0, 0) for scale in scales)
        or tile <= 0
        or any(
            array.shape[2] * scale != height or array.shape[3] * scale != width
            for array, scale in zip(arrays, scales, strict=True)
        )
    ):
        raise ValueError("tiles, halos and arrays must be whole at every scale")
    for y in range(0, height, tile):
        top, bottom = max(0, y - halo), min(height, y + tile + halo)
        strip: list[npt.NDArray[Any]] = []
        for x in range(0, width, tile):
            left, right = max(0, x - halo), min(width, x + tile + halo)
            windows = (
                array[:, :, top // scale : bottom // scale, left // scale : right // scale]
                for array, scale in zip(arrays, scales, strict=True)
            )
            parts = function(*windows)
            rows = min(tile, height - y)
            spans = [(bottom - top) // part.shape[2] for part in parts]
            strip = strip or [
                np.empty((*part.shape[:2], rows // span, width // span), part.dtype)
                for part, span in zip(parts, spans, strict=True)
            ]
            for result, part, span in zip(strip, parts, spans, strict=True):
                result[:, :, :, x // span : (x + tile) // span] = part[
                    :,
                    :,
                    (y - top) // span : (y - top + rows) // span,
                    (x - left) // span : (x - left + tile) // span,
                ]
        yield y, strip


def places(rows: int, columns: int) -> npt.NDArray[Any]:
    """Return (1, 1, rows, columns, 2): the row and column of each sample, which tell a tile where it is."""
    return np.moveaxis(np.indices((rows, columns), np.int32), 0, -1)[None, None]


def around(picture: npt.NDArray[np.uint8], where: npt.NDArray[Any], unit: int) -> Map:
    """Return the part of a picture uint8 (H, W, 3) at a window of `places`, each `unit` x `unit` pixels.

    The result is (1, 3, rows * unit, columns * unit). Beyond the picture its edge is repeated.
    """
    top, left = (unit * int(start) for start in where[0, 0, 0, 0])
    height, width = (unit * size for size in where.shape[2:4])
    part = picture[top : top + height, left : left + width]
    down, right = height - part.shape[0], width - part.shape[1]
    if down or right:
        part = np.pad(part, ((0, down), (0, right), (0, 0)), "edge")
    result: Map = part.transpose(2, 0, 1)[None].astype(np.float32, order="C")
    return result
