from __future__ import annotations

import hashlib
import struct
import tracemalloc
from fractions import Fraction
from math import floor, pi
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facecodec import geometry
from facecodec.errors import CorruptError
from facecodec.geometry import FACE, LANDMARKS, Geometry, delays, landmarks_and_box, place

SIDES = st.integers(1, 65_535)


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    e = draw(st.integers(0, 15))
    larger = draw(st.integers(4096 if e else 1, 8191)) * draw(st.sampled_from([-1, 1]))
    smaller = draw(st.integers(-abs(larger), abs(larger)))
    a, b = draw(st.permutations([larger, smaller]))
    return Geometry(draw(st.integers(0, 65_535)), draw(st.integers(0, 65_535)), e, a, b)


def face(width: int, height: int, *, scale: float, angle: float = 0.0, at: Any = (0.5, 0.5)) -> Geometry:
    """A face whose recognition frame is 112 * scale pixels wide, with its centre at a part of the picture."""
    a, b = scale * np.cos(angle), scale * np.sin(angle)
    turn = np.array([[a, -b], [b, a]])
    return Geometry.fit(np.c_[turn, np.array(at) * (width, height) - turn @ (56, 56)], width, height)


def random_previews(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)


@given(face=geometries())
def test_geometry_round_trip(face: Geometry) -> None:
    assert len(face.pack()) == 8
    assert Geometry.unpack(face.pack()) == face


@given(data=st.binary(min_size=8, max_size=8))
def test_any_eight_bytes_are_canonical_or_corrupt(data: bytes) -> None:
    try:
        face = Geometry.unpack(data)
    except CorruptError:
        return
    assert face.pack() == data


def test_the_bytes_by_hand() -> None:
    face = Geometry(0x1234, 0xABCD, 9, 5000, -3)
    assert face.pack() == struct.pack("<HHI", 0x1234, 0xABCD, 9 | 5000 << 4 | (0x4000 - 3) << 18)
    assert face.pack().hex() == "3412cdab8938f5ff"


@pytest.mark.parametrize(
    ("e", "a", "b", "message"),
    [
        (0, 0, 0, "normalised"),
        (1, 4095, -4095, "normalised"),
        (0, -8192, 0, "normalised"),
        (15, 0, -8192, "normalised"),
    ],
)
def test_other_encodings_are_corrupt(e: int, a: int, b: int, message: str) -> None:
    data = struct.pack("<HHI", 7, 7, e | (a & 0x3FFF) << 4 | (b & 0x3FFF) << 18)
    with pytest.raises(CorruptError, match=message):
        Geometry.unpack(data)


@pytest.mark.parametrize("fields", [(-1, 0, 0), (65_536, 0, 0), (0, -1, 0), (0, 65_536, 0), (0, 0, 16)])
def test_fields_out_of_range_are_refused(fields: tuple[int, int, int]) -> None:
    with pytest.raises(CorruptError, match="out of range"):
        Geometry(*fields, a=8191, b=0)


@given(face=geometries(), width=SIDES, height=SIDES)
def test_fit_undoes_similarity(face: Geometry, width: int, height: int) -> None:
    assert Geometry.fit(face.similarity(width, height), width, height) == face


@given(
    width=SIDES,
    height=SIDES,
    scale=st.floats(2e-6, 255),
    angle=st.floats(-pi, pi),
    at=st.tuples(st.floats(0, 0.99999), st.floats(0, 0.99999)),
)
def test_fit_moves_landmarks_by_less_than_its_steps(
    width: int, height: int, scale: float, angle: float, at: tuple[float, float]
) -> None:
    a, b = scale * np.cos(angle), scale * np.sin(angle)
    turn = np.array([[a, -b], [b, a]])
    shift = np.array(at) * (width, height) - turn @ (56, 56)
    fitted = Geometry.fit(np.c_[turn, shift], width, height)
    points = np.array(LANDMARKS) / 10_000
    step = 2.0 ** (fitted.e - 21)
    steps = np.array([width, height]) / 2**17 + step * np.abs(points - 56).sum(1)[:, None] + 1 / 512
    error = np.abs(landmarks_and_box(fitted, width, height)[0] - (points @ turn.T + shift))
    assert (error <= steps + 1 / 256).all()


