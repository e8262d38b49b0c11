from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from facecodec import faces
from facecodec.networks import detector

ASTRONAUT = Path(__file__).parent.parent / "examples" / "astronaut.png"
LANDMARKS = np.array([(202.8, 100.4), (246.5, 102.8), (225.0, 126.0), (203.8, 140.8), (242.5, 141.3)])
"""Read off the picture by eye."""

EYES = 43.8


@pytest.fixture(scope="module")
def astronaut() -> faces.Pixels:
    return np.asarray(Image.open(ASTRONAUT).convert("RGB"))


@given(st.floats(0.1, 20), st.floats(-3.1, 3.1), st.tuples(st.floats(-500, 500), st.floats(-500, 500)))
def test_similarity_recovers_a_similarity(scale: float, angle: float, shift: tuple[float, float]) -> None:
    a, b = scale * np.cos(angle), scale * np.sin(angle)
    linear = np.array([[a, -b], [b, a]])
    found = faces.similarity(faces.TEMPLATE @ linear.T + shift)
    np.testing.assert_allclose(found, np.column_stack([linear, shift]), atol=1e-8)


def test_crop_of_the_frame_itself_is_the_picture() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (112, 112, 3)).astype(np.uint8)
    assert np.array_equal(faces.crop(pixels, np.eye(2, 3), 112), pixels)


def test_crop_of_a_finer_picture_averages() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3)).astype(np.uint8)
    matrix = np.array([[2, 0, 0.5], [0, 2, 0.5]])
    expected = cv2.resize(pixels, (112, 112), interpolation=cv2.INTER_AREA)
    assert np.array_equal(faces.crop(pixels, matrix, 112), expected)


def test_iou() -> None:
    box = np.array([0.0, 0, 2, 2])
    others = np.array([[0.0, 0, 2, 2], [1, 0, 3, 2], [2, 2, 4, 4], [-1, -1, 3, 3]])
    np.testing.assert_allclose(faces.iou(box, others), [1, 1 / 3, 0, 1 / 4])


def test_the_astronaut_is_found(astronaut: faces.Pixels) -> None:
    (face,) = faces.find(astronaut)
    assert np.linalg.norm(face.landmarks - LANDMARKS, axis=1).mean() < 0.1 * EYES
    assert face.box.shape == (4,) and face.landmarks.shape == (5, 2) and 0.5 < face.score <= 1
    assert (face.landmarks > face.box[:2]).all() and (face.landmarks < face.box[2:]).all()


def test_find_is_deterministic(astronaut: faces.Pixels) -> None:
    (first,), (second,) = faces.find(astronaut), faces.find(astronaut.copy())
    assert np.array_equal(first.landmarks, second.landmarks) and np.array_equal(first.box, second.box)


@pytest.mark.parametrize("side", [64, 128, 250, 1400])
def test_a_face_is_found_at_any_resolution(astronaut: faces.Pixels, side: int) -> None:
    cut = astronaut[0:260, 90:350]
    pixels = cv2.resize(cut, (side, side), interpolation=cv2.INTER_AREA if side < 260 else cv2.INTER_CUBIC)
    (face,) = faces.find(pixels)
    expected = (LANDMARKS - (90, 0) + 0.5) * side / 260 - 0.5
    assert np.linalg.norm(face.landmarks - expected, axis=1).mean() < 0.1 * EYES * side / 260


def test_a_mirrored_picture_gives_mirrored_landmarks(astronaut: faces.Pixels) -> None:
    (face,), (mirrored,) = faces.find(astronaut), faces.find(np.ascontiguousarray(astronaut[:, ::-1]))
    back = mirrored.landmarks[[1, 0, 2, 4, 3]] * (-1, 1) + (astronaut.shape[1] - 1, 0)
    assert np.linalg.norm(back - face.landmarks, axis=1).mean() < 0.08 * EYES


@pytest.mark.parametrize("degrees", [-45, -20, 30, 45])
def test_a_turned_face_is_found(astronaut: faces.Pixels, degrees: float) -> None:
    matrix = cv2.getRotationMatrix2D((224, 120), degrees, 1.0)
    turned = cv2.warpAffine(astronaut, matrix, (512, 512), borderMode=cv2.BORDER_REFLECT_101)
    found = faces.find(np.asarray(turned, np.uint8))[0]
    expected = LANDMARKS @ matrix[:, :2].T + matrix[:, 2]
    assert np.linalg.norm(found.landmarks - expected, axis=1).mean() < 0.12 * EYES


def test_several_faces_come_largest_first(astronaut: faces.Pixels) -> None:
    half = cv2.resize(astronaut, (256, 256), interpolation=cv2.INTER_AREA)
    sheet = np.full((512, 800, 3), 90, np.uint8)
    sheet[:256, :256], sheet[:, 288:] = half, astronaut
    large, small = faces.find(sheet)
    assert np.diff(large.box[::2]) > 1.7 * np.diff(small.box[::2])
    assert abs(large.landmarks[2, 0] - (288 + 225)) < 12 and abs(small.landmarks[2, 0] - 112) < 8


def test_the_face_in_the_middle_comes_before_a_larger_one_at_the_edge(astronaut: faces.Pixels) -> None:
    half = cv2.resize(astronaut, (256, 256), interpolation=cv2.INTER_AREA)
    sheet = np.full((512, 1400, 3), 90, np.uint8)
    sheet[:, :512], sheet[200:456, 588:844] = astronaut, half
    middle, edge = faces.find(sheet)
    assert np.diff(edge.box[::2]) > 1.7 * np.diff(middle.box[::2])


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (37, 5), (300, 300)])
def test_nothing_is_found_where_there_is_nothing(shape: tuple[int, int]) -> None:
    assert faces.find(np.full((*shape, 3), 140, np.uint8)) == []


def test_nothing_is_found_in_noise() -> None:
    assert faces.find(np.random.default_rng(0).integers(0, 256, (200, 300, 3)).astype(np.uint8)) == []


@pytest.mark.parametrize("shape", [(640, 640), (480, 640), (700, 3000), (2000, 40), (900, 901)])
def test_a_search_looks_at_640_pixels_a_side_at_most(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    predict = detector.predict

    def spied(network: detector.Detector, views: faces.Pixels) -> Any:
        seen.append(views.shape)
        return predict(network, views)

    monkeypatch.setattr(detector, "predict", spied)
    faces.find(np.zeros((*shape, 3), np.uint8))
    _, height, width, _ = seen[0]
    assert max(height, width) == 640
    assert min(height, width) - 31 <= 640 * min(shape) / max(shape) + 0.5
