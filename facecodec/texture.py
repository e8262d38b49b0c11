"""The texture networks of the decoder: the prior of latents, its reviews, and the picture that they make.

Networks run in tiles, which bounds memory and changes no value.
Frozen: bitstream_spec.md, "Enhancement layer".
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from . import exact, geometry, weights
from .entropy import CODE_TOP, INNER, LEAF, NODES, Trees, tables
from .errors import WeightsError
from .exact import ACTIVATION_TOP, Conv2d, Layer, Map, conv2d
from .rans import Table

STRIDE = 16
HYPER_STRIDE = 64
LATENT_TOP = 8191
LATENT_UNITS = 8
"""Means of latents, and what nodes stand for, count this part of a step."""
RESIDUAL_TOP = 511
SHORTCUT_TOP = 2047
LINEAR_TOP = 1023
DEPTH_TOP = 80
SURPRISE_TOP = 192
SCALE_UNITS = 4
"""What reviews see of a scale is this many times its index."""
TILE = 768
"""Pixels a side that networks see at once, without their halo; a multiple of 64."""


Pixels = npt.NDArray[np.uint8]
Integers = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class TextureModel:
    """The integers of the enhancement layer: layers by name, tables of the hyper-latent, refinement trees.

    ``top`` int32 (C,): the largest magnitude of the latents of each channel, in 1/8 step.
    ``regions`` uint8 (18, 18): how much later each cell of a face, and what lies around it, is refined.
    ``surprise`` uint8 (scales, 3280): the square of what is expected at a node, against that of its scale, in
    1/32.  ``reviews``: the turns, rising, before which all scales are looked at again.
    ``finest``: the turn from which on the depth of a block that is not put off is 0.
    ``halo``: no input further than that from an aligned tile can change it, in pixels, a multiple of 64.
    """

    name: str
    id: bytes
    layers: dict[str, Layer]
    hyper: tuple[Table, ...]
    trees: Trees
    top: npt.NDArray[np.int32]
    regions: npt.NDArray[np.uint8]
    surprise: npt.NDArray[np.uint8]
    reviews: tuple[int, ...]
    finest: int
    halo: int


def load(name: str) -> TextureModel:
    """Return the texture model ``name``, its layers proved exact; raises WeightsError."""
    return _load(weights.load(name))


@cache
def _load(file: weights.Model) -> TextureModel:
    hyper = tables(file.integers("hyper.frequencies", (-1, 2 * CODE_TOP + 1)), "hyper-latent")
    planes = file.integers("tree.planes", (-1,))
    layers: dict[str, Layer] = {}
    reach = {"context": 0, "prior": 0, "review": 0, "synthesis": 0}

    def add(key: str, grid: int, inputs: int, bound: int | Integers, lo: int, hi: int, **shape: int) -> int:
        """Add the layer whose input has a sample each ``grid`` pixels; return the number of its channels."""
        layer = layers[key] = file.layer(key, inputs, bound, lo, hi, **shape)
        reach[key.partition(".")[0]] += len(layer.bands) // 2 * grid * layer.stride
        return len(layer.bias)

    def activated(
        key: str, grid: int, inputs: int, bound: int | Integers = ACTIVATION_TOP, **shape: int
    ) -> int:
        return add(key, grid, inputs, bound, 0, ACTIVATION_TOP, **shape)

    def residual(key: str, grid: int, width: int) -> None:
        activated(f"{key}.first", grid, width, outputs=width)
        add(f"{key}.second", grid, width, ACTIVATION_TOP, -SHORTCUT_TOP, SHORTCUT_TOP, outputs=width)

    context_8 = activated("context.to_8", 4, 48, 255, stride=2)
    context_16 = activated("context.to_16", 8, context_8, stride=2)
    width = activated("prior.from_64", 64, len(hyper), CODE_TOP)
    width = activated("prior.from_32", 32, width)
    width = activated("prior.from_16", 16, width)
    width = activated("prior.mix", 16, width + context_16)
    residual("prior.refine", 16, width)
    channels = add("prior.mean", 16, width, ACTIVATION_TOP, -LATENT_TOP, LATENT_TOP)
    add("prior.scale", 16, width, ACTIVATION_TOP, 0, len(planes) - 1, outputs=channels)
    bound = np.repeat([SURPRISE_TOP, SCALE_UNITS * (len(planes) - 1), LEAF], [channels, channels, 1])
    width = activated("review.enter", 16, bound.size, bound)
    residual("review.at_16.0", 16, width)
    residual("review.at_16.1", 16, width)
    most = len(planes) - 1
    add("review.change", 16, width, ACTIVATION_TOP, -most, most, outputs=channels)
    top = file.integers("latent.top", (channels,))
    if top.min() < 1 or top.max() > LATENT_TOP:
        raise WeightsError(f"{file.name}: a magnitude of latents is not in 1..{LATENT_TOP}")
    add("synthesis.linear", 16, channels, top, -LINEAR_TOP, LINEAR_TOP, outputs=3 * STRIDE**2)
    width = activated("synthesis.enter", 16, channels, top)
    width = activated("synthesis.at_16.0", 16, width + context_16 + 1)
    residual("synthesis.at_16.1", 16, width)
    residual("synthesis.at_16.2", 16, width)
    width = activated("synthesis.up_8", 16, width, multiple=4) // 4
    width = activated("synthesis.at_8.0", 8, width + context_8)
    residual("synthesis.at_8.1", 8, width)
    width = activated("synthesis.up_4", 8, width, multiple=4) // 4
    seen = np.repeat([ACTIVATION_TOP, 255, DEPTH_TOP], [width, 2 * 48, 1])
    width = activated("synthesis.at_4.0", 4, seen.size, seen)
    residual("synthesis.at_4.1", 4, width)
    add("synthesis.finish", 4, width, ACTIVATION_TOP, -RESIDUAL_TOP, RESIDUAL_TOP, outputs=48)
    trees = Trees.from_integers(
        file.integers("tree.frequencies", (len(planes), INNER, 3)),
        file.integers("tree.value", (len(planes), NODES)),
        file.integers("tree.rank", (len(planes), INNER)),
        planes,
    )
    regions = file.integers("regions", (geometry.CELLS, geometry.CELLS))
    if regions.min() < 0 or int(regions.max()) + trees.last_rank >= LEAF:
        raise WeightsError(f"{file.name}: a region is put off by more than there are turns")
    finest = int(file.integers("finest", (1,))[0])
    if not 0 <= finest < LEAF:
        raise WeightsError(f"{file.name}: the finest turn is not in 0..{LEAF - 1}")
    reviews = [int(turn) for turn in file.integers("review.turns", (-1,))]
    if reviews != sorted(set(reviews)) or any(not 0 < turn < LEAF for turn in reviews):
        raise WeightsError(f"{file.name}: the turns of reviews are not rising, or not in 1..{LEAF - 1}")
    surprise = file.integers("tree.surprise", (len(planes), NODES))
    if not 0 <= surprise.min() <= surprise.max() <= SURPRISE_TOP:
        raise WeightsError(f"{file.name}: a surprise is not in 0..{SURPRISE_TOP}")
    farthest = reach["context"] + max(reach["prior"], reach["review"], reach["synthesis"])
    halo = -(-farthest // HYPER_STRIDE) * HYPER_STRIDE
    kept = top.astype(np.int32), regions.astype(np.uint8), surprise.astype(np.uint8), tuple(reviews)
    return TextureModel(file.name, file.id, layers, hyper, trees, *kept, finest, halo)


@dataclass(frozen=True, eq=False)
class Prior:
    """What is known of latents before coding: mean int16 in 1/8 step, scale uint8, both (C, h, w)."""

    mean: npt.NDArray[np.int16]
    scale: npt.NDArray[np.uint8]


def hyper_shape(height: int, width: int, model: TextureModel) -> tuple[int, int, int]:
    """Return the shape of the hyper-latent of a picture: one sample each 64 x 64 pixels or part of them."""
    return len(model.hyper), -(-height // HYPER_STRIDE), -(-width // HYPER_STRIDE)


def prior(hyper: Integers, prediction: Pixels, model: TextureModel, convolve: Conv2d = conv2d) -> Prior:
    """Return the prior of the latents, one block of 16 x 16 pixels or part of it each, and nothing beyond.

    From a hyper-latent (Z, h/4, w/4), -15..15, and a prediction.
    """
    each = HYPER_STRIDE // STRIDE
    rows, columns = (-(-size // STRIDE) for size in prediction.shape[:2])

    def tile(z: Integers, where: Integers) -> tuple[Integers, Integers]:
        layers = model.layers
        colours = exact.around(prediction, where, STRIDE)
        _, at_16 = _context(colours, model, convolve)
        x = convolve(z.astype(np.float32), layers["prior.from_64"])
        x = convolve(exact.upsample2(x), layers["prior.from_32"])
        x = convolve(exact.upsample2(x), layers["prior.from_16"])
        x = convolve(np.concatenate([x, at_16], 1), layers["prior.mix"])
        x = _residual(x, "prior.refine", model, convolve)
        mean, scale = convolve(x, layers["prior.mean"]), convolve(x, layers["prior.scale"])
        return mean.astype(np.int16), scale.astype(np.uint8)

    mean, scale = exact.tiled(
        tile,
        [hyper.astype(np.int8)[None], exact.places(each * hyper.shape[1], each * hyper.shape[2])],
        tile=TILE // STRIDE,
        halo=model.halo // STRIDE,
        scales=[each, 1],
    )
    return Prior(*(np.ascontiguousarray(part[0, :, :rows, :columns]) for part in (mean, scale)))


def reviewed(
    scale: Integers,
    node: Integers,
    delay: Integers,
    turn: int,
    model: TextureModel,
    convolve: Conv2d = conv2d,
) -> npt.NDArray[np.uint8]:
    """Return the scales (C, h, w) that latents seem to have, known to their nodes (C, h, w) before a turn.

    ``scale`` (C, h, w) is that of the prior, ``delay`` (h, w) how many turns each block is put off.
    """

    def tile(scale: Integers, node: Integers, delay: Integers) -> tuple[Integers]:
        layers = model.layers
        gone = np.clip(turn - delay.astype(np.float32), 0, LEAF)
        seen = model.surprise[scale, node], SCALE_UNITS * scale.astype(np.float32), gone
        x = convolve(np.concatenate(seen, 1, dtype=np.float32), layers["review.enter"])
        x = _residual(x, "review.at_16.0", model, convolve)
        change = convolve(_residual(x, "review.at_16.1", model, convolve), layers["review.change"])
        return (np.clip(scale + change, 0, len(model.surprise) - 1).astype(np.uint8),)

    (found,) = exact.tiled(
        tile,
        [scale[None], node[None], delay[None, None]],
        tile=TILE // STRIDE,
        halo=model.halo // STRIDE,
        scales=[1, 1, 1],
    )
    result: npt.NDArray[np.uint8] = found[0]
    return result


def synthesise(
    latent: Integers, depth: Integers, picture: Pixels, model: TextureModel, convolve: Conv2d = conv2d
) -> None:
    """Turn a prediction (H, W, 3) into the picture of latents (C, h, w), in 1/8 step, in its place.

    ``depth`` (h, w) says how far each block was left from its finest, 0..80.
    """
    rows, columns = latent.shape[1:]

    def tile(values: Integers, where: Integers, left: Integers) -> tuple[Integers]:
        layers = model.layers
        latent, deep = values.astype(np.float32), left.astype(np.float32)
        colours = exact.around(picture, where, STRIDE)
        at_8, at_16 = _context(colours, model, convolve)
        blocks = exact.depth_to_space(convolve(latent, layers["synthesis.linear"]), STRIDE)
        x = convolve(latent, layers["synthesis.enter"])
        x = convolve(np.concatenate([x, at_16, deep], 1), layers["synthesis.at_16.0"])
        x = _residual(x, "synthesis.at_16.1", model, convolve)
        x = _residual(x, "synthesis.at_16.2", model, convolve)
        x = exact.depth_to_space(convolve(x, layers["synthesis.up_8"]), 2)
        x = convolve(np.concatenate([x, at_8], 1), layers["synthesis.at_8.0"])
        x = _residual(x, "synthesis.at_8.1", model, convolve)
        x = exact.depth_to_space(convolve(x, layers["synthesis.up_4"]), 2)
        seen = (exact.space_to_depth(part, 4) for part in (exact.add_clip(colours, blocks, 0, 255), colours))
        deep = exact.upsample2(exact.upsample2(deep))
        x = convolve(np.concatenate([x, *seen, deep], 1), layers["synthesis.at_4.0"])
        x = _residual(x, "synthesis.at_4.1", model, convolve)
        blocks += exact.depth_to_space(convolve(x, layers["synthesis.finish"]), 4)
        return (exact.add_clip(blocks, colours, 0, 255).astype(np.uint8),)

    done: deque[tuple[int, Integers]] = deque()

    def settle(top: int) -> None:
        """Write what lies above ``top``, which no tile will look at any more."""
        while done and done[0][0] + TILE <= top:
            first, strip = done.popleft()
            place = picture[first : first + TILE]
            place[:] = strip.transpose(1, 2, 0)[: len(place), : place.shape[1]]

    blocks = [latent[None], exact.places(rows, columns), depth[None, None]]
    for first, (strip,) in exact.strips(tile, blocks, tile=TILE, halo=model.halo, scales=[STRIDE] * 3):
        done.append((first, strip[0]))
        settle(first + TILE - model.halo)
    settle(STRIDE * rows + TILE)


def _context(picture: Map, model: TextureModel, convolve: Conv2d) -> tuple[Map, Map]:
    at_8 = convolve(exact.space_to_depth(picture, 4), model.layers["context.to_8"])
    return at_8, convolve(at_8, model.layers["context.to_16"])


def _residual(x: Map, name: str, model: TextureModel, convolve: Conv2d) -> Map:
    inner = convolve(x, model.layers[f"{name}.first"])
    return exact.add_clip(x, convolve(inner, model.layers[f"{name}.second"]), 0, ACTIVATION_TOP)