def test_fit_keeps_faces_within_the_format() -> None:
    outside = Geometry.fit([[1, 0, -500], [0, 1, 5000]], 100, 200)
    assert (outside.qx, outside.qy) == (0, 65_535)
    huge = Geometry.fit([[-3000, -4000, 0], [4000, -3000, 0]], 100, 100)
    assert (huge.e, huge.a, huge.b) == (15, -6143, 8191)
    rounded_up = Geometry.fit([[8191.6 / 2**20, 0, 0], [0, 8191.6 / 2**20, 0]], 100, 100)
    assert (rounded_up.e, rounded_up.a) == (1, 4096)


@pytest.mark.parametrize(
    "matrix", [np.zeros((2, 3)), np.full((2, 3), np.nan), [[1, 0, np.inf], [0, 1, 0]], np.eye(3)]
)
def test_fit_refuses_what_is_no_similarity(matrix: Any) -> None:
    with pytest.raises(ValueError, match="similarity"):
        Geometry.fit(matrix, 100, 100)


def mapped(points: Any, face: Geometry | None, width: int, height: int) -> list[tuple[Fraction, Fraction]]:
    """The transform of the specification in exact fractions, rounded to 1/256, halves up."""
    result = []
    for u, v in ((Fraction(u, 10_000), Fraction(v, 10_000)) for u, v in points):
        if face is None:
            x, y = u * width / 112, v * height / 112
        else:
            scale = Fraction(2) ** (face.e - 20)
            cx = (face.qx + Fraction(1, 2)) * width / 65_536
            cy = (face.qy + Fraction(1, 2)) * height / 65_536
            x = cx + scale * (face.a * (u - 56) - face.b * (v - 56))
            y = cy + scale * (face.b * (u - 56) + face.a * (v - 56))
        result.append(
            (Fraction(floor(256 * x + Fraction(1, 2)), 256), Fraction(floor(256 * y + Fraction(1, 2)), 256))
        )
    return result


@given(face=st.none() | geometries(), width=SIDES, height=SIDES)
def test_landmarks_and_box_are_exact(face: Geometry | None, width: int, height: int) -> None:
    points, box = landmarks_and_box(face, width, height)
    assert points.dtype == np.float32
    assert np.array_equal(points, np.array(mapped(LANDMARKS, face, width, height), np.float32))

    xs, ys = zip(*mapped(FACE, face, width, height), strict=True)
    edges = [max(0, min(xs)), max(0, min(ys)), min(width, max(xs)), min(height, max(ys))]
    assert box.dtype == np.float32
    assert box.tolist() == edges


def from_centre(face: Geometry | None, width: int, height: int, x: int, y: int) -> tuple[Fraction, Fraction]:
    """How far across and down from the centre of a face the centre of a pixel lies, in frame units."""
    px, py = x + Fraction(1, 2), y + Fraction(1, 2)
    if face is None:
        return px * 112 / width - 56, py * 112 / height - 56
    scale = Fraction(2) ** (face.e - 20)
    a, b = face.a * scale, face.b * scale
    dx = px - (face.qx + Fraction(1, 2)) * width / 65_536
    dy = py - (face.qy + Fraction(1, 2)) * height / 65_536
    return (a * dx + b * dy) / (a * a + b * b), (a * dy - b * dx) / (a * a + b * b)


