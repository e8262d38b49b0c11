"""What happens to photographs outside the laboratory, in the measure that is reported."""

from __future__ import annotations

import io
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from facecodec.faces import Face, similarity

Pixels = npt.NDArray[np.uint8]

BLUR = 2.0
"""Standard deviation, in pixels of the recognition frame, where the eyes are 35 pixels apart."""
JPEG_QUALITY = 20
DARK = 0.25
"""What is left of every sRGB value, rounded."""
TURN = 20
"""Degrees."""
EARS = 48
"""Width of the face's box in pixels."""
MIN_SIDE = 16


def blurred(pixels: Pixels, face: Face) -> Pixels:
    """Return the picture out of focus."""
    unit = float(np.hypot(*similarity(face.landmarks)[:, 0]))
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), BLUR * unit), np.uint8)


def compressed(pixels: Pixels, face: Face) -> Pixels:
    """Return the picture after JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return np.asarray(Image.open(buffer).convert("RGB"))


def dark(pixels: Pixels, face: Face) -> Pixels:
    """Return the picture with little light."""
    return np.asarray(np.floor(pixels * DARK + 0.5), np.uint8)


def turned(pixels: Pixels, face: Face) -> Pixels:
    """Return the picture turned about the middle of the face, of the same size; the border repeats."""
    centre = face.landmarks.mean(0)
    matrix = cv2.getRotationMatrix2D((float(centre[0]), float(centre[1])), TURN, 1.0)
    size = pixels.shape[1], pixels.shape[0]
    return np.asarray(
        cv2.warpAffine(pixels, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


def small(pixels: Pixels, face: Face) -> Pixels:
    """Return the picture so small that few pixels lie between the ears; a smaller one stays as it is."""
    height, width = pixels.shape[:2]
    scale = max(EARS / float(face.box[2] - face.box[0]), MIN_SIDE / min(height, width))
    if scale >= 1:
        return pixels
    size = round(width * scale), round(height * scale)
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


KINDS: dict[str, Callable[[Pixels, Face], Pixels]] = {
    "blurred": blurred,
    "JPEG": compressed,
    "dark": dark,
    "turned": turned,
    "small": small,
}

TITLES = {
    "blurred": f"blurred, sigma {BLUR:g} px of a 112 px face",
    "JPEG": f"JPEG, quality {JPEG_QUALITY}",
    "dark": f"dark, {DARK:g} of the sRGB values",
    "turned": f"turned by {TURN} degrees",
    "small": f"{EARS} px between the ears",
}
