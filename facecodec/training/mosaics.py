"""Random pictures with known faces: labelled pictures turned, scaled and pasted into scenes."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from facecodec.training.data import Pictures

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

SCENE, PORTRAIT = 256, 128
"""Sides of the two kinds of pictures."""

MIRRORED = [1, 0, 2, 4, 3]
"""The landmarks of a mirrored face, in its own order."""


@dataclass
class View:
    """A training picture under construction: uint8 (S, S, 3) and its faces."""

    pixels: Pixels
    boxes: list[Floats] = field(default_factory=list)
    points: list[Floats] = field(default_factory=list)

    def free(self, corners: Floats) -> bool:
        """Tell whether the bounding rectangle of ``corners`` touches no face yet."""
        low, high = corners.min(0), corners.max(0)
        return not any((b[:2] < high).all() and (b[2:] > low).all() for b in self.boxes)


class Mosaics:
    """Endless random training pictures from labelled pictures and scenes without labels."""

    def __init__(self, pictures: Pictures, scenes: Pictures, rng: np.random.Generator) -> None:
        self.pictures, self.scenes, self.rng = pictures, scenes, rng
        self.grain = rng.normal(0, 1, (512, 512, 3)).astype(np.float32)

    def portrait(self) -> View:
        """Return one face in the middle of a small picture."""
        rng = self.rng
        fills = rng.random() < 0.5
        view = View(np.zeros((PORTRAIT, PORTRAIT, 3), np.uint8) if fills else self._background(PORTRAIT))
        eyes = float(np.exp(rng.uniform(np.log(26), np.log(62))))
        self._paste(view, eyes, rng.normal(PORTRAIT / 2, PORTRAIT / 14, 2), self._angle(8), fills)
        self._cover(view)
        view.pixels = self._degraded(view.pixels)
        return view

    def crowd(self) -> View:
        """Return no, one or several faces of any size."""
        rng = self.rng
        count = int(rng.choice([0, 1, 2, 4, 7], p=[0.08, 0.42, 0.2, 0.2, 0.1]))
        fills = count == 1 and rng.random() < 0.5
        view = View(np.zeros((SCENE, SCENE, 3), np.uint8) if fills else self._background(SCENE))
        for _ in range(count):
            low, high = (16, 120) if count == 1 else (6, 160 / count**0.6)
            eyes = float(np.exp(rng.uniform(np.log(low), np.log(high))))
            reach = min(0.45, 0.55 - eyes / 400) * SCENE
            for _ in range(3):
                place = rng.uniform(SCENE / 2 - reach, SCENE / 2 + reach, 2)
                if self._paste(view, eyes, place, self._angle(10), fills):
                    break
        self._cover(view)
        view.pixels = self._degraded(view.pixels)
        return view

    def single(self, side: int, eyes: float, angle: float) -> View:
        """Return one face near the centre with this eye distance (pixels), turned by ``angle`` (radians)."""
        view = View(self._background(side))
        self._paste(view, eyes, self.rng.normal(side / 2, side / 16, 2), angle, fills=False)
        view.boxes, view.points = view.boxes[:1], view.points[:1]
        return view

    def _angle(self, usual: float) -> float:
        rng = self.rng
        degrees = rng.uniform(-50, 50) if rng.random() < 0.2 else rng.normal(0, usual)
        return float(np.deg2rad(degrees))

    def _background(self, size: int) -> Pixels:
        rng = self.rng
        kind = rng.random()
        if kind < 0.12:
            return np.full((size, size, 3), rng.integers(0, 256, 3), np.uint8)
        if kind < 0.3:
            index = self.pictures.any_face(rng)
            source = self.pictures.picture(index).copy()
            filler = self.scenes.picture(int(rng.integers(len(self.scenes))))
            for face in self.pictures.records[index]["faces"]:
                x0, y0, x1, y1 = np.clip(face["box"], 0, source.shape[0]).round().astype(int)
                if x1 - x0 > 3 and y1 - y0 > 3:
                    source[y0:y1, x0:x1] = cv2.resize(filler, (x1 - x0, y1 - y0))
        else:
            source = self.scenes.picture(int(rng.integers(len(self.scenes))))
        part = int(source.shape[0] * rng.uniform(0.4, 1))
        left, top = (int(v) for v in rng.integers(0, source.shape[0] - part + 1, 2))
        return np.asarray(cv2.resize(source[top : top + part, left : left + part], (size, size)), np.uint8)

    def _paste(self, view: View, eyes: float, place: Floats, angle: float, fills: bool) -> bool:
        rng = self.rng
        index = self.pictures.any_face(rng)
        source, faces = self.pictures.picture(index), self.pictures.records[index]["faces"]
        side = view.pixels.shape[0]
        points = np.array(faces[0]["points"])
        scale = eyes / max(1.0, float(np.hypot(*(points[1] - points[0]))))
        cos, sin = scale * np.cos(angle), scale * np.sin(angle)
        linear = np.array([[cos, -sin], [sin, cos]]) @ np.diag(np.exp(rng.normal(0, 0.03, 2)))
        mirror = rng.random() < 0.5
        if mirror:
            linear = linear @ np.diag([-1.0, 1.0])
        matrix = np.column_stack([linear, place - linear @ points.mean(0)])
        height, width = source.shape[:2]
        corners = np.array([(0, 0), (width, 0), (0, height), (width, height)]) @ linear.T + matrix[:, 2]
        if not view.free(corners):
            return False
        for face in faces:
            p = np.array(face["points"]) @ linear.T + matrix[:, 2]
            x0, y0, x1, y1 = face["box"]
            centre = linear @ ((x0 + x1) / 2, (y0 + y1) / 2) + matrix[:, 2]
            half = np.sqrt((linear**2) @ (((x1 - x0) / 2) ** 2, ((y1 - y0) / 2) ** 2))
            view.boxes.append(np.concatenate([centre - half, centre + half]))
            view.points.append(p[MIRRORED] if mirror else p)
        factor = int(1 / scale)
        if factor >= 2:
            source = np.asarray(
                cv2.resize(source, (width // factor, height // factor), interpolation=cv2.INTER_AREA),
                np.uint8,
            )
            steps = np.array([width / (width // factor), height / (height // factor)])
            matrix = np.column_stack(
                [matrix[:, :2] * steps, matrix[:, :2] @ (steps / 2 - 0.5) + matrix[:, 2]]
            )
        if fills:
            view.pixels = np.asarray(
                cv2.warpAffine(source, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE), np.uint8
            )
        elif len(faces) > 1 or rng.random() < 0.6:
            cv2.warpAffine(source, matrix, (side, side), dst=view.pixels, borderMode=cv2.BORDER_TRANSPARENT)
        else:
            self._blend(view, source, matrix, corners)
        return True

    def _blend(self, view: View, source: Pixels, matrix: Floats, corners: Floats) -> None:
        """Paste through a soft mask that covers the head."""
        side = view.pixels.shape[0]
        low = np.clip(np.floor(corners.min(0)), 0, side - 1).astype(int)
        high = np.clip(np.ceil(corners.max(0)), low + 1, side).astype(int)
        shifted = np.column_stack([matrix[:, :2], matrix[:, 2] - low])
        size = (int(high[0] - low[0]), int(high[1] - low[1]))
        top = np.float32(source.shape[0])
        v, u = np.ogrid[: source.shape[0], : source.shape[1]]
        radius = np.hypot((v - 0.48 * top) / (0.52 * top), (u - 0.5 * top) / (0.45 * top))
        soft = np.clip((1.05 - radius) * 12, 0, 1).astype(np.float32)
        alpha = cv2.warpAffine(soft, shifted, size)[..., None]
        warped = cv2.warpAffine(source, shifted, size, borderMode=cv2.BORDER_REPLICATE)
        region = view.pixels[low[1] : high[1], low[0] : high[0]]
        region[:] = (region + alpha * (warped.astype(np.float32) - region)).astype(np.uint8)

    def _cover(self, view: View) -> None:
        """Hide a part of one face in a sixth of the pictures."""
        rng = self.rng
        if view.boxes and rng.random() < 0.16:
            box = view.boxes[rng.integers(len(view.boxes))]
            size = (box[2:] - box[:2]) * rng.uniform(0.1, 0.45, 2)
            low = np.maximum(0, rng.uniform(box[:2], box[2:] - size)).astype(int)
            high = np.maximum(low, low + size.astype(int))
            view.pixels[low[1] : high[1], low[0] : high[0]] = rng.integers(0, 256, 3)

    def _degraded(self, x: Pixels) -> Pixels:
        rng = self.rng
        side = x.shape[0]
        if rng.random() < 0.12:
            small = max(24, int(side * rng.uniform(0.3, 0.7)))
            x = np.asarray(
                cv2.resize(cv2.resize(x, (small, small), interpolation=cv2.INTER_AREA), (side, side)),
                np.uint8,
            )
        if rng.random() < 0.12:
            x = np.asarray(cv2.GaussianBlur(x, (0, 0), float(rng.uniform(0.5, 2.0))), np.uint8)
        if rng.random() < 0.7:
            gamma, gain = np.exp(rng.normal(0, 0.3)), np.exp(rng.normal(0, 0.25, 1) + rng.normal(0, 0.06, 3))
            ramp = ((np.arange(256) / 255) ** gamma)[:, None] * gain * 255 + rng.normal(0, 8)
            x = np.asarray(cv2.LUT(x, np.clip(ramp, 0, 255).astype(np.uint8)[None]), np.uint8)
        if rng.random() < 0.2:
            i, j = rng.integers(0, 512 - side + 1, 2)
            x = np.asarray(
                cv2.add(x, self.grain[i : i + side, j : j + side] * rng.uniform(2, 16), dtype=cv2.CV_8U),
                np.uint8,
            )
        if rng.random() < 0.08:
            x = np.repeat(cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[..., None], 3, -1).astype(np.uint8)
        if rng.random() < 0.2:
            _, code = cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(20, 85))])
            x = np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR), np.uint8)
        return x