def slow_place(previews: Any, faces: list[Geometry | None], width: int, height: int, pixels: Any) -> Any:
    """The prediction as the specification states it, in Python integers and one pixel at a time."""

    def colour(preview: Any, row: int, column: int) -> list[int]:
        border = [preview[i, j] for i in range(64) for j in range(64) if {i, j} & {0, 63}]
        mean = [(sum(int(p[c]) for p in border) + 126) // 252 for c in range(3)]
        weight = max(0, min(row, column, 127 - row, 127 - column, 32))
        near = preview[min(max(row - 32, 0), 63), min(max(column - 32, 0), 63)]
        return [(int(near[c]) * weight + mean[c] * (32 - weight) + 16) // 32 for c in range(3)]

    result = []
    for y, x in pixels:
        best: tuple[int, int, int, int] | None = None
        for index, face in enumerate(faces):
            u, v = from_centre(face, width, height, x, y)
            across, down = floor(u / Fraction(5, 2) * 256), floor(v / Fraction(5, 2) * 256)
            entry = max(abs(across), abs(down)), index, across, down
            best = entry if best is None else min(best, entry)
        assert best is not None
        _, index, across, down = best
        column, row = (min(max(t + 64 * 256 - 128, 0), 127 * 256) for t in (across, down))
        i, j, fy, fx = row >> 8, column >> 8, row & 255, column & 255
        taps = [
            (colour(previews[index], i + di, j + dj), (fy if di else 256 - fy) * (fx if dj else 256 - fx))
            for di in (0, 1)
            for dj in (0, 1)
        ]
        result.append([(sum(p[c] * w for p, w in taps) + 32_768) >> 16 for c in range(3)])
    return result


@given(data=st.data())
@settings(max_examples=25)
def test_place_is_the_specification(data: st.DataObject) -> None:
    width, height = data.draw(st.integers(1, 200)), data.draw(st.integers(1, 200))
    faces: list[Geometry | None] = []
    for _ in range(data.draw(st.integers(1, 4))):
        scale = data.draw(st.floats(0.02, 3))
        at = data.draw(st.tuples(st.floats(0, 1), st.floats(0, 1)))
        angled = face(width, height, scale=scale, angle=data.draw(st.floats(-pi, pi)), at=at)
        faces.append(data.draw(st.sampled_from([angled, angled, None])))
    previews = random_previews(len(faces))
    pixels = [(data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))) for _ in range(4)]
    picture = place(previews, faces, width, height)
    assert (picture.shape, picture.dtype) == ((height, width, 3), np.uint8)
    assert [picture[p].tolist() for p in pixels] == slow_place(previews, faces, width, height, pixels)


@given(faces=st.lists(geometries(), min_size=1, max_size=3), wide=st.booleans())
@settings(max_examples=15)
def test_no_geometry_overflows(faces: list[Geometry], wide: bool) -> None:
    width, height = (65_535, 1) if wide else (1, 65_535)
    previews = random_previews(len(faces))
    picture = place(previews, list(faces), width, height)
    pixels = [((0, n) if wide else (n, 0)) for n in (0, 40_000, 65_534)]
    assert [picture[p].tolist() for p in pixels] == slow_place(previews, list(faces), width, height, pixels)


@given(data=st.data(), tile=st.sampled_from([1, 7, 64]))
@settings(max_examples=15)
def test_tiles_change_nothing(data: st.DataObject, tile: int) -> None:
    width, height = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    count = data.draw(st.integers(1, 6))
    faces = [
        face(
            width,
            height,
            scale=data.draw(st.floats(0.01, 1)),
            angle=n,
            at=data.draw(st.tuples(*[st.floats(0, 1)] * 2)),
        )
        for n in range(count)
    ]
    previews = random_previews(count)
    whole = place(previews, faces, width, height)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(geometry, "_TILE", tile)
        assert np.array_equal(place(previews, faces, width, height), whole)


def test_equal_faces_belong_to_the_first() -> None:
    faces = [face(50, 50, scale=0.3)] * 2
    previews = random_previews(2)
    assert np.array_equal(place(previews, faces, 50, 50), place(previews[:1], faces[:1], 50, 50))


def test_far_away_is_the_mean_border_colour() -> None:
    previews = np.full((1, 64, 64, 3), 200, np.uint8)
    previews[:, 1:-1, 1:-1] = 7
    previews[0, 0, 0] = [74, 73, 200]  # 252 border pixels: 1/2 less, a little more than 1/2 less, as before
    picture = place(previews, [face(600, 600, scale=0.5, at=(0.25, 0.5))], 600, 600)
    assert (picture[:, 400:] == [200, 199, 200]).all()
    assert (picture[300, 150] == 7).all()


