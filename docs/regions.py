"""Write `regions.png` beside this file: the map of regions over the face of the example portrait."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from facecodec import faces, images, texture, weights

HERE = Path(__file__).parent
SIDE = 280


def main() -> None:
    """The recognition frame, plain and with its cells coloured: the redder, the sooner refined."""
    pixels = images.load(HERE.parent / "examples" / "astronaut.png").pixels
    frame = faces.crop(pixels, faces.similarity(faces.find(pixels)[0].landmarks), SIDE)
    delay = texture.load(weights.newest("texture")).regions[1:-1, 1:-1]
    share = (255 * 2.0 ** (delay.min() - delay / 3.0)).round().astype(np.uint8)
    smooth = cv2.resize(share, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    colours = cv2.applyColorMap(smooth, cv2.COLORMAP_TURBO)[:, :, ::-1]
    both = np.hstack([frame, cv2.addWeighted(frame, 0.5, colours, 0.5, 0)])
    (HERE / "regions.png").write_bytes(images.to_bytes(both, ".png"))


if __name__ == "__main__":
    main()
