"""The model of textures, and the networks that tell the tables of trits.

Networks run in tiles, which bounds memory and changes no value.
Frozen: bitstream_spec.md, "Enhancement layer".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from . import exact, geometry, latents, wavelet, weights
from .errors import WeightsError
from .exact import BYTE_TOP, Conv2d, Layer, Map, conv2d
from .latents import (
    FIRST,
    LEANS,
    MAGNITUDES,
    OFFSETS,
    PARTS,
    PLANES,
    TABLES,
    TURNS,
    ZEROS,
    Latents,
)
from .rans import Tables
from .wavelet import BANDS, LEVELS, STRIDE

LACKING_TOP = 511
SHORTCUT_TOP = 2047
REFINEMENTS = {2: 2, 4: 2, 8: 2, 16: 2}
"""How many blocks around a shortcut the filter has on each of its grids, by their pixels."""
TILE = 768
"""Pixels a side that networks see at once, without their halo; a multiple of 16."""
MOST_BITS = 24
"""What a trit takes whose frequency is 0."""

Pixels = npt.NDArray[np.uint8]
Integers = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class TextureModel:
    """The integers of the enhancement layer: layers by name, and the tables of trits.

    ``order`` uint16 (51, 17): the table of a trit, by how likely 0 is and how it leans.  ``thresholds``
    uint16 (3,): how many tables have their turn in each turn of a plane.  ``zero`` uint8 and ``lean`` int8
    (8, 3, C, 25) a level: what planes, bands and offsets alone tell of trits.  ``magnitude`` uint8 (2, 64):
    how large latents are expected to be.  ``waiting`` int8 (3, 867) and ``rest`` int8 (4,): where in their
    cells they are.
    ``regions`` uint8 (18, 18): how much later each cell of a face, and what lies around it, is refined.
    ``asked`` and ``expects``: the first turns before which the networks tell tables, and the filter is asked.
    ``bits`` (867, 3): what trits take.
    ``halo``: no input further than that from an aligned tile can change it, in pixels, a multiple of 16.
    """

    name: str
    id: bytes
    layers: dict[str, Layer]
    coders: Tables
    bits: npt.NDArray[np.float32]
    order: npt.NDArray[np.uint16]
    thresholds: npt.NDArray[np.uint16]
    zero: list[npt.NDArray[np.uint8]]
    lean: list[npt.NDArray[np.int8]]
    magnitude: npt.NDArray[np.uint8]
    waiting: npt.NDArray[np.int8]
    rest: npt.NDArray[np.int8]
    regions: npt.NDArray[np.uint8]
    asked: int
    expects: int
    halo: int


def load(name: str) -> TextureModel:
    """Return the texture model ``name``, its layers proved exact; raises WeightsError."""
    return _load(weights.load(name))


@cache
def _load(file: weights.Model) -> TextureModel:
    layers: dict[str, Layer] = {}
    reach = {"filter": 0, "hint": 0, "around": 0, "trits": 0}

    def add(key: str, grid: int, inputs: int, lo: int, hi: int, **shape: int) -> int:
        """Add the layer whose input has a sample each ``grid`` pixels; return the number of its channels."""
        layer = layers[key] = file.layer(key, inputs, BYTE_TOP, lo, hi, **shape)
        reach[key.partition(".")[0]] += len(layer.bands) // 2 * grid * layer.stride
        return len(layer.bias)

    def activated(key: str, grid: int, inputs: int, **shape: int) -> int:
        return add(key, grid, inputs, 0, BYTE_TOP, **shape)

    def residual(key: str, grid: int, width: int) -> None:
        activated(f"{key}.first", grid, width, outputs=width)
        add(f"{key}.second", grid, width, -SHORTCUT_TOP, SHORTCUT_TOP, outputs=width)

    entered = {2: activated("filter.enter", 2, 26)}
    for grid in (4, 8, 16):
        entered[grid] = activated(f"filter.down.{grid}", grid // 2, entered[grid // 2], stride=2)
    width, hints = entered[16], {}
    for grid in (16, 8, 4, 2):
        if grid < STRIDE:
            above = activated(f"filter.up.{grid}", 2 * grid, width)
            width = activated(f"filter.merge.{grid}", grid, entered[grid] + above)
        for index in range(REFINEMENTS[grid]):
            residual(f"filter.at.{grid}.{index}", grid, width)
        hints[grid] = activated(f"hint.{grid}", grid, width)
    add("filter.finish", 2, width, -LACKING_TOP, LACKING_TOP, outputs=12)
    reach["filter"] += 2 * wavelet.REACH

    around_8 = activated("around.to_8", 4, 48, stride=2)
    around_16 = activated("around.to_16", 8, around_8, stride=2)
    below = 0
    for grid, others in ((2, 0), (4, 0), (8, around_8), (16, around_16)):
        seen = 3 * BANDS[LEVELS - grid.bit_length() + 1] + 1 + hints[grid]
        entered[grid] = activated(f"trits.enter.{grid}", grid, seen + below + others)
        if grid < STRIDE:
            below = activated(f"trits.down.{grid}", grid, entered[grid], stride=2)
    residual("trits.at_16.0", 16, entered[16])
    residual("trits.at_16.1", 16, entered[16])
    width = entered[16]
    for grid in (16, 8, 4, 2):
        if grid < STRIDE:
            above = activated(f"trits.up.{grid}", 2 * grid, width)
            width = activated(f"trits.merge.{grid}", grid, entered[grid] + above)
        if grid == 8:
            residual("trits.at_8", 8, width)
        outputs = 2 * BANDS[LEVELS - grid.bit_length() + 1]
        add(f"trits.tell.{grid}", grid, width, -ZEROS, ZEROS, outputs=outputs)

    frequencies = file.integers("trit.frequencies", (TABLES, 3))
    try:
        coders = Tables(frequencies)
    except ValueError as error:
        raise WeightsError(f"{file.name}: tables of trits: {error}") from None
    with np.errstate(divide="ignore"):
        bits = np.log2(frequencies.sum(1, keepdims=True) / frequencies).clip(max=MOST_BITS)

    def within(key: str, shape: tuple[int, ...], low: int, high: int) -> Integers:
        found = file.integers(key, shape)
        if found.min() < low or found.max() > high:
            raise WeightsError(f"{file.name}: {key} is not in {low}..{high}")
        return found

    thresholds = within("thresholds", (latents.PARTS,), 0, TABLES)
    if int(thresholds[-1]) != TABLES:
        raise WeightsError(f"{file.name}: the last turn of a plane leaves trits out")
    first = (PLANES, 3, sum(BANDS), OFFSETS)
    bounds = np.cumsum(BANDS)[:-1]
    return TextureModel(
        file.name,
        file.id,
        layers,
        coders,
        bits.astype(np.float32),
        within("order", (ZEROS, LEANS), 0, TABLES - 1).astype(np.uint16),
        thresholds.astype(np.uint16),
        np.split(within("first.zero", first, 0, ZEROS - 1).astype(np.uint8), bounds, 2),
        np.split(within("first.lean", first, -(LEANS // 2), LEANS // 2).astype(np.int8), bounds, 2),
        within("magnitude", (2, MAGNITUDES), 0, 255).astype(np.uint8),
        within("settle.waiting", (3, TABLES), -96, 96).astype(np.int8),
        within("settle.rest", (4,), -32, 32).astype(np.int8),
        within("regions", (geometry.CELLS, geometry.CELLS), 0, TURNS).astype(np.uint8),
        int(within("asked", (1,), 0, TURNS)[0]),
        int(within("expects", (1,), 0, TURNS)[0]),
        -(-max(reach["filter"] + reach["hint"], reach["around"] + reach["trits"]) // STRIDE) * STRIDE,
    )


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What the prediction tells, uint8: ``at_8`` (1, C, 2h, 2w) and ``at_16`` (1, D, h, w)."""

    at_8: npt.NDArray[np.uint8]
    at_16: npt.NDArray[np.uint8]


