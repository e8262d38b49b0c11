"""The enhancement layer: one embedded stream of latents <-> a refinement of the picture, given a prediction.

Latents are refined trit by trit in the order of their trees' ranks, so that every prefix of the stream is a
picture.  Networks run in tiles, which bounds memory and changes no value.  Frozen: bitstream_spec.md,
"Enhancement layer".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from . import exact, weights
from .entropy import CODE_TOP, INNER, NODES, Trees, tables
from .exact import ACTIVATION_TOP, Conv2d, Layer, Map, conv2d
from .rans import EmbeddedDecoder, Group, Table

STRIDE = 16
HYPER_STRIDE = 64
LATENT_TOP = 2047
RESIDUAL_TOP = 511
SHORTCUT_TOP = 2047
TILE = 512
HALO = 256

Pixels = npt.NDArray[np.uint8]
Integers = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class TextureModel:
    """The integers of the enhancement layer: layers by name, tables of the hyper-latent, refinement trees."""

    name: str
    id: bytes
    layers: dict[str, Layer]
    hyper: tuple[Table, ...]
    trees: Trees
    channels: int


@cache
def load(name: str) -> TextureModel:
    """Return the texture model ``name``, its layers proved exact; raises WeightsError."""
    model = weights.load(name)
    hyper = tables(model.integers("hyper.frequencies", (-1, 2 * CODE_TOP + 1)), "hyper-latent")
    layers: dict[str, Layer] = {}

    def add(key: str, inputs: int, bound: int, lo: int, hi: int, stride: int = 1) -> int:
        layers[key] = model.layer(key, inputs, bound, lo, hi, stride)
        return int(layers[key].weight.shape[0])

    def activated(key: str, inputs: int, bound: int = ACTIVATION_TOP, stride: int = 1) -> int:
        return add(key, inputs, bound, 0, ACTIVATION_TOP, stride)

    def residual(key: str, width: int) -> None:
        activated(f"{key}.first", width)
        add(f"{key}.second", width, ACTIVATION_TOP, -SHORTCUT_TOP, SHORTCUT_TOP)

    context_8 = activated("context.to_8", 48, 255, 2)
    context_16 = activated("context.to_16", context_8, stride=2)
    width = activated("prior.from_64", len(hyper), CODE_TOP)
    width = activated("prior.from_16", activated("prior.from_32", width))
    width = activated("prior.mix", width + context_16)
    channels = add("prior.mean", width, ACTIVATION_TOP, -LATENT_TOP, LATENT_TOP)
    planes = model.integers("tree.planes", (-1,))
    add("prior.scale", width, ACTIVATION_TOP, 0, len(planes) - 1)
    width = activated("synthesis.at_16.0", activated("synthesis.enter", channels, LATENT_TOP) + context_16)
    residual("synthesis.at_16.1", width)
    width = activated("synthesis.at_8.0", activated("synthesis.up_8", width) // 4 + context_8)
    residual("synthesis.at_8.1", width)
    width = activated("synthesis.up_4", width) // 4
    residual("synthesis.at_4", width)
    add("synthesis.finish", width, ACTIVATION_TOP, -RESIDUAL_TOP, RESIDUAL_TOP)
    trees = Trees.from_integers(
        model.integers("tree.frequencies", (len(planes), INNER, 3)),
        model.integers("tree.value", (len(planes), NODES)),
        model.integers("tree.rank", (len(planes), INNER)),
        planes,
    )
    return TextureModel(name, model.id, layers, hyper, trees, channels)


@dataclass(frozen=True, eq=False)
class Prior:
    """What is known of latents before coding: mean int16 in 1/16 step, scale uint8, both (C, h, w)."""

    mean: npt.NDArray[np.int16]
    scale: npt.NDArray[np.uint8]


def padded(picture: Pixels) -> Pixels:
    """Return the picture (H, W, 3) with its last row and column repeated up to multiples of 64."""
    height, width = picture.shape[:2]
    return np.pad(picture, ((0, -height % HYPER_STRIDE), (0, -width % HYPER_STRIDE), (0, 0)), "edge")


def hyper_shape(height: int, width: int, model: TextureModel) -> tuple[int, int, int]:
    """Return the shape of the hyper-latent of a picture: one sample each 64 x 64 pixels or part of them."""
    return len(model.hyper), -(-height // HYPER_STRIDE), -(-width // HYPER_STRIDE)


def prior(hyper: Integers, prediction: Pixels, model: TextureModel, convolve: Conv2d = conv2d) -> Prior:
    """Return the prior of the latents from a hyper-latent (Z, h/4, w/4), -15..15, and a padded prediction."""
    pixels = np.ascontiguousarray(prediction.transpose(2, 0, 1))[None]

    def tile(z: Integers, blocks: Integers) -> npt.NDArray[np.int16]:
        layers = model.layers
        picture = exact.depth_to_space(blocks, STRIDE).astype(np.float32)
        _, at_16 = _context(picture, model, convolve)
        x = convolve(z.astype(np.float32), layers["prior.from_64"])
        x = convolve(exact.upsample2(x), layers["prior.from_32"])
        x = convolve(exact.upsample2(x), layers["prior.from_16"])
        x = convolve(np.concatenate([x, at_16], 1), layers["prior.mix"])
        both = [convolve(x, layers["prior.mean"]), convolve(x, layers["prior.scale"])]
        return np.concatenate(both, 1).astype(np.int16)

    both = exact.tiled(
        tile,
        [hyper.astype(np.int8)[None], exact.space_to_depth(pixels, STRIDE)],
        tile=TILE // STRIDE,
        halo=HALO // STRIDE,
        scales=[HYPER_STRIDE // STRIDE, 1],
    )[0]
    return Prior(both[: model.channels], both[model.channels :].astype(np.uint8))


def synthesise(
    known: Prior, node: Integers, prediction: Pixels, model: TextureModel, convolve: Conv2d = conv2d
) -> Pixels:
    """Return the padded picture (H, W, 3) from the node that each latent reached and a padded prediction."""
    pixels = np.ascontiguousarray(prediction.transpose(2, 0, 1))[None]

    def tile(mean: Integers, scale: Integers, reached: Integers, picture: Integers) -> Pixels:
        layers = model.layers
        value = mean + model.trees.value[scale, reached].astype(np.int32)
        latent = np.clip(value, -LATENT_TOP, LATENT_TOP).astype(np.float32)
        at_8, at_16 = _context(picture.astype(np.float32), model, convolve)
        x = convolve(latent, layers["synthesis.enter"])
        x = convolve(np.concatenate([x, at_16], 1), layers["synthesis.at_16.0"])
        x = _residual(x, "synthesis.at_16.1", model, convolve)
        x = exact.depth_to_space(convolve(x, layers["synthesis.up_8"]), 2)
        x = convolve(np.concatenate([x, at_8], 1), layers["synthesis.at_8.0"])
        x = _residual(x, "synthesis.at_8.1", model, convolve)
        x = exact.depth_to_space(convolve(x, layers["synthesis.up_4"]), 2)
        x = _residual(x, "synthesis.at_4", model, convolve)
        residual = exact.depth_to_space(convolve(x, layers["synthesis.finish"]), 4)
        return exact.add_clip(residual, picture.astype(np.float32), 0, 255).astype(np.uint8)

    result = exact.tiled(
        tile,
        [known.mean[None], known.scale[None], node[None], pixels],
        tile=TILE,
        halo=HALO,
        scales=[STRIDE, STRIDE, STRIDE, 1],
    )
    return np.ascontiguousarray(result[0].transpose(1, 2, 0))


def _context(picture: Map, model: TextureModel, convolve: Conv2d) -> tuple[Map, Map]:
    at_8 = convolve(exact.space_to_depth(picture, 4), model.layers["context.to_8"])
    return at_8, convolve(at_8, model.layers["context.to_16"])


def _residual(x: Map, name: str, model: TextureModel, convolve: Conv2d) -> Map:
    inner = convolve(x, model.layers[f"{name}.first"])
    return exact.add_clip(x, convolve(inner, model.layers[f"{name}.second"]), 0, ACTIVATION_TOP)


def groups(
    hyper: Integers, latent: Integers, known: Prior, model: TextureModel, last_rank: int
) -> list[Group]:
    """Return what the stream codes, in order: the hyper-latent (Z, h, w), then trits of latents up to a rank.

    ``latent`` (C, h, w) are integers, the offset from the mean in steps, clipped to the range of each tree.
    """
    coded: list[Group] = [
        (plane.ravel() + CODE_TOP, table) for plane, table in zip(hyper, model.hyper, strict=True)
    ]
    flat, trees = latent.ravel(), model.trees

    def trits(positions: Integers, states: Integers) -> Integers:
        chosen = trees.trits(flat[positions], states)
        coded.append((chosen.astype(np.uint8), trees.coders.pick(states)))
        return chosen

    trees.walk(known.scale.ravel(), trits, last_rank)
    return coded


def decode(words: bytes, prediction: Pixels, model: TextureModel, convolve: Conv2d = conv2d) -> Pixels:
    """Return the picture (H, W, 3) that the words of a stream, or the first of them, make of its prediction.

    A stream that ends inside the hyper-latent leaves the prediction as it is.  Raises CorruptError if there
    are words after its last symbol.
    """
    height, width = prediction.shape[:2]
    decoder = EmbeddedDecoder(words)
    shape = hyper_shape(height, width, model)
    planes: list[Integers] = []
    for table in model.hyper:
        planes.append(decoder.take(shape[1] * shape[2], table))
        if planes[-1].size < shape[1] * shape[2]:
            return prediction
    hyper = np.array(planes).reshape(shape) - CODE_TOP
    base = padded(prediction)
    known = prior(hyper, base, model, convolve)
    node = model.trees.walk(
        known.scale.ravel(), lambda _, states: decoder.take(states.size, model.trees.coders.pick(states))
    )
    decoder.finish()
    picture = synthesise(known, node.reshape(known.scale.shape), base, model, convolve)
    return np.ascontiguousarray(picture[:height, :width])
