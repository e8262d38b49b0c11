"""The enhancement layer: one embedded stream of latents <-> a refinement of the picture, given a prediction.

Latents are refined trit by trit in the order of their trees' ranks, so that every prefix of the stream is a
picture; where regions count, what recognition needs less has its turn later.  Networks run in tiles, which
bounds memory and changes no value.  Frozen: bitstream_spec.md, "Enhancement layer".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from . import exact, geometry, weights
from .entropy import CODE_TOP, INNER, LEAF, NODES, Trees, tables
from .errors import WeightsError
from .exact import ACTIVATION_TOP, Conv2d, Layer, Map, conv2d
from .rans import EmbeddedDecoder, Group, Table, encode_embedded_reverse

ID_BYTES = 3
HEAD_BYTES = ID_BYTES + 1
"""The id of the model and the order, in front of the stream."""
STRIDE = 16
HYPER_STRIDE = 64
LATENT_TOP = 8191
LATENT_UNITS = 8
"""Means of latents, and what nodes stand for, count this part of a step."""
RESIDUAL_TOP = 511
SHORTCUT_TOP = 2047
LINEAR_TOP = 1023
DEPTH_TOP = 80
TILE = 768
"""Pixels a side that networks see at once, without their halo; a multiple of 64."""
SLICE = 1 << 20
"""Latents at work at once; bounds memory, and changes nothing else."""

Pixels = npt.NDArray[np.uint8]
Integers = npt.NDArray[Any]


class Order(IntEnum):
    """In which order an enhancement refines the blocks of a picture.

    By REGIONS, for recognition, the detail of a preview counts more than its error: what is undecided moves
    it by half of what is expected.
    """

    ALIKE = 0
    REGIONS = 1


@dataclass(frozen=True, eq=False)
class TextureModel:
    """The integers of the enhancement layer: layers by name, tables of the hyper-latent, refinement trees.

    ``top`` int32 (C,): the largest magnitude of the latents of each channel, in 1/8 step.
    ``regions`` uint8 (18, 18): how much later each cell of a face, and what lies around it, is refined.
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
    reach = {"context": 0, "prior": 0, "synthesis": 0}

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
    farthest = reach["context"] + max(reach["prior"], reach["synthesis"])
    halo = -(-farthest // HYPER_STRIDE) * HYPER_STRIDE
    kept = top.astype(np.int32), regions.astype(np.uint8)
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


def settled(
    known: Prior,
    node: Integers,
    model: TextureModel,
    order: Order = Order.ALIKE,
    out: npt.NDArray[np.int16] | None = None,
) -> npt.NDArray[np.int16]:
    """Return latents (C, h, w), in 1/8 step, from the node (C, h, w) that each of them reached.

    ``out`` is where to put them; it may be the mean itself.
    """
    latent = np.empty(node.shape, np.int16) if out is None else out
    for part in _channels(node.shape):
        top, mean = model.top[part, None, None], known.mean[part]
        reached = known.scale[part], node[part]
        if order == Order.REGIONS:
            mean = mean >> model.trees.undecided[reached]
        latent[part] = np.clip(mean + model.trees.value[reached].astype(np.int32), -top, top)
    return latent


def depths(scale: Integers, node: Integers, delay: Integers, model: TextureModel) -> npt.NDArray[np.uint8]:
    """Return how far from the finest each block (h, w) was left: 0..80 twelfths of an octave of its error.

    By the first turn in which a latent (C, h, w) at its node would be refined; ``delay`` as for ``encode``.
    """
    late = np.broadcast_to(delay.astype(np.int32), scale.shape[1:])
    turns = (model.trees.due(scale[part], node[part], late) for part in _channels(scale.shape))
    first = min(int(turn.min()) for turn in turns)
    return np.clip(model.finest - first + late, 0, DEPTH_TOP).astype(np.uint8)


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


def _channels(shape: tuple[int, ...]) -> Iterator[slice]:
    """Yield parts of the channels of latents of this shape (C, h, w)."""
    count = max(1, SLICE // (shape[1] * shape[2]))
    return (slice(first, first + count) for first in range(0, shape[0], count))


def _context(picture: Map, model: TextureModel, convolve: Conv2d) -> tuple[Map, Map]:
    at_8 = convolve(exact.space_to_depth(picture, 4), model.layers["context.to_8"])
    return at_8, convolve(at_8, model.layers["context.to_16"])


def _residual(x: Map, name: str, model: TextureModel, convolve: Conv2d) -> Map:
    inner = convolve(x, model.layers[f"{name}.first"])
    return exact.add_clip(x, convolve(inner, model.layers[f"{name}.second"]), 0, ACTIVATION_TOP)


def encode(
    hyper: Integers,
    node: npt.NDArray[np.uint16],
    scale: npt.NDArray[np.uint8],
    delay: npt.NDArray[np.uint8],
    model: TextureModel,
) -> bytes:
    """Return the words of the hyper-latent (Z, h, w), -15..15, and of the refinements of latents.

    ``node`` (C, 4h, 4w), contiguous, is where each of them ends, as a walk may leave them: all go back to
    the root.  ``scale`` is that of the prior, and ``delay`` (4h, 4w) the turns that each block is put off.
    """
    trees, place = model.trees, (scale.ravel(), delay.ravel(), node.reshape(-1))

    def groups() -> Iterator[Group]:
        for trits, states in trees.retrace(*place):
            yield trits, trees.coders.pick(states)
        for plane, table in zip(hyper[::-1], model.hyper[::-1], strict=True):
            yield plane.ravel() + CODE_TOP, table

    return encode_embedded_reverse(groups())


def decode(
    words: bytes,
    prediction: Pixels,
    delay: Integers,
    model: TextureModel,
    convolve: Conv2d = conv2d,
    known: Prior | None = None,
    order: Order = Order.ALIKE,
) -> Pixels:
    """Return the picture (H, W, 3) that the words of a stream, or the first of them, make of its prediction.

    ``delay`` is as for ``encode``, of this ``order``, and ``known`` the prior of the latents where it is at
    hand.  A stream that ends inside the hyper-latent leaves the prediction as it is.  Raises CorruptError if
    there are words after its last symbol.
    """
    decoder = EmbeddedDecoder(words)
    height, width = prediction.shape[:2]
    channels, rows, columns = hyper_shape(height, width, model)
    hyper = np.empty((channels, rows * columns), np.int8)
    for plane, table in zip(hyper, model.hyper, strict=True):
        symbols = decoder.take(plane.size, table)
        if symbols.size < plane.size:
            return prediction
        plane[:] = symbols - CODE_TOP
    if known is None:
        known = prior(hyper.reshape(channels, rows, columns), prediction, model, convolve)
    node = _walked(decoder, known.scale, delay, model.trees)
    decoder.finish()
    depth = depths(known.scale, node, delay, model)
    latent = settled(known, node, model, order)
    del decoder, known, node  # several bytes a pixel
    picture: Pixels = prediction.copy()
    synthesise(latent, depth, picture, model, convolve)
    return picture


def _walked(decoder: EmbeddedDecoder, scale: Integers, delay: Integers, trees: Trees) -> Integers:
    """Return the node, in the shape of ``scale``, that the rest of a stream leads each latent to."""
    node = trees.walk(
        scale.ravel(), delay.ravel(), lambda states: decoder.take(states.size, trees.coders.pick(states))
    )
    return node.reshape(scale.shape)
