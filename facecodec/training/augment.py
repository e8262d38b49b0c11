"""Random views of a face: geometry, light, blur, noise, compression, low resolution."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from facecodec import faces

Pixels = npt.NDArray[np.uint8]


def jittered(
    rng: np.random.Generator, landmarks: npt.NDArray[np.float64], strength: float = 1.0
) -> npt.NDArray[np.float64]:
    """Return the frame's similarity (2, 3) with the error of a detector and a random flip, scale and turn."""
    noise = rng.normal(0, 0.02 * strength * np.linalg.norm(landmarks[0] - landmarks[1]), (5, 2))
    matrix = faces.similarity(landmarks + noise)
    scale = np.exp(rng.normal(0, 0.04 * strength))
    angle = rng.normal(0, 0.05 * strength)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if rng.random() < 0.5:
        turn = turn @ np.diag([-1.0, 1.0])
    centre = np.array([faces.FRAME / 2 - 0.5] * 2)
    shift = rng.normal(0, 1.5 * strength, 2)
    linear = matrix[:, :2] @ turn
    return np.column_stack([linear, matrix[:, :2] @ (centre + shift) + matrix[:, 2] - linear @ centre])


def blended(rng: np.random.Generator, view: Pixels, other: Pixels) -> Pixels:
    """Return two faces as one: faded into each other all over, or across a soft edge."""
    if rng.random() < 0.5:
        share = rng.uniform(0.2, 0.8)
        weight = np.full((faces.FRAME, 1, 1), share)
    else:
        angle, place = rng.uniform(0, 2 * np.pi), rng.uniform(-25, 25)
        y, x = np.mgrid[: faces.FRAME, : faces.FRAME] - (faces.FRAME - 1) / 2
        edge = x * np.cos(angle) + y * np.sin(angle) - place
        weight = 1 / (1 + np.exp(-edge / rng.uniform(1, 12)))[..., None]
    mixed: Pixels = np.round(view * weight + other * (1 - weight)).astype(np.uint8)
    return mixed


def degraded(rng: np.random.Generator, view: Pixels) -> Pixels:
    """Return ``view`` after random light, resolution, blur, noise and JPEG damage."""
    x = view
    if rng.random() < 0.5:
        gamma, gain = np.exp(rng.normal(0, 0.35)), np.exp(rng.normal(0, 0.3))
        levels = np.clip(255 * gain * (np.arange(256) / 255) ** gamma, 0, 255)
        tint = np.exp(rng.normal(0, 0.06, 3))
        x = np.stack(
            [np.clip(levels * t, 0, 255).astype(np.uint8)[x[..., c]] for c, t in enumerate(tint)], -1
        )
    if rng.random() < 0.3:
        size = int(rng.integers(28, 90))
        small = cv2.resize(x, (size, size), interpolation=cv2.INTER_AREA)
        x = cv2.resize(small, x.shape[1::-1], interpolation=cv2.INTER_LINEAR).astype(np.uint8)
    if rng.random() < 0.2:
        x = cv2.GaussianBlur(x, (0, 0), float(rng.uniform(0.4, 2.2))).astype(np.uint8)
    if rng.random() < 0.25:
        noise = rng.normal(0, rng.uniform(2, 18), x.shape)
        x = np.clip(x + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        _, encoded = cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(12, 80))])
        x = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)
    if rng.random() < 0.1:
        height, width = (int(v) for v in rng.integers(10, 50, 2))
        top, left = int(rng.integers(0, x.shape[0] - height)), int(rng.integers(0, x.shape[1] - width))
        x = x.copy()
        x[top : top + height, left : left + width] = rng.integers(0, 256, 3)
    if rng.random() < 0.05:
        x = np.repeat(x.mean(-1, keepdims=True), 3, -1).astype(np.uint8)
    return x
