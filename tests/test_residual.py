from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import noise, waves

from facecodec import residual
from facecodec.errors import CorruptError
from facecodec.rans import MAX_PRECISION
from facecodec.residual import SHARES, SIDE_BYTES, TABLES, decode, encode_exact, frequencies

sides = st.integers(1, 70)


@settings(max_examples=40)
@given(sides, sides, st.integers(0, 99), st.sampled_from([0, 1, 6, 60, 255]))
def test_the_very_pixels_come_back(height, width, seed, distance):
    pixels = waves(height, width, seed) if seed % 2 else noise(height, width, seed)
    rng = np.random.default_rng(seed)
    error = rng.integers(-distance, distance + 1, pixels.shape)
    decoded = ((pixels.astype(int) + error) % 256).astype(np.uint8)
    payload = encode_exact(pixels, decoded)
    assert np.array_equal(decode(payload, decoded), pixels)


def test_where_nothing_is_missing_a_sample_costs_less_than_half_a_bit():
    pixels = waves(64, 64)
    assert len(encode_exact(pixels, pixels)) < SIDE_BYTES + pixels.size / 2 / 8


def test_green_foretells_red_and_blue():
    pixels = waves(48, 48)
    common = np.random.default_rng(0).integers(-9, 10, (48, 48, 1))
    near = encode_exact(pixels, (pixels.astype(int).clip(9, 246) - common).astype(np.uint8))
    apart = np.random.default_rng(0).integers(-9, 10, (48, 48, 3))
    far = encode_exact(pixels, (pixels.astype(int).clip(9, 246) - apart).astype(np.uint8))
    assert near[:2] == bytes([SHARES - 1] * 2)
    assert len(near) < 0.75 * len(far)


@given(st.binary(max_size=200), st.booleans())
def test_hostile_payloads_decode_or_are_corrupt(data, fix):
    if fix:
        data = bytes(min(byte, SHARES - 1) for byte in data[:SIDE_BYTES]) + data[SIDE_BYTES:]
    decoded = waves(9, 7)
    with suppress(CorruptError):
        assert decode(data, decoded).shape == decoded.shape


@pytest.mark.parametrize("at", [0, 1, 2, 9, 10, SIDE_BYTES - 1])
def test_a_table_or_share_that_does_not_exist_is_corrupt(at):
    pixels = waves(8, 8)
    payload = bytearray(encode_exact(pixels, pixels))
    payload[at] = SHARES if at < 2 else TABLES
    with pytest.raises(CorruptError, match="a table or a share that does not exist"):
        decode(bytes(payload), pixels)


def test_payloads_that_end_early_or_late_are_corrupt():
    pixels, decoded = noise(12, 12), waves(12, 12)
    payload = encode_exact(pixels, decoded)
    for wrong in (payload[: SIDE_BYTES - 1], payload[:-4], payload[:-1], payload + bytes(4), b""):
        with pytest.raises(CorruptError):
            decode(wrong, decoded)


@pytest.mark.parametrize("index", range(TABLES))
def test_the_tables_of_differences_are_two_sided_and_whole(index):
    shares = frequencies(index)
    assert shares.sum() == 1 << MAX_PRECISION
    assert shares.min() >= 1
    assert shares.argmax() == 128
    assert shares[1:128].tolist() == shares[:128:-1].tolist()
    assert (np.diff(shares[:129]) >= 0).all()


def test_later_tables_are_flatter():
    peaks = [frequencies(index)[128] for index in range(TABLES)]
    assert peaks == sorted(peaks, reverse=True)


def test_each_context_takes_its_cheapest_table(monkeypatch):
    pixels, decoded = waves(40, 40, 3), waves(40, 40, 3) // 2 + 60
    best = encode_exact(pixels, decoded)
    for other in (0, 13, TABLES - 1):
        monkeypatch.setattr(residual, "_best_table", lambda symbols, other=other: other)
        assert len(encode_exact(pixels, decoded)) > len(best)


@pytest.mark.parametrize("size", [1, 50, 1000])
def test_working_in_slices_changes_nothing(size, monkeypatch):
    pixels, decoded = noise(21, 33), waves(21, 33)
    payload = encode_exact(pixels, decoded)
    monkeypatch.setattr(residual, "SLICE", size)
    assert encode_exact(pixels, decoded) == payload
    assert np.array_equal(decode(payload, decoded), pixels)
