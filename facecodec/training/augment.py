"""Random views of a face: geometry, turn, expression, cover, light, blur, noise, JPEG, low resolution."""

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


def warped(rng: np.random.Generator, view: Pixels) -> Pixels:
    """Return a face with other features or another expression: pushed about smoothly, by some pixels.

    Now and then the chin drops, as that of an open mouth.
    """
    size = faces.FRAME
    push = rng.normal(0, rng.uniform(0.5, 3.0), (5, 5, 2))
    if rng.random() < 0.5:
        push = (push + push[:, ::-1] * (-1, 1)) / 2**0.5  # alike on both sides
    y, x = np.mgrid[:size, :size].astype(np.float32)
    shift = cv2.resize(push.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.3:
        lips, drop = rng.uniform(88, 96), rng.uniform(3, 14)
        shift[..., 1] -= drop / (1 + np.exp((lips - y) / rng.uniform(2, 6)))
    moved = cv2.remap(
        view, x + shift[..., 0], y + shift[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    return np.asarray(moved, np.uint8)


def turned(rng: np.random.Generator, view: Pixels) -> Pixels:
    """Return a face that looks elsewhere, up, down or aside: its near parts move against its far ones.

    A head is near enough half an ellipsoid with a nose.
    """
    y, x = np.mgrid[: faces.FRAME, : faces.FRAME].astype(np.float32)
    inside = 1 - ((x - 55.5) / 46) ** 2 - ((y - 66) / 62) ** 2
    depth = 36 * np.sqrt(np.clip(inside, 0, 1)) + 11 * np.exp(-(((x - 55.5) / 7) ** 2) - ((y - 74) / 10) ** 2)
    depth = cv2.GaussianBlur(depth, (0, 0), 3.0)
    depth -= np.mean([depth[round(v), round(u)] for u, v in faces.TEMPLATE])
    aside, up = np.tan(np.clip(rng.normal(0, 0.22, 2), -0.45, 0.45))
    moved = cv2.remap(
        view,
        (x + depth * aside).astype(np.float32),
        (y + depth * up).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )
    return np.asarray(moved, np.uint8)


def surrounded(
    rng: np.random.Generator, view: Pixels, matrix: npt.NDArray[np.float64], picture: Pixels, other: Pixels
) -> Pixels:
    """Return a face cut from ``picture`` by ``matrix`` with ``other`` behind it where the picture had ended.

    Half of the time; else the border goes on in streaks, as when a face at the edge is encoded.
    """
    y, x = np.mgrid[: faces.FRAME, : faces.FRAME]
    place = np.tensordot(matrix, np.stack([x, y, np.ones_like(x)]), 1)
    height, width = picture.shape[:2]
    outside = (place < -0.5).any(0) | (place[0] > width - 0.5) | (place[1] > height - 0.5)
    if not outside.any() or rng.random() < 0.5:
        return view
    behind = cv2.resize(other, (faces.FRAME, faces.FRAME), interpolation=cv2.INTER_AREA)
    filled: Pixels = np.where(outside[..., None], behind, view).astype(np.uint8)
    return filled


def covered(rng: np.random.Generator, view: Pixels, other: Pixels) -> Pixels:
    """Return a face with dark glasses, or with something in front of it: a piece of another picture."""
    y, x = np.mgrid[: faces.FRAME, : faces.FRAME]
    if rng.random() < 0.5:
        width, height, down = rng.uniform(11, 18), rng.uniform(7, 13), rng.uniform(-3, 5)
        shape = rng.uniform(2, 5)
        lenses = [
            np.abs((x - eye) / width) ** shape + np.abs((y - faces.TEMPLATE[0, 1] - down) / height) ** shape
            < 1
            for eye in faces.TEMPLATE[:2, 0]
        ]
        bridge = (np.abs(y - faces.TEMPLATE[0, 1] - down + 3) < 1.5) & (np.abs(x - faces.FRAME / 2) < 36)
        mask = lenses[0] | lenses[1] | bridge
        sky = rng.uniform(0, 90, 3) * np.linspace(rng.uniform(0.2, 1.5), 1, faces.FRAME)[:, None, None]
        front, clear = np.broadcast_to(sky, view.shape), rng.uniform(0, 0.45)
    else:
        angle, place = rng.uniform(0, 2 * np.pi), rng.uniform(0, 40)
        along = (x - 55.5) * np.cos(angle) + (y - 60) * np.sin(angle)
        across = (y - 60) * np.cos(angle) - (x - 55.5) * np.sin(angle) - rng.uniform(-25, 25)
        mask = (along > place) & (np.abs(across) < rng.uniform(8, 45))
        front, clear = other[:, ::-1].astype(np.float64), 0.0
    soft = cv2.GaussianBlur(mask.astype(np.float64), (0, 0), rng.uniform(0.5, 1.5))[..., None] * (1 - clear)
    mixed: Pixels = np.clip(view * (1 - soft) + front * soft, 0, 255).astype(np.uint8)
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
    if rng.random() < 0.25:
        x = cv2.GaussianBlur(x, (0, 0), float(rng.uniform(0.4, 2.5))).astype(np.uint8)
    if rng.random() < 0.25:
        noise = rng.normal(0, rng.uniform(2, 18), x.shape)
        x = np.clip(x + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.45:
        _, encoded = cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(10, 60))])
        x = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)
    if rng.random() < 0.1:
        height, width = (int(v) for v in rng.integers(10, 50, 2))
        top, left = int(rng.integers(0, x.shape[0] - height)), int(rng.integers(0, x.shape[1] - width))
        x = x.copy()
        x[top : top + height, left : left + width] = rng.integers(0, 256, 3)
    if rng.random() < 0.05:
        x = np.repeat(x.mean(-1, keepdims=True), 3, -1).astype(np.uint8)
    return x
