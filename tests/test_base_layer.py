from __future__ import annotations

import hashlib
import math
import struct
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_exact_torch import torch_settings
from torch.nn.functional import interpolate

from facecodec import base_layer, weights
from facecodec.base_layer import (
    Faces,
    decode_appearance,
    decode_faces,
    embeddings,
    encode_appearance,
    encode_faces,
    previews,
)
from facecodec.errors import CorruptError, FscError, UnsupportedError
from facecodec.geometry import Geometry
from facecodec.networks import exact_torch


@pytest.fixture(scope="module")
def model():
    return base_layer.load(weights.newest("base"))


def codes(seed, count, size, top=15):
    return np.random.default_rng(seed).integers(-top, top + 1, (count, size))


PLACE = Geometry(30_000, 34_000, 6, 6500, 900)
seeds = st.integers(0, 2**32)


@given(seed=seeds, count=st.integers(0, 5))
def test_faces_are_read_as_they_were_written(model, seed, count):
    faces = Faces((PLACE,) * count, codes(seed, count, 256))
    payload = encode_faces(faces, model)
    assert payload[:2] == bytes([0, count])
    read = decode_faces(payload, model)
    assert read.geometries == faces.geometries
    assert read.identity.tolist() == faces.identity.tolist()


@given(seed=seeds)
def test_an_aligned_face_has_no_geometry(model, seed):
    faces = Faces((None,), codes(seed, 1, 256, 3))
    payload = encode_faces(faces, model)
    assert payload[:2] == bytes([1, 1])
    assert len(payload) == len(encode_faces(Faces((PLACE,), faces.identity), model)) - 8
    read = decode_faces(payload, model)
    assert read.geometries == (None,)
    assert read.identity.tolist() == faces.identity.tolist()


@given(seed=seeds, count=st.integers(0, 5))
def test_appearances_are_read_as_they_were_written(model, seed, count):
    appearance = codes(seed, count, 256, 63)
    payload = encode_appearance(appearance, model)
    assert decode_appearance(payload, count, model).tolist() == appearance.tolist()
    with pytest.raises(CorruptError, match="does not end where its last symbol does"):
        decode_appearance(encode_appearance(codes(seed, count + 1, 256, 63), model), count, model)


def test_faces_that_break_a_rule_are_refused_by_name(model):
    whole = encode_faces(Faces((PLACE, PLACE), codes(0, 2, 256)), model)
    words = whole[18:]
    for payload, error, message in (
        (b"", CorruptError, "no face count"),
        (b"\0", CorruptError, "no face count"),
        (b"\2" + whole[1:], UnsupportedError, "unknown flags 0x02"),
        (b"\x81" + whole[1:], UnsupportedError, "unknown flags 0x81"),
        (b"\1" + whole[1:], CorruptError, "an aligned picture has one face, not 2"),
        (b"\1\0" + words, CorruptError, "an aligned picture has one face, not 0"),
        (whole[:17], CorruptError, "ends inside its geometry"),
        (whole + words[:4], CorruptError, "does not end where"),
        (whole[:2] + bytes(16) + words, CorruptError, None),
        (whole[:18] + bytes(2) + words, CorruptError, "more than one byte of 0"),
    ):
        with pytest.raises(error, match=message):
            decode_faces(payload, model)


@given(data=st.binary(max_size=90))
def test_hostile_faces_and_appearances_decode_or_are_refused(model, data):
    for read, top in (
        (lambda: decode_faces(data, model).identity, 15),
        (lambda: decode_appearance(data, 1, model), 63),
    ):
        try:
            result = read()
        except FscError:
            continue
        assert np.abs(result).max(initial=0) <= top


@given(seeds)
def test_embeddings_are_the_codes_at_unit_length_rounded_once(seed):
    identity = codes(seed, 3, 256)
    identity[1] = 0
    result = embeddings(identity)
    assert result.dtype == np.float32
    for row, code in zip(result, identity.tolist(), strict=True):
        norm = max(1.0, math.sqrt(sum(c * c for c in code)))
        assert row.tobytes() == struct.pack("<256f", *(c / norm for c in code))
    assert np.linalg.norm(result[[0, 2]].astype(float), axis=1) == pytest.approx(1, abs=1e-6)
    assert not result[1].any()


def digest(array):
    assert array.flags.c_contiguous
    return hashlib.sha256(array.tobytes()).hexdigest()


def test_previews_are_the_same_in_batches_alone_and_in_torch(model):
    identity, appearance = codes(1, 8, 256), codes(2, 8, 256, 63)
    together = previews(identity, appearance, model)
    assert (together.shape, together.dtype) == ((8, 64, 64, 3), np.uint8)
    assert together.std() > 1
    alone = [previews(identity[i : i + 1], appearance[i : i + 1], model) for i in range(8)]
    assert digest(np.concatenate(alone)) == digest(together)
    for threads, onednn in product((1, 2), (True, False)):
        with torch_settings(threads, onednn):
            assert digest(previews(identity, appearance, model, exact_torch.conv2d)) == digest(together)


def test_both_codes_show_in_the_preview(model):
    identity, appearance = codes(1, 1, 256, 6), codes(2, 1, 256, 6)
    shown = previews(identity, appearance, model)
    assert not np.array_equal(previews(-identity, appearance, model), shown)
    assert not np.array_equal(previews(identity, -appearance, model), shown)


def test_without_faces_there_are_no_previews(model):
    assert previews(np.empty((0, 256)), np.empty((0, 256)), model).shape == (0, 64, 64, 3)


@given(seed=seeds, height=st.integers(1, 6), width=st.integers(1, 6))
def test_doubling_is_bilinear_with_halves_up(seed, height, width):
    small = np.random.default_rng(seed).integers(0, 256, (2, 3, height, width)).astype(np.float32)
    exact = interpolate(torch.from_numpy(small).double(), scale_factor=2, mode="bilinear").numpy()
    assert np.array_equal(base_layer.doubled(small), np.floor(exact + 0.5))


def test_reading_features_builds_no_generator():
    file = weights.load(weights.newest("base"))
    fresh = base_layer._load.__wrapped__(file)
    decode_faces(encode_faces(Faces((None,), codes(0, 1, 256)), fresh), fresh)
    assert "generator" not in vars(fresh)
    assert fresh.generator is fresh.generator


def test_verdicts_rise_with_the_cosine_and_fall_in_false_matches(model):
    cosines, rates = model.verdicts.T
    assert (np.diff(cosines) >= 0).all()
    assert (np.diff(rates) < 0).all()
