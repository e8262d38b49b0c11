from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facecodec import exact
from facecodec.errors import WeightsError
from facecodec.exact import LIMIT, Layer

SEEDS = st.integers(0, 2**32 - 1)


def slow_conv2d(
    x: Any, weight: Any, bias: Any, shift: Any, lo: int, hi: int, stride: int
) -> np.ndarray[Any, Any]:
    """The definition, in 64-bit integers and one tap at a time."""
    batch, _, height, width = x.shape
    outputs, _, kernel, _ = weight.shape
    pad = kernel // 2
    padded = np.pad(x.astype(np.int64), ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    acc = np.zeros((batch, outputs, -(-height // stride), -(-width // stride)), np.int64)
    for ky in range(kernel):
        for kx in range(kernel):
            taps = padded[:, :, ky : ky + height : stride, kx : kx + width : stride]
            acc += np.einsum("nchw,oc->nohw", taps, weight[:, :, ky, kx].astype(np.int64))
    half = np.where(shift > 0, 1 << np.maximum(shift - 1, 0), 0)
    return np.clip((acc + (bias + half)[:, None, None]) >> shift[:, None, None], lo, hi)


def random_case(
    seed: int, shape: tuple[int, int, int, int], outputs: int, kernel: int, stride: int
) -> tuple[np.ndarray[Any, Any], Layer, np.ndarray[Any, Any]]:
    """An input, a layer whose proof has no room to spare, and the right answer."""
    rng = np.random.default_rng(seed)
    bound = int(rng.integers(1, 4096))
    most = (LIMIT // 2) // (bound * shape[1] * kernel * kernel)
    x = rng.integers(-bound, bound + 1, shape)
    weight = rng.integers(-most, most + 1, (outputs, shape[1], kernel, kernel), dtype=np.int32)
    bias = rng.integers(-(1 << 20), 1 << 20, outputs, dtype=np.int32)
    shift = rng.integers(0, 23, outputs)
    lo, hi = sorted(int(v) for v in rng.integers(-70_000, 70_000, 2))
    layer = Layer.from_integers(weight, bias, shift, input_bound=bound, lo=lo, hi=hi, stride=stride)
    return x.astype(np.float32), layer, slow_conv2d(x, weight, bias, shift, lo, hi, stride)


@given(
    seed=SEEDS,
    shape=st.tuples(st.integers(0, 3), st.integers(1, 9), st.integers(1, 12), st.integers(1, 12)),
    outputs=st.integers(1, 9),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.sampled_from([1, 2]),
)
def test_conv2d_is_the_integer_convolution(
    seed: int, shape: tuple[int, int, int, int], outputs: int, kernel: int, stride: int
) -> None:
    x, layer, expected = random_case(seed, shape, outputs, kernel, stride)
    result = exact.conv2d(x, layer)
    assert result.dtype == np.float32
    assert np.array_equal(result, expected)
    assert not np.signbit(result[result == 0]).any()


@given(
    seed=SEEDS,
    shape=st.tuples(st.integers(0, 3), st.integers(1, 9), st.integers(1, 12), st.integers(1, 12)),
    outputs=st.integers(1, 9),
    stride=st.sampled_from([1, 2]),
)
def test_onto_another_map_it_is_the_sum_of_both(
    seed: int, shape: tuple[int, int, int, int], outputs: int, stride: int
) -> None:
    x, layer, expected = random_case(seed, shape, outputs, 3, stride)
    onto = np.random.default_rng(seed).integers(0, 256, expected.shape).astype(np.uint8)
    assert np.array_equal(exact.conv2d(x, layer, onto), (onto + expected).clip(0, 255))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("columns", [1, 200, 5000])
def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch, stride: int, columns: int) -> None:
    x, layer, expected = random_case(3, (2, 7, 21, 13), 5, 5, stride)
    monkeypatch.setattr(exact, "_COLUMNS", columns)
    assert np.array_equal(exact.conv2d(x, layer), expected)


def test_rounding_by_hand() -> None:
    layer = Layer.from_integers(
        np.ones((1, 1, 1, 1), np.int8), np.zeros(1, np.int8), np.array([1]), input_bound=5, lo=-2, hi=2
    )
    x = np.array([-5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5], np.float32)
    assert exact.conv2d(x[None, None, None], layer).tolist() == [[[[-2, -2, -1, -1, 0, 0, 1, 1, 2, 2, 2]]]]


def test_sums_just_below_the_limit_are_exact() -> None:
    weight = np.full((1, 1, 3, 3), 1, np.int32)
    layer = Layer.from_integers(
        weight, np.array([LIMIT - 1 - 9 * 1000]), np.array([0]), input_bound=1000, lo=0, hi=LIMIT - 1
    )
    x = np.full((1, 1, 3, 3), 1000, np.float32)
    assert exact.conv2d(x, layer)[0, 0, 1, 1] == LIMIT - 1


@given(seed=SEEDS, slack=st.sampled_from([-1, 0, 1]), shift=st.integers(0, 24))
def test_the_proof_is_tight(seed: int, slack: int, shift: int) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.integers(-100, 100, (3, 4, 3, 3), dtype=np.int16)
    bound = rng.integers(0, 100, 4)
    half = (1 << shift) >> 1
    room = LIMIT - half - (np.abs(weight.astype(np.int64)).sum((2, 3)) * bound).sum(1)
    bias = np.where(np.arange(3) == 1, room + slack, 0)
    arguments: dict[str, Any] = {"input_bound": bound, "lo": -5, "hi": 9, "name": "synthesis.3"}
    if slack < 0:
        layer = Layer.from_integers(weight, bias, np.full(3, shift), **arguments)
        assert layer.bound == 9
        assert np.array_equal(layer.weight, weight / 2**shift)
    else:
        with pytest.raises(WeightsError, match=f"synthesis.3: channel 1: sums may reach {LIMIT + slack}"):
            Layer.from_integers(weight, bias, np.full(3, shift), **arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": np.ones((2, 3, 3, 3))}, "must be integers"),
        ({"input_bound": 1.5}, "must be integers"),
        ({"weight": np.ones((2, 3, 3), np.int8)}, "shape"),
        ({"weight": np.ones((2, 3, 2, 2), np.int8)}, "k odd"),
        ({"weight": np.ones((2, 3, 3, 1), np.int8)}, "k odd"),
        ({"weight": np.ones((2, 0, 3, 3), np.int8)}, "shape"),
        ({"weight": np.full((2, 3, 3, 3), 2**31 - 1)}, "channel 0: sums"),
        ({"weight": np.full((2, 3, 3, 3), -(2**63))}, "channel 0: sums"),
        ({"bias": np.zeros(3, np.int8)}, "do not match"),
        ({"bias": np.array([0, -(2**63)])}, "channel 1: sums"),
        ({"shift": np.zeros((), np.int8)}, "do not match"),
        ({"shift": np.array([3, 25])}, "channel 1: shift 25"),
        ({"shift": np.array([-1, 0])}, "channel 0: shift -1"),
        ({"input_bound": np.ones(2, np.int8)}, "do not match"),
        ({"input_bound": np.array([1, -1, 1])}, "negative"),
        ({"stride": 3}, "stride 3"),
        ({"lo": 4, "hi": 3}, "range 4..3"),
        ({"hi": LIMIT}, "range"),
        ({"lo": -LIMIT}, "range"),
    ],
)
def test_unsound_layers_are_refused(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "weight": np.ones((2, 3, 3, 3), np.int8),
        "bias": np.zeros(2, np.int8),
        "shift": np.zeros(2, np.uint8),
        "input_bound": 7,
        "lo": -5,
        "hi": 5,
        "name": "trunk.0",
    }
    Layer.from_integers(**arguments)
    with pytest.raises(WeightsError, match=f"trunk.0: .*{message}"):
        Layer.from_integers(**{**arguments, **change})


@pytest.mark.parametrize("dtype", np.typecodes["AllInteger"])
@pytest.mark.parametrize("end", ["min", "max"])
def test_the_proof_does_not_wrap_at_the_ends_of_integer_types(dtype: str, end: str) -> None:
    extreme = int(getattr(np.iinfo(dtype), end))
    weight, zero = np.full((1, 2, 1, 1), extreme, dtype), np.zeros(1, dtype)
    most = (LIMIT - 1) // max(1, 2 * abs(extreme))
    Layer.from_integers(weight, zero, zero, input_bound=most, lo=0, hi=1)
    if extreme:
        with pytest.raises(WeightsError, match="channel 0: sums"):
            Layer.from_integers(weight, zero, zero, input_bound=most + 1, lo=0, hi=1)
        with pytest.raises(WeightsError, match="channel 0: sums"):
            Layer.from_integers(weight, zero, zero, input_bound=np.iinfo(np.uint64).max, lo=0, hi=1)
    if abs(extreme) >= LIMIT:
        with pytest.raises(WeightsError, match="channel 0: sums"):
            Layer.from_integers(np.zeros_like(weight), zero + extreme, zero, input_bound=0, lo=0, hi=1)


def test_linear_is_a_matrix_product() -> None:
    rng = np.random.default_rng(0)
    weight, x = rng.integers(-9, 9, (5, 7, 1, 1)), rng.integers(-9, 9, (4, 7))
    layer = Layer.from_integers(weight, np.arange(5), np.zeros(5, np.int8), input_bound=9, lo=-9999, hi=9999)
    result = exact.linear(x.astype(np.float32), layer)
    assert np.array_equal(result, x @ weight[:, :, 0, 0].T + np.arange(5))
    assert exact.linear(np.zeros((0, 7), np.float32), layer).shape == (0, 5)


@given(
    shape=st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
    factor=st.sampled_from([2, 4]),
)
def test_depth_and_space_are_inverse(shape: tuple[int, int, int, int], factor: int) -> None:
    batch, channels, height, width = shape
    x = np.arange(batch * channels * factor**2 * height * width, dtype=np.float32)
    deep = x.reshape(batch, channels * factor**2, height, width)
    wide = exact.depth_to_space(deep, factor)
    assert wide.shape == (batch, channels, height * factor, width * factor)
    assert np.array_equal(exact.space_to_depth(wide, factor), deep)
    for i, j in np.ndindex(factor, factor):
        assert np.array_equal(wide[:, :, i::factor, j::factor], deep[:, i * factor + j :: factor**2])


def test_upsample2_and_add_clip() -> None:
    x = np.array([[[[1, 2]]]], np.float32)
    assert exact.upsample2(x).tolist() == [[[[1, 1, 2, 2], [1, 1, 2, 2]]]]
    assert exact.add_clip(x, np.array([[[[-9, 5]]]], np.float32), -3, 6).tolist() == [[[[-3, 6]]]]


def small_network(latent: np.ndarray[Any, Any], picture: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Latents at 1/4 and a picture at 1/1 to a uint8 picture; nothing reaches further than 16 pixels."""
    rng = np.random.default_rng(5)

    def layer(outputs: int, inputs: int, kernel: int, stride: int = 1) -> Layer:
        weight = rng.integers(-9, 10, (outputs, inputs, kernel, kernel))
        return Layer.from_integers(
            weight,
            rng.integers(-99, 99, outputs),
            np.full(outputs, 4),
            input_bound=510,
            lo=-255,
            hi=255,
            stride=stride,
        )

    deep = exact.conv2d(picture.astype(np.float32), layer(6, 2, 3, 2))
    deep = exact.add_clip(exact.upsample2(latent), deep, -255, 255)
    deep = exact.conv2d(deep, layer(8, 6, 5))
    residual = exact.conv2d(exact.depth_to_space(deep, 2), layer(2, 2, 3))
    return exact.add_clip(picture.astype(np.float32), residual, 0, 255).astype(np.uint8)


def small_networks(latent, picture):
    return small_network(latent, picture), picture


@given(
    seed=SEEDS,
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    tile=st.sampled_from([4, 12, 16, 64]),
    halo=st.sampled_from([16, 20]),
)
def test_tiled_equals_whole(seed: int, size: tuple[int, int], tile: int, halo: int) -> None:
    rng = np.random.default_rng(seed)
    latent = rng.integers(-50, 50, (2, 6, *size)).astype(np.float32)
    picture = rng.integers(0, 256, (2, 2, 4 * size[0], 4 * size[1]), dtype=np.uint8)
    arrays = [latent, picture]
    result, same = exact.tiled(small_networks, arrays, tile=tile, halo=halo, scales=[4, 1])
    assert result.dtype == np.uint8
    assert np.array_equal(result, small_network(latent, picture))
    assert np.array_equal(same, picture)


@given(
    st.integers(0, 2**32),
    st.tuples(st.integers(1, 7), st.integers(1, 7)),
    st.sampled_from([4, 8, 12]),
    st.sampled_from([[1], [2, 4], [4, 1, 2]]),
)
def test_results_may_have_any_span(seed: int, size: tuple[int, int], tile: int, spans: list[int]) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (2, 3, 4 * size[0], 4 * size[1]), dtype=np.uint8)
    wanted = [pixels[:, :channels, ::span, ::span] for channels, span in enumerate(spans, 1)]

    def sampled(window: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.uint8]]:
        return [window[:, :channels, ::span, ::span] for channels, span in enumerate(spans, 1)]

    found = exact.tiled(sampled, [pixels], tile=tile, halo=4, scales=[1])
    strips = [*exact.strips(sampled, [pixels], tile=tile, halo=4, scales=[1])]
    assert [first for first, _ in strips] == [*range(0, 4 * size[0], tile)]
    stacked = [np.concatenate(parts, 2) for parts in zip(*(parts for _, parts in strips), strict=True)]
    for result, strip, expected in zip(found, stacked, wanted, strict=True):
        assert result.dtype == np.uint8
        assert np.array_equal(result, expected)
        assert np.array_equal(strip, expected)


def test_a_halo_that_is_too_small_shows() -> None:
    rng = np.random.default_rng(0)
    arrays = [
        rng.integers(-50, 50, (1, 6, 8, 8)).astype(np.float32),
        rng.integers(0, 256, (1, 2, 32, 32), dtype=np.uint8),
    ]
    whole = small_network(*arrays)
    tiled, _ = exact.tiled(small_networks, arrays, tile=8, halo=0, scales=[4, 1])
    assert not np.array_equal(tiled, whole)


@pytest.mark.parametrize(
    ("change", "shape"),
    [
        ({"tile": 6}, (1, 1, 8, 8)),
        ({"tile": 0}, (1, 1, 8, 8)),
        ({"halo": 2}, (1, 1, 8, 8)),
        ({}, (1, 1, 8, 9)),
        ({}, (1, 1, 7, 8)),
    ],
)
def test_tiles_that_do_not_fit_are_refused(change: dict[str, int], shape: tuple[int, ...]) -> None:
    arrays = [np.zeros((1, 1, 2, 2), np.float32), np.zeros(shape, np.float32)]
    with pytest.raises(ValueError, match="whole at every scale"):
        exact.tiled(lambda a, b: [b], arrays, **{"tile": 4, "halo": 4, "scales": [4, 1], **change})


def test_an_empty_picture_has_no_tiles() -> None:
    with pytest.raises(ValueError, match="empty"):
        exact.tiled(lambda a: [a], [np.zeros((1, 1, 0, 4), np.float32)], tile=4, halo=0, scales=[1])
