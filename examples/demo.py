"""Encode a portrait, account for its bytes, and lay it beside JPEG, WebP and AVIF of the same sizes.

python examples/demo.py [PICTURE] [FOLDER]
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

import facecodec
from facecodec import images
from facecodec.encoder import embed

Pixels = npt.NDArray[np.uint8]
Row = list[tuple[Pixels | None, int]]

HERE = Path(__file__).parent
SHARES = (1 / 8, 1 / 4, 1 / 2)
PEERS: dict[str, dict[str, Any]] = {
    "AVIF": {"speed": 6},
    "WebP": {"method": 6},
    "JPEG": {"optimize": True},
}
CELL, CAPTION, GAP = 300, 22, 8


def main(picture: str = str(HERE / "astronaut.png"), folder: str = "demo") -> None:
    """Print the accounts of ``picture``, and write its file and a contact sheet into ``folder``."""
    out = Path(folder)
    out.mkdir(exist_ok=True)
    original = images.load(picture).pixels
    data = facecodec.encode(original)
    (out / "photo.fsc").write_bytes(data)
    account(picture, original, data)

    base = facecodec.strip(data, "base")
    sizes = [len(base) + round(share * (len(data) - len(base))) for share in SHARES]
    files = [facecodec.truncate(data, size) for size in sizes] + [data]
    decoded = [facecodec.decode(file).pixels for file in files]
    rows: dict[str, Row] = {"fsc": list(zip(decoded, map(len, files), strict=True))}
    rows |= {peer: [at_most(peer, original, len(file)) for file in files] for peer in PEERS}
    compare_peers(original, rows)

    preview = facecodec.decode(base).pixels
    grid = [[caption(name, pixels, size) for pixels, size in row] for name, row in rows.items()]
    grid[0][:0] = [("original", original), caption("base layer", preview, len(base))]
    for row in grid[1:]:
        row[:0] = [("", None), ("", None)]
    contact_sheet(grid).save(out / "contact-sheet.png")

    similarities(original, data, decoded[-1])
    print(f"{out / 'contact-sheet.png'} shows it all.")


def account(name: str, pixels: Pixels, data: bytes) -> None:
    """Print where every byte went."""
    about = facecodec.info(data)
    height, width = pixels.shape[:2]
    print(f"{name}: {width}x{height} pixels, {about.faces} face(s), {len(data):,} bytes\n")
    print("offset   bytes  part")
    for part in about.parts:
        print(f"{part.offset:6}  {part.size:6}  {part.name}")


def psnr(a: Pixels, b: Pixels) -> float:
    """Return the peak signal-to-noise ratio of two pictures in dB over all three channels."""
    error = np.square(a.astype(np.float64) - b).mean()
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def similarities(original: Pixels, data: bytes, decoded: Pixels) -> None:
    """Print what coding did to the embeddings."""
    kept = facecodec.features(data).embeddings
    before = (embed(original) * kept).sum(1).min()
    again = facecodec.compare(data, facecodec.encode(decoded, layers="base")).similarity
    print(f"\nThe embedding in the file has a similarity of {before:.4f} to the one before coding,")
    print(f"and of {again:.4f} to that of the decoded picture.")


def compare_peers(original: Pixels, rows: dict[str, Row]) -> None:
    """Print the PSNR of every format at every size."""
    print("\nPSNR of whole files of the same size, in dB (-: the format has no file that small)\n")
    print("bytes   " + "".join(f"{size:>9,}" for _, size in rows["fsc"]))
    for name, row in rows.items():
        values = ("-" if pixels is None else f"{psnr(original, pixels):.2f}" for pixels, _ in row)
        print(f"{name:8}" + "".join(f"{value:>9}" for value in values))


def at_most(peer: str, pixels: Pixels, size: int) -> tuple[Pixels | None, int]:
    """Return the best picture in ``size`` bytes and its size, or None and the fewest bytes there are."""
    low, high, best, smallest = 0, 100, None, 0
    while low <= high:
        middle = (low + high) // 2
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, peer, quality=middle, **PEERS[peer])
        if buffer.tell() <= size:
            low, best = middle + 1, buffer
        else:
            high, smallest = middle - 1, buffer.tell()
    if best is None:
        return None, smallest
    return np.asarray(Image.open(best).convert("RGB")), best.tell()


def caption(name: str, pixels: Pixels | None, size: int) -> tuple[str, Pixels | None]:
    """Return a cell of the contact sheet."""
    return f"{name}: {size:,} bytes" + (" at least" if pixels is None else ""), pixels


def contact_sheet(grid: list[list[tuple[str, Pixels | None]]]) -> Image.Image:
    """Draw captions and pictures in rows and columns."""
    width, height = CELL + GAP, CELL + CAPTION + GAP
    sheet = Image.new("RGB", (width * len(grid[0]) + GAP, height * len(grid) + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for y, row in enumerate(grid):
        for x, (text, pixels) in enumerate(row):
            corner = GAP + x * width, GAP + y * height
            draw.text(corner, text, "black", font)
            if pixels is not None:
                picture = Image.fromarray(pixels)
                picture.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
                sheet.paste(picture, (corner[0], corner[1] + CAPTION))
    return sheet


if __name__ == "__main__":
    try:
        main(*sys.argv[1:3])
    except facecodec.FscError as error:
        sys.exit(f"demo: {error}")