def surroundings(prediction: Pixels, model: TextureModel, convolve: Conv2d = conv2d) -> Surroundings:
    """Return what a prediction uint8 (H, W, 3) tells of the latents of its picture."""

    def tile(where: Integers) -> tuple[Integers, Integers]:
        colours = exact.around(prediction, where, STRIDE).astype(np.uint8)
        at_8 = convolve(exact.space_to_depth(colours, 4), model.layers["around.to_8"])
        at_16 = convolve(at_8, model.layers["around.to_16"])
        return at_8.astype(np.uint8), at_16.astype(np.uint8)

    rows, columns = (latents.blocks(size) for size in prediction.shape[:2])
    return Surroundings(
        *exact.tiled(tile, [exact.places(rows, columns)], tile=TILE, halo=model.halo, scales=[STRIDE])
    )


@dataclass(frozen=True, eq=False)
class Expectation:
    """What the filter tells of latents, before a plane begins.

    ``samples`` int32 (n,): where they are to be expected, in 1/16 grey level.  ``hints`` uint8 (C, h, w) a
    level, coarsest first: what else it knows there.
    """

    samples: npt.NDArray[np.int32]
    hints: list[npt.NDArray[np.uint8]]

    @classmethod
    def none(cls, known: Latents, model: TextureModel) -> Expectation:
        """Return what is expected before the filter is asked."""
        hints = [
            np.zeros((len(model.layers[f"hint.{STRIDE >> level}"].bias), *cells.shape[1:]), np.uint8)
            for level, cells in enumerate(known.levels(known.cell))
        ]
        return cls(np.zeros(known.cell.size, np.int32), hints)


