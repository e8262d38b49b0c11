from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import noise, waves
from test_exact_torch import torch_settings

from facecodec import enhancement, exact, texture, weights
from facecodec.enhancement import Order, decode, settled
from facecodec.entropy import LEAF
from facecodec.errors import CorruptError, WeightsError
from facecodec.exact import conv2d
from facecodec.networks import exact_torch
from facecodec.texture import hyper_shape, prior, reviewed


@pytest.fixture(scope="module")
def model():
    return texture.load(weights.newest("texture"))


def at_once(prediction):
    """Return delays of blocks of which none is put off."""
    return np.zeros([-(-size // 16) for size in prediction.shape[:2]], np.uint8)


def latents(model, height, width, seed=0):
    """Return a hyper-latent and a latent of a picture."""
    rng = np.random.default_rng(seed)
    hyper = rng.integers(-3, 4, hyper_shape(height, width, model))
    shape = len(model.top), -(-height // 16), -(-width // 16)
    latent = np.round(rng.laplace(0, 8, shape)).astype(np.int16)
    return hyper, latent


def put_off(model, height, width, seed=0):
    """Return random delays of the blocks of a picture."""
    shape = -(-height // 16), -(-width // 16)
    return np.random.default_rng(seed).choice(model.regions.ravel(), shape)


def told(known, node, delay, model, convolve=conv2d):
    """Return the scales that a decoder has been told of when its latents have reached these nodes."""
    scale, delay = known.scale, np.broadcast_to(delay, known.scale.shape[1:])
    for turn in model.reviews:
        before = node.copy()
        model.trees.climb(known.scale.ravel(), delay.ravel(), before.reshape(-1), turn - 1)
        if np.array_equal(before, node):
            break
        scale = reviewed(known.scale, before, delay, turn, model, convolve)
    return scale


def synthesise(known, node, prediction, model, *, delay, order=Order.ALIKE, convolve=conv2d):
    """Return the picture of latents at these nodes and a prediction, which stays as it is."""
    picture = prediction.copy()
    depth = enhancement.depths(known.scale, node, delay, model)
    last = texture.Prior(known.mean, told(known, node, delay, model, convolve))
    texture.synthesise(settled(last, node, model, order), depth, picture, model, convolve)
    return picture


def everything(model, prediction, seed=0, *, delay=None, convolve=conv2d):
    """Return the prior and the fully refined picture of random latents."""
    hyper, latent = latents(model, *prediction.shape[:2], seed)
    known = prior(hyper, prediction, model, convolve)
    delay = at_once(prediction) if delay is None else delay
    node = model.trees.leaves(latent.ravel(), known.scale.ravel()).reshape(latent.shape)
    return known, synthesise(known, node, prediction, model, delay=delay, convolve=convolve)


def encode(hyper, latent, known, delay, model, last_turn):
    """Return the stream of latents up to a turn."""
    leaf = model.trees.leaves(latent.ravel(), known.scale.ravel()).reshape(latent.shape)
    model.trees.climb(known.scale.ravel(), delay.ravel(), leaf.reshape(-1), last_turn)
    return enhancement.encode(hyper, leaf, known.scale, delay, model)


def digest(*arrays):
    return [hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest() for array in arrays]


def digests(model, prediction, convolve=conv2d):
    known, picture = everything(model, prediction, convolve=convolve)
    return digest(known.mean, known.scale, picture)


@given(st.integers(1, 150), st.integers(1, 150), st.integers(0, 2), st.integers(0, 2))
def test_pictures_go_on_with_their_last_row_and_column(height, width, top, left):
    picture = noise(height, width)
    grid = exact.places(-(-height // 64), -(-width // 64))
    top, left = min(top, grid.shape[2] - 1), min(left, grid.shape[3] - 1)
    part = exact.around(picture, grid[:, :, top:, left:], 64)
    rows, columns = (
        start + indices
        for start, indices in zip((64 * top, 64 * left), np.indices(part.shape[2:]), strict=True)
    )
    assert (part.dtype, part.flags.c_contiguous) == (np.float32, True)
    assert np.array_equal(
        part[0].transpose(1, 2, 0), picture[rows.clip(0, height - 1), columns.clip(0, width - 1)]
    )


@settings(max_examples=6)
@given(height=st.integers(1, 80), width=st.integers(1, 80), seed=st.integers(0, 99))
def test_the_stream_decodes_to_the_synthesis_of_its_latents(model, height, width, seed):
    prediction = waves(height, width, seed)
    hyper, latent = latents(model, height, width, seed)
    for delay in (at_once(prediction), put_off(model, height, width, seed)):
        known, picture = everything(model, prediction, seed, delay=delay)
        words = encode(hyper, latent, known, delay, model, LEAF - 1)
        assert np.array_equal(decode(words, prediction, delay, model), picture)


@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize("order", Order)
def test_a_stream_that_stops_at_a_turn_decodes_to_the_nodes_reached(model, seed, order):
    prediction = waves(60, 70)
    hyper, latent = latents(model, 60, 70)
    known = prior(hyper, prediction, model)
    delay = at_once(prediction) if seed is None else put_off(model, 60, 70, seed)
    turns, seen = model.trees.turns(delay), set()
    for last_turn in turns[:: len(turns) // 5]:
        node = model.trees.leaves(latent.ravel(), known.scale.ravel())
        model.trees.climb(known.scale.ravel(), delay.ravel(), node, last_turn)
        words = encode(hyper, latent, known, delay, model, last_turn)
        seen.add(len(words))
        node = node.reshape(latent.shape)
        picture = synthesise(known, node, prediction, model, delay=delay, order=order)
        assert np.array_equal(decode(words, prediction, delay, model, order=order), picture)
    assert len(seen) > 2


@given(st.data())
def test_by_regions_what_is_undecided_counts_half_of_its_mean(model, data):
    tree = data.draw(st.integers(0, len(model.trees.planes) - 1))
    planes = int(model.trees.planes[tree])
    trits = data.draw(st.lists(st.sampled_from([1, 1, 1, 0, 2]), max_size=planes))
    mean = data.draw(st.integers(-200, 200))
    node = 0
    for trit in trits:
        node = 3 * node + 1 + trit
    shape = len(model.top), 1, 1
    known = texture.Prior(np.full(shape, mean, np.int16), np.full(shape, tree, np.uint8))
    at = np.full(shape, node, np.uint16)
    plain, by_regions = (
        settled(known, at, replace(model, top=8191 + 0 * model.top), o)[0, 0, 0] for o in Order
    )
    undecided = set(trits) <= {1} and planes - len(trits) >= 4
    assert by_regions - plain == (mean // 2 - mean if undecided else 0)


def test_what_is_put_off_is_refined_later(model):
    prediction = waves(64, 64)
    hyper, latent = latents(model, 64, 64)
    known = prior(hyper, prediction, model)
    delay = np.zeros((4, 4), np.uint8)
    delay[:, 2:] = LEAF - 1 - model.trees.last_rank
    words = encode(hyper, latent, known, delay, model, LEAF - 1)
    alike = encode(hyper, latent, known, at_once(prediction), model, LEAF - 1)
    half = len(words) // 2 // 4 * 4

    def error(stream, late):
        picture = decode(stream[:half], prediction, late, model).astype(int)
        whole = decode(stream, prediction, late, model)
        return np.abs(picture - whole).reshape(64, 2, 32, 3).mean((0, 2, 3))

    near, far = error(words, delay)
    assert near < min(error(alike, at_once(prediction))[0], far)


@pytest.mark.parametrize("change", ["shape", "sum"])
def test_regions_that_do_not_fit_are_refused(change, monkeypatch):
    file = weights.load(weights.newest("texture"))
    regions = file["regions"][:-1] if change == "shape" else file["regions"].copy()
    if change == "sum":
        regions[3, 4] = LEAF - texture.load(file.name).trees.last_rank
    wrong = replace(file, tensors=file.tensors | {"regions": regions})
    monkeypatch.setattr(weights, "load", lambda _: wrong)
    with pytest.raises(WeightsError, match="regions" if change == "shape" else "put off by more"):
        texture.load("wrong")


def test_a_stream_that_ends_in_the_hyper_latent_leaves_the_prediction(model):
    prediction = waves(70, 40)
    hyper, latent = latents(model, 70, 40)
    known = prior(hyper, prediction, model)
    only = len(encode(hyper, latent, known, at_once(prediction), model, -1))
    words = encode(hyper, latent, known, at_once(prediction), model, LEAF - 1)
    for size in (0, 1, 4, 8, 12, only // 2, only - 12):
        assert np.array_equal(decode(words[:size], prediction, at_once(prediction), model), prediction)
    assert not np.array_equal(decode(words[: only + 40], prediction, at_once(prediction), model), prediction)


def test_words_after_the_last_symbol_are_corrupt(model):
    prediction = waves(20, 30)
    hyper, latent = latents(model, 20, 30)
    known = prior(hyper, prediction, model)
    words = encode(hyper, latent, known, at_once(prediction), model, LEAF - 1)
    with pytest.raises(CorruptError, match="does not end where its last symbol does"):
        decode(words + b"\1\2\3\4", prediction, at_once(prediction), model)
    with pytest.raises(CorruptError, match="first word"):
        decode(bytes(4) + words, prediction, at_once(prediction), model)


def test_torch_numpy_threads_and_onednn_give_the_same_picture(model):
    prediction = waves(150, 90)
    expected = digests(model, prediction)
    for threads, onednn in product((1, 2), (True, False)):
        with torch_settings(threads, onednn):
            assert digests(model, prediction, exact_torch.conv2d) == expected


def test_tiles_make_the_picture_of_the_whole(model, monkeypatch):
    prediction = noise(330, 400)
    whole = digests(model, prediction, exact_torch.conv2d)
    monkeypatch.setattr(texture, "TILE", 64)
    assert digests(model, prediction, exact_torch.conv2d) == whole
    too_near = digests(replace(model, halo=0), prediction, exact_torch.conv2d)
    assert all(part != other for part, other in zip(too_near, whole, strict=True))


def test_nothing_beyond_the_halo_changes_a_tile(model):
    base, inside = noise(448, 448), slice(192, 256)
    hyper, latent = latents(model, 448, 448)
    known = prior(hyper, base, model)
    node, delay = np.minimum(np.abs(latent), 3).astype(np.uint16), at_once(base)

    def made(node, prediction):
        picture = prediction.copy()
        depth = enhancement.depths(known.scale, node, delay, model)
        texture.synthesise(settled(known, node, model), depth, picture, model)
        return picture

    picture, scale = made(node, base), reviewed(known.scale, node, delay, 100, model)

    def near(changed, grid):
        rows, columns = np.nonzero(changed)
        assert grid * min(rows.min(), columns.min()) >= inside.start - model.halo
        assert grid * (1 + max(rows.max(), columns.max())) <= inside.stop + model.halo

    other = base.copy()
    other[inside, inside] ^= 255
    moved = hyper.copy()
    moved[:, 3, 3] = -hyper[:, 3, 3] - 1
    for again in (prior(hyper, other, model), prior(moved, base, model)):
        near(((again.mean != known.mean) | (again.scale != known.scale)).any(0), 16)
    refined = node.copy()
    refined[:, 12:16, 12:16] = 3 - refined[:, 12:16, 12:16]
    for again in (made(node, other), made(refined, base)):
        near((again != picture).any(2), 1)
    near((reviewed(known.scale, refined, delay, 100, model) != scale).any(0), 16)


def reach(model):
    """Return how far the kernels reach, in pixels: along the longest way from an input to the picture."""

    def along(*steps):
        return sum(len(model.layers[name].bands) // 2 * grid for name, grid in steps)

    context = along(("context.to_8", 8), ("context.to_16", 16))
    hyper = along(("prior.from_64", 64), ("prior.from_32", 32), ("prior.from_16", 16))
    refine = (("prior.refine.first", 16), ("prior.refine.second", 16))
    ends = along(("prior.mix", 16), *refine, ("prior.mean", 16), ("prior.scale", 16))
    synthesis = along(
        ("synthesis.enter", 16),
        ("synthesis.at_16.0", 16),
        ("synthesis.at_16.1.first", 16),
        ("synthesis.at_16.1.second", 16),
        ("synthesis.at_16.2.first", 16),
        ("synthesis.at_16.2.second", 16),
        ("synthesis.up_8", 16),
        ("synthesis.at_8.0", 8),
        ("synthesis.at_8.1.first", 8),
        ("synthesis.at_8.1.second", 8),
        ("synthesis.up_4", 8),
        ("synthesis.at_4.0", 4),
        ("synthesis.at_4.1.first", 4),
        ("synthesis.at_4.1.second", 4),
        ("synthesis.finish", 4),
    )
    return max(ends + max(context, hyper), synthesis + context)


def test_the_halo_is_as_wide_as_the_kernels_reach(model):
    assert model.halo % 64 == 0
    assert reach(model) <= model.halo < reach(model) + 64 + 12
