"""From what is known of latents to a picture, and back: what the filter makes of the end of a stream.

Frozen: bitstream_spec.md, "Settling", "Filter" and "Expectation".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import exact, latents, wavelet
from .exact import Conv2d, Map, conv2d
from .latents import Latents
from .texture import REFINEMENTS, TILE, Expectation, TextureModel, shortcut
from .wavelet import LEVELS, STRIDE

LACKING_UNITS = 4
"""What a picture lacks counts this part of a grey level."""
STATE_SCALES = [STRIDE, *3 * [STRIDE >> level for level in range(LEVELS)]]
"""Pixels that samples of the maps of an end span."""
Pixels = npt.NDArray[np.uint8]
Integers = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class End:
    """Where a stream ends, or might: what is known of the latents, and how far it has come.

    ``tables`` uint16 (n,) are those told before the last turn, ``gone`` int8 (1, h, w) the turns that blocks
    had seen by then, and ``part`` -1, 0 or 1, how much of the last one has come.
    """

    known: Latents
    tables: npt.NDArray[np.uint16]
    gone: Integers
    part: int

    def state(self) -> list[Integers]:
        """Return maps of blocks and of latents: the turns gone; then cells, planes and tables a level."""
        flats = (self.known.cell, self.known.known, self.tables)
        return [self.gone[None], *(level[None] for flat in flats for level in self.known.levels(flat))]


def expect(
    end: End,
    prediction: Pixels,
    expectation: Expectation,
    model: TextureModel,
    convolve: Conv2d = conv2d,
) -> None:
    """Give ``expectation`` the samples of the picture that this end would give, and what the filter hints."""

    def tile(where: Integers, *state: Integers) -> list[Integers]:
        samples, _, lacking, features = _left(
            exact.around(prediction, where, STRIDE), state, end.part, model, convolve
        )
        bands = wavelet.analysed(wavelet.UNITS // LACKING_UNITS * lacking)
        expected = [(sample + band).astype(np.int32) for sample, band in zip(samples, bands, strict=True)]
        hints = [
            convolve(feature, model.layers[f"hint.{STRIDE >> level}"]).astype(np.uint8)
            for level, feature in enumerate(features)
        ]
        return expected + hints

    strips = exact.strips(
        tile,
        [exact.places(*end.gone.shape[1:]), *end.state()],
        tile=TILE,
        halo=model.halo,
        scales=[STRIDE, *STATE_SCALES],
    )
    wholes = [*end.known.levels(expectation.samples), *expectation.hints]
    for top, strip in strips:
        for whole, part in zip(wholes, strip, strict=True):
            first = top * whole.shape[2] // (STRIDE * end.gone.shape[2])
            whole[:, first : first + part.shape[2]] = part[0]


def synthesise(end: End, picture: Pixels, model: TextureModel, convolve: Conv2d = conv2d) -> None:
    """Turn a prediction (H, W, 3) into the picture of what is known at an end, in its place."""

    def tile(where: Integers, *state: Integers) -> tuple[Integers]:
        _, fine, lacking, _ = _left(exact.around(picture, where, STRIDE), state, end.part, model, convolve)
        return (_pixels(fine + wavelet.UNITS // LACKING_UNITS * lacking),)

    done: deque[tuple[int, Integers]] = deque()

    def settle(top: int) -> None:
        """Write what lies above ``top``, which no tile will look at any more."""
        while done and done[0][0] + TILE <= top:
            first, strip = done.popleft()
            place = picture[first : first + TILE]
            place[:] = strip.transpose(1, 2, 0)[: len(place), : place.shape[1]]

    rows, columns = end.gone.shape[1:]
    for first, (strip,) in exact.strips(
        tile,
        [exact.places(rows, columns), *end.state()],
        tile=TILE,
        halo=model.halo,
        scales=[STRIDE, *STATE_SCALES],
    ):
        done.append((first, strip[0]))
        settle(first + TILE - model.halo)
    settle(STRIDE * rows + TILE)


def _left(
    prediction: Map, state: Sequence[Integers], part: int, model: TextureModel, convolve: Conv2d
) -> tuple[list[npt.NDArray[np.int32]], npt.NDArray[np.int64], npt.NDArray[np.int64], list[Map]]:
    """Return samples, their picture (N, 3, H, W) in 1/16 grey level, what it lacks in 1/4, and features."""
    gone, levels = state[0], [state[1 + level :: LEVELS] for level in range(LEVELS)]
    samples = [
        latents.settled(cell, known, tables, latents.magnified(gone, level), level, model.waiting, model.rest)
        for level, (cell, known, tables) in enumerate(levels)
    ]
    fine = wavelet.synthesised(samples) + wavelet.UNITS * prediction.astype(np.int64)
    told = latents.depth(gone, part)
    lacking, features = filtered(_pixels(fine), prediction.astype(np.uint8), told, model, convolve)
    return samples, fine, lacking.astype(np.int64), features


def _pixels(fine: Integers) -> Pixels:
    """Return the pixels of colours in 1/16 grey level."""
    pixels: Pixels = np.clip((fine + wavelet.UNITS // 2) // wavelet.UNITS, 0, 255).astype(np.uint8)
    return pixels


def filtered(
    rough: Map, prediction: Map, told: Integers, model: TextureModel, convolve: Conv2d = conv2d
) -> tuple[Map, list[Map]]:
    """Return what a rough picture lacks, (N, 3, H, W) in 1/4 grey level, as one that was left so early does.

    The features that tell so follow, (N, C, h, w) a grid, coarsest first.
    ``rough`` and ``prediction`` (N, 3, H, W) are 0..255, ``told`` (N, 2, h, w) is what ``depth`` says of
    blocks.
    """
    layers = model.layers
    seen = [*(exact.space_to_depth(part, 2) for part in (rough, prediction)), latents.magnified(told, 3)]
    entered = {2: convolve(np.concatenate(seen, 1), layers["filter.enter"])}
    for grid in (4, 8, 16):
        entered[grid] = convolve(entered[grid // 2], layers[f"filter.down.{grid}"])
    x, features = entered[16], []
    for grid in (16, 8, 4, 2):
        if grid < STRIDE:
            above = exact.upsample2(convolve(x, layers[f"filter.up.{grid}"]))
            x = convolve(np.concatenate([entered[grid], above], 1), layers[f"filter.merge.{grid}"])
        for index in range(REFINEMENTS[grid]):
            x = shortcut(x, f"filter.at.{grid}.{index}", model, convolve)
        features.append(x)
    return exact.depth_to_space(convolve(x, layers["filter.finish"]), 2), features