def test_without_faces_the_picture_is_grey() -> None:
    picture = place(np.zeros((0, 64, 64, 3), np.uint8), [], 5, 4)
    assert picture.shape == (4, 5, 3)
    assert (picture == 128).all()


def test_memory_beyond_the_result_is_bounded() -> None:
    faces = [face(1200, 1200, scale=4, at=(0.5, n / 3)) for n in range(3)]
    tracemalloc.start()
    try:
        picture = place(random_previews(3), faces, 1200, 1200)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - picture.nbytes < 10_000_000


def test_the_prediction_is_frozen() -> None:
    n = np.arange(2 * 64 * 64 * 3).reshape(2, 64, 64, 3)
    previews = (n * n // 7 % 256).astype(np.uint8)
    faces = [Geometry(20_000, 30_000, 6, 5000, 1234), Geometry(50_000, 40_000, 5, -4096, 8000)]
    digest = hashlib.sha256(place(previews, [*faces], 150, 100).tobytes()).hexdigest()
    assert digest == "e7ccc775ed49594523c95a8438f26770d3a2ca905011ae8dbc3414f2318a6635"


def slow_delay(regions: Any, faces: list[Geometry | None], width: int, height: int, i: int, j: int) -> int:
    """The delay of a block as the specification states it, in Python integers."""
    least = []
    for face in faces:
        for y, x in ((16 * i + r, 16 * j + c) for r in (4, 12) for c in (4, 12)):
            cell = []
            for part in from_centre(face, width, height, x, y):
                fine = floor(part / Fraction(5, 2) * 256)
                cell.append(min(max((5 * fine + 28_672) // 3584 + 1, 0), 17))
            least.append(int(regions[cell[1], cell[0]]))
    return min(least)


@given(data=st.data())
@settings(max_examples=25)
def test_delays_are_the_specification(data: st.DataObject) -> None:
    width, height = data.draw(st.integers(1, 200)), data.draw(st.integers(1, 200))
    regions = np.random.default_rng(data.draw(st.integers(0, 9))).integers(0, 99, (18, 18), dtype=np.uint8)
    faces: list[Geometry | None] = []
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.tuples(st.floats(0, 1), st.floats(0, 1)))
        angled = face(
            width, height, scale=data.draw(st.floats(0.02, 3)), angle=data.draw(st.floats(-pi, pi)), at=at
        )
        faces.append(data.draw(st.sampled_from([angled, angled, None])))
    late = delays(regions, faces, width, height)
    assert (late.shape, late.dtype) == ((-(-height // 16), -(-width // 16)), np.uint8)
    expected = [slow_delay(regions, faces, width, height, i, j) for i, j in np.ndindex(late.shape)]
    assert late.ravel().tolist() == expected


@given(faces=st.lists(geometries(), min_size=1, max_size=3), wide=st.booleans())
@settings(max_examples=15)
def test_no_delay_overflows(faces: list[Geometry], wide: bool) -> None:
    width, height = (65_535, 1) if wide else (1, 65_535)
    regions = np.arange(324, dtype=np.uint16).astype(np.uint8).reshape(18, 18)
    late = delays(regions, list(faces), width, height).ravel()
    for n in (0, 2000, 4095):
        i, j = (0, n) if wide else (n, 0)
        assert late[n] == slow_delay(regions, list(faces), width, height, i, j)


def test_without_faces_nothing_is_put_off() -> None:
    assert delays(np.full((18, 18), 7, np.uint8), [], 33, 17).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_regions_lie_on_the_face_upright() -> None:
    regions = np.full((18, 18), 90, np.uint8)
    regions[1:9, 1:9] = 5  # the upper left quarter of the frame
    late = delays(regions, [face(448, 448, scale=2.0)], 448, 448)
    assert (late[7:14, 7:14] == 5).all()
    late[7:14, 7:14] = 90
    assert (late == 90).all()
