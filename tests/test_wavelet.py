from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facecodec import exact, wavelet
from facecodec.wavelet import BANDS, LEVELS, REACH, STRIDE, UNITS, analysed, synthesised

ROUNDING = 12
"""How far rounding of samples and of lifting may take a pixel, in 1/16 grey level: less than one."""
COARSE_ROUNDING = 32
"""How far that may take a sample, which gathers it from many pixels: half of a finest step."""
pictures = st.builds(
    lambda rows, columns, seed, ends: np.random.default_rng(seed).choice(
        [-255, 255] if ends else range(-255, 256), (3, STRIDE * rows, STRIDE * columns)
    ),
    st.integers(1, 6),
    st.integers(1, 6),
    st.integers(0, 2**32),
    st.booleans(),
)


def random_bands(rows, columns, seed=0, top=4000):
    rng = np.random.default_rng(seed)
    return [
        rng.integers(-top, top + 1, (bands, rows << level, columns << level))
        for level, bands in enumerate(BANDS)
    ]


@given(pictures)
def test_a_picture_comes_back_but_for_rounding(picture):
    bands = analysed(UNITS * picture)
    height, width = picture.shape[1:]
    assert [band.shape for band in bands] == [
        (count, height // STRIDE << level, width // STRIDE << level) for level, count in enumerate(BANDS)
    ]
    assert np.abs(synthesised(bands) - UNITS * picture).max() <= ROUNDING


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32))
def test_samples_come_back_but_for_rounding(rows, columns, seed):
    bands = random_bands(rows, columns, seed)
    for band, again in zip(bands, analysed(synthesised(bands)), strict=True):
        assert np.abs(again - band).max() <= COARSE_ROUNDING


@given(st.tuples(*[st.integers(-255, 255)] * 3))
def test_a_flat_picture_has_nothing_but_means(colour):
    bands = analysed(UNITS * np.broadcast_to(np.array(colour)[:, None, None], (3, 32, 48)))
    assert max(np.abs(band).max() for band in [bands[0][:9], *bands[1:]]) <= 6
    assert np.ptp(bands[0][9:], (1, 2)).max() <= 1


def test_without_samples_nothing_changes():
    assert not synthesised([0 * band for band in random_bands(2, 3)]).any()


@pytest.mark.parametrize("level", range(LEVELS))
def test_samples_weigh_as_those_of_an_orthonormal_transform_to_a_few_per_cent(level):
    for channel in range(BANDS[level]):
        bands = [0 * band for band in random_bands(16, 16)]
        bands[level][channel, 8 << level, 8 << level] = 100_000
        assert np.linalg.norm(synthesised(bands)) == pytest.approx(100_000, rel=0.08)


@pytest.mark.parametrize("level", range(LEVELS))
def test_a_sample_changes_nothing_beyond_its_reach(level):
    bands = random_bands(16, 16)
    before = synthesised(bands)
    bands[level][:, 8 << level, 8 << level] += 100_000
    rows, columns = np.nonzero((synthesised(bands) != before).any(0))
    first, last = 8 * STRIDE - REACH, 8 * STRIDE + (STRIDE >> level) + REACH
    assert first <= min(rows.min(), columns.min()) <= max(rows.max(), columns.max()) < last


@pytest.mark.parametrize("place", [0, 5, 15])
def test_a_pixel_changes_no_sample_beyond_its_reach(place):
    picture = np.random.default_rng(place).integers(-4000, 4001, (3, 16 * STRIDE, 16 * STRIDE))
    before, middle = analysed(picture), 8 * STRIDE + place
    picture[:, middle, middle] += 100_000
    for level, (band, again) in enumerate(zip(before, analysed(picture), strict=True)):
        span = STRIDE >> level
        for places in np.nonzero((again != band).any(0)):
            assert span * places.min() + span > middle - REACH
            assert span * places.max() <= middle + REACH


def test_tiles_change_nothing():
    bands = [band[None] for band in random_bands(12, 14)]
    whole = synthesised(bands)
    scales = [STRIDE >> level for level in range(LEVELS)]

    def tiled(halo):
        return exact.tiled(
            lambda *bands: [synthesised(bands)], bands, tile=2 * STRIDE, halo=halo, scales=scales
        )[0]

    assert np.array_equal(tiled(REACH), whole)
    assert not np.array_equal(tiled(STRIDE), whole)


def test_pictures_of_a_batch_know_nothing_of_each_other():
    several = [random_bands(2, 3, seed) for seed in range(3)]
    together = synthesised([np.stack(level) for level in zip(*several, strict=True)])
    for alone, picture in zip(several, together, strict=True):
        assert np.array_equal(synthesised(alone), picture)
    for band, again in zip(analysed(together[1]), analysed(together), strict=True):
        assert np.array_equal(band, again[1])


@given(st.integers(0, 2**32))
def test_the_largest_samples_do_not_overflow(seed):
    ends = [np.where(band < 0, -1, 1) for band in random_bands(3, 3, seed)]
    bands = [band * (210_000 // 3**level) for level, band in enumerate(ends)]
    exactly = wavelet.synthesised(bands).astype(np.float64)
    scaled = wavelet.synthesised([band // 100 for band in bands]) * 100.0
    assert np.abs(exactly - scaled).max() <= 100 * ROUNDING
