from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import noise, portrait, waves

from facecodec import residual, residual_fit
from facecodec.errors import CorruptError
from facecodec.rans import MAX_PRECISION
from facecodec.residual import (
    CHANNELS,
    CONTEXTS,
    LEFT,
    SIDE_BYTES,
    TABLES,
    UNIT,
    WEIGHTS,
    WINDOW,
    decode,
    encode,
    frequencies,
)
from facecodec.residual_fit import cheapest, encode_exact

sides = st.integers(1, 70)
WEIGHT_BYTES = SIDE_BYTES - 3 * CONTEXTS


@settings(max_examples=60)
@given(sides, sides, st.integers(0, 99), st.sampled_from([0, 1, 6, 60, 255]))
def test_the_very_pixels_come_back(height, width, seed, distance):
    pixels = waves(height, width, seed) if seed % 2 else noise(height, width, seed)
    rng = np.random.default_rng(seed)
    error = rng.integers(-distance, distance + 1, pixels.shape)
    decoded = ((pixels.astype(int) + error) % 256).astype(np.uint8)
    payload = encode_exact(pixels, decoded)
    assert np.array_equal(decode(payload, decoded), pixels)


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (1, 90), (90, 1), (2, 3), (3, 2)])
@pytest.mark.parametrize("levels", [(0, 255), (255, 0), (0, 0)])
def test_the_smallest_and_most_different_pictures_come_back(shape, levels):
    pixels, decoded = (np.full((*shape, 3), level, np.uint8) for level in levels)
    assert np.array_equal(decode(encode_exact(pixels, decoded), decoded), pixels)


@given(st.binary(min_size=WEIGHT_BYTES, max_size=WEIGHT_BYTES), st.integers(0, 9))
def test_any_weights_code_any_picture(side, seed):
    pixels, decoded = noise(9, 11, seed), waves(9, 11, seed)
    weights = np.frombuffer(side, np.int8).reshape(-1, WEIGHTS)
    payload = encode(pixels, decoded, weights, cheapest)
    assert payload[:WEIGHT_BYTES] == side
    assert np.array_equal(decode(payload, decoded), pixels)


def test_a_window_holds_what_is_known_and_the_decoded_pixel():
    fronts = [x + 2 * y for y, x in WINDOW]
    assert max(fronts[:-1]) < fronts[-1] == 0
    assert WINDOW[LEFT] == (0, -1)
    assert all(x + 2 * y < 0 for y, x in residual.FAILURES)


@given(sides, sides)
def test_the_fronts_hold_each_pixel_once(height, width):
    fronts = [residual._places(front, height, width) for front in residual._fronts(height, width)]
    rows, columns = np.divmod(np.concatenate(fronts), width + 4)
    pixels = sorted(zip((rows - 2).tolist(), (columns - 2).tolist(), strict=True))
    assert pixels == [(row, column) for row in range(height) for column in range(width)]


def test_where_nothing_is_missing_a_sample_costs_less_than_half_a_bit():
    pixels = waves(64, 64)
    assert len(encode_exact(pixels, pixels)) < SIDE_BYTES + pixels.size / 2 / 8