def told(
    known: Latents,
    expectation: Expectation,
    gone: Integers,
    turn: int,
    around: Surroundings,
    model: TextureModel,
    convolve: Conv2d = conv2d,
) -> npt.NDArray[np.uint16]:
    """Return the tables uint16 (n,) of the next trits of latents, before a turn; 0 on levels not begun.

    ``gone`` int8 (1, h, w) are the turns that blocks have seen.
    """
    tables = np.empty(known.known.size, np.uint16)

    def tile(gone: Integers, at_8: Integers, at_16: Integers, *state: Integers) -> list[Integers]:
        cells, planes, samples, hints = (
            state[first : first + LEVELS] for first in range(0, 4 * LEVELS, LEVELS)
        )
        grids = [latents.magnified(gone, level) for level in range(LEVELS)]
        offsets = [latents.offset(*level) for level in zip(cells, planes, samples, strict=True)]
        begun = sum(gone.max() >= PARTS * first for first in FIRST)
        found = [
            latents.first_told(*level)
            for level in islice(zip(cells, grids, offsets, model.zero, model.lean, strict=True), begun)
        ]
        if turn >= model.asked:
            views = [
                latents.seen(*of_level, level, model.magnitude)
                for level, of_level in enumerate(zip(cells, planes, grids, offsets, strict=True))
            ]
            changes = changed(views, hints, at_8, at_16, model, convolve)
            found = [
                (zero + change[:, : zero.shape[1]], lean + change[:, zero.shape[1] :])
                for (zero, lean), change in zip(found, changes[:begun], strict=True)
            ]
        later = [np.zeros(cell.shape, np.uint16) for cell in cells[begun:]]
        return [latents.table(*both, model.order) for both in found] + later

    flats = (known.cell, known.known, expectation.samples)
    state = [level[None] for flat in flats for level in known.levels(flat)]
    scales = [STRIDE >> level for level in range(LEVELS)]
    parts = exact.tiled(
        tile,
        [gone[None], around.at_8, around.at_16, *state, *(hint[None] for hint in expectation.hints)],
        tile=TILE,
        halo=model.halo,
        scales=[STRIDE, STRIDE // 2, STRIDE, *4 * scales],
    )
    for whole, part in zip(known.levels(tables), parts, strict=True):
        whole[:] = part[0]
    return tables


def changed(
    views: list[Map],
    hints: Sequence[Map],
    at_8: Map,
    at_16: Map,
    model: TextureModel,
    convolve: Conv2d = conv2d,
) -> list[Map]:
    """Return how tables differ from the first ones, (N, 2 C, h, w) a level, coarsest first.

    First how likely 0 is, then how trits lean.  ``views`` are what ``latents.seen`` makes of each level, and
    ``hints`` what the filter tells of them.
    """
    layers = model.layers
    entered: dict[int, Map] = {}
    below: list[Map] = []
    for grid, view, hint, others in zip(
        (2, 4, 8, 16), views[::-1], hints[::-1], ([], [], [at_8], [at_16]), strict=True
    ):
        seen = np.concatenate([view, hint, *below, *others], 1)
        entered[grid] = convolve(seen, layers[f"trits.enter.{grid}"])
        if grid < STRIDE:
            below = [convolve(entered[grid], layers[f"trits.down.{grid}"])]
    x = shortcut(shortcut(entered[16], "trits.at_16.0", model, convolve), "trits.at_16.1", model, convolve)
    changes = [convolve(x, layers["trits.tell.16"])]
    for grid in (8, 4, 2):
        above = exact.upsample2(convolve(x, layers[f"trits.up.{grid}"]))
        x = convolve(np.concatenate([entered[grid], above], 1), layers[f"trits.merge.{grid}"])
        if grid == 8:
            x = shortcut(x, "trits.at_8", model, convolve)
        changes.append(convolve(x, layers[f"trits.tell.{grid}"]))
    return changes


def shortcut(x: Map, name: str, model: TextureModel, convolve: Conv2d = conv2d) -> Map:
    """Return what both layers around a shortcut make of a map."""
    inner = convolve(x, model.layers[f"{name}.first"])
    return convolve(inner, model.layers[f"{name}.second"], x).astype(np.uint8, copy=False)