def test_neighbours_foretell_what_the_decoded_picture_lacks():
    pixels = portrait(96)
    nothing = np.full_like(pixels, 128)
    assert len(encode_exact(pixels, nothing)) < 0.75 * pixels.size
    assert len(encode_exact(pixels, pixels // 2 * 2)) < 0.5 * len(encode_exact(pixels, nothing))


def test_green_foretells_red_and_blue():
    common = np.random.default_rng(0).integers(0, 256, (48, 48, 1))
    grey = np.repeat(common, 3, 2).astype(np.uint8)
    apart = np.random.default_rng(0).integers(0, 256, (48, 48, 3)).astype(np.uint8)
    nothing = np.zeros_like(grey)
    assert len(encode_exact(grey, nothing)) < 0.4 * len(encode_exact(apart, nothing))


def test_the_weights_of_a_plane_are_found_again():
    """A plane that is made by weights is foretold by them, but for what rounding changes."""
    rng = np.random.default_rng(1)
    decoded = rng.integers(60, 196, (64, 64, 3)).astype(np.uint8)
    pixels = decoded.astype(int)
    for column in range(1, 64):
        pixels[:, column, 1] = (pixels[:, column, 1] + 3 * pixels[:, column - 1, 1] + 2) // 4
    weights = residual_fit.learnt(pixels.astype(np.uint8), decoded, CHANNELS.index(1))
    assert np.abs(weights[0] - [*[0] * (WEIGHTS - 1), UNIT // 4]).max() <= 1


@given(st.binary(max_size=300), st.booleans())
def test_hostile_payloads_decode_or_are_corrupt(data, fix):
    if fix:
        tables = bytes(byte % TABLES for byte in data[WEIGHT_BYTES:SIDE_BYTES])
        data = data[:WEIGHT_BYTES] + tables + data[SIDE_BYTES:]
    decoded = waves(9, 7)
    with suppress(CorruptError):
        assert decode(data, decoded).shape == decoded.shape


@pytest.mark.parametrize("at", [WEIGHT_BYTES, WEIGHT_BYTES + CONTEXTS, SIDE_BYTES - 1])
def test_a_table_that_does_not_exist_is_corrupt(at):
    pixels = waves(8, 8)
    payload = bytearray(encode_exact(pixels, pixels))
    payload[at] = TABLES
    with pytest.raises(CorruptError, match="a table that does not exist"):
        decode(bytes(payload), pixels)


def test_payloads_that_end_before_their_stream_or_late_are_corrupt():
    pixels, decoded = noise(12, 12), waves(12, 12)
    payload = encode_exact(pixels, decoded)
    for wrong in (payload[: SIDE_BYTES - 1], payload + bytes(4), payload + b"\1\2\3\4", b""):
        with pytest.raises(CorruptError):
            decode(wrong, decoded)


def test_a_stream_that_ends_early_is_corrupt_or_of_other_pixels():
    """The Check of its section tells them apart."""
    pixels, decoded = noise(12, 12), waves(12, 12)
    payload = encode_exact(pixels, decoded)
    for size in range(SIDE_BYTES, len(payload)):
        with suppress(CorruptError):
            assert not np.array_equal(decode(payload[:size], decoded), pixels)


@pytest.mark.parametrize("index", range(TABLES))
def test_the_tables_of_failures_are_two_sided_and_whole(index):
    shares = frequencies(index)
    assert shares.sum() == 1 << MAX_PRECISION
    assert shares.min() >= 1
    assert shares.argmax() == 128
    assert shares[1:128].tolist() == shares[:128:-1].tolist()
    assert (np.diff(shares[:129]) >= 0).all()


@pytest.mark.parametrize("first", [0, TABLES // 2])
def test_later_tables_of_a_kind_are_flatter(first):
    peaks = [frequencies(index)[128] for index in range(first, first + TABLES // 2)]
    assert peaks == sorted(peaks, reverse=True)


def test_each_context_takes_its_cheapest_table():
    pixels, decoded = waves(40, 40, 3), waves(40, 40, 3) // 2 + 60
    best = encode_exact(pixels, decoded)
    weights = np.frombuffer(best[:WEIGHT_BYTES], np.int8).reshape(-1, WEIGHTS)
    for other in (0, 13, TABLES - 1):
        worse = encode(pixels, decoded, weights, lambda counts, other=other: [other] * len(counts))
        assert len(worse) > len(best)
        assert np.array_equal(decode(worse, decoded), pixels)


@pytest.mark.parametrize("size", [1, 50, 1000])
def test_working_in_strips_changes_nothing(size, monkeypatch):
    pixels, decoded = noise(21, 33), waves(21, 33)
    payload = encode_exact(pixels, decoded)
    monkeypatch.setattr(residual, "SLICE", size)
    assert encode_exact(pixels, decoded) == payload
    assert np.array_equal(decode(payload, decoded), pixels)


def test_weights_learnt_from_a_part_of_the_rows_serve_all_of_them(monkeypatch):
    pixels = portrait(128)
    decoded = pixels // 32 * 32
    payload = encode_exact(pixels, decoded)
    monkeypatch.setattr(residual_fit, "SAMPLES", 2000)
    fewer = encode_exact(pixels, decoded)
    assert np.array_equal(decode(fewer, decoded), pixels)
    assert len(payload) < len(fewer) < 1.05 * len(payload)
