"""The commands that write files: encode, decode, truncate, strip."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import click

from facecodec.cli import streams
from facecodec.errors import NoFaceError

SMALL = 1 << 14
"""A file of fewer bytes is decoded sooner by one thread than by several, which have to be started."""


class Real(click.FloatRange):
    """A range of numbers that, unlike its parent, does not hold NaN."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number, or fail as a wrong usage."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number", param, ctx)
        return float(number)


@click.command(
    epilog=streams.examples(
        "fsc encode photo.jpg                          # writes photo.fsc",
        "fsc encode photo.jpg --max-bytes 2000 -o - | wc -c",
    )
)
@click.argument("image", metavar="IMG", type=click.Path(allow_dash=True))
@streams.output_option("IMG with the suffix .fsc")
@click.option(
    "--quality", type=click.IntRange(0, 100), metavar="0..100", help="0 is small, 100 fine.  [default: 75]"
)
@click.option("--max-bytes", type=click.IntRange(min=1), metavar="N", help="The best picture in N bytes.")
@click.option("--min-psnr", type=Real(0, 1000), metavar="DB", help="The fewest bytes for DB of PSNR.")
@click.option(
    "--min-similarity",
    type=Real(0, 1),
    metavar="S",
    help="The fewest bytes whose decoded face is as similar as S, a cosine, to the original.",
)
@click.option("--lossless", is_flag=True, help="Keep the very pixels.")
@click.option("--layers", type=click.Choice(["base", "full"]), default="full", show_default=True)
@click.option(
    "--no-face",
    type=click.Choice(["error", "encode", "skip"]),
    default="error",
    show_default=True,
    help="Without a face: stop with exit code 3, encode the picture all the same, or write nothing.",
)
@click.option("--aligned", is_flag=True, help="IMG is already cropped to the 112x112 recognition frame.")
@click.option(
    "--tune",
    type=click.Choice(["fidelity", "recognition"]),
    default="fidelity",
    show_default=True,
    help="What bits go to first: all of the picture alike, or what tells people apart.",
)
def encode(
    image: str,
    output: str | None,
    force: bool,
    layers: str,
    no_face: str,
    aligned: bool,
    tune: str,
    **goals: Any,
) -> None:
    """Encode a picture.

    IMG is JPEG, PNG, WebP, AVIF, TIFF or BMP, of 16x16 to 8192x8192 pixels. At most one of --quality,
    --max-bytes, --min-psnr, --min-similarity and --lossless says how good it gets.
    """
    goal = {name: value for name, value in goals.items() if value is not None and value is not False}
    if len(goal) > 1:
        options = " and ".join("--" + name.replace("_", "-") for name in goal)
        raise click.UsageError(f"{options} say different things; give one of them")
    if "lossless" in goal and layers == "base":
        raise click.UsageError("--lossless needs --layers full")
    target = streams.target(output, streams.beside(image, ".fsc"), force=force)

    import facecodec
    from facecodec import images

    photo = images.load(streams.read(image) if image == streams.STANDARD else Path(image))
    streams.say(image, *photo.notes)
    skip = no_face == "skip"
    absent = "error" if skip else no_face
    try:
        with streams.about(image):
            data = facecodec.encode(
                photo.pixels, layers=layers, no_face=absent, aligned=aligned, tune=tune, **goal
            )
    except NoFaceError:
        if not skip:
            raise
        streams.say(image, "no face, nothing written")
        return
    streams.write(target, data, force=force)
    if target != streams.STANDARD:
        streams.say(target, f"{len(data):,} bytes")


@click.command(
    epilog=streams.examples(
        "fsc decode photo.fsc -o picture.png",
        "head -c 160 photo.fsc | fsc decode - --layers base -o preview.png",
    )
)
@streams.file_argument
@streams.output_option("FILE with the suffix .png")
@click.option(
    "--layers",
    type=click.Choice(["base", "full"]),
    default="full",
    show_default=True,
    help="base: the preview from the first bytes alone.",
)
def decode(file: str, output: str | None, force: bool, layers: str) -> None:
    """Decode to a picture of the same size.

    The suffix of OUT says what is written: .png, .bmp, .tif and .webp keep the very pixels, .jpg and .avif do
    not; .npy, .json and .csv hold the embeddings and boxes instead (see fsc features).
    """
    target = streams.target(output, streams.beside(file, ".png"), force=force)
    suffix = ".png" if target == streams.STANDARD else Path(target).suffix
    data = streams.read(file)
    if len(data) < SMALL:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

    import facecodec

    with streams.about(file):
        if suffix in (".npy", ".json", ".csv"):
            from facecodec.cli import tables

            content = tables.dump([(file, facecodec.features(data))], suffix[1:])
        else:
            from facecodec import images

            picture = facecodec.decode(data, layers=layers)
            streams.say(file, *picture.notes)
            content = images.to_bytes(picture.pixels, suffix)
    streams.write(target, content, force=force)


@click.command(
    epilog=streams.examples(
        "fsc truncate photo.fsc --max-bytes 1000 -o small.fsc",
        "fsc encode photo.png -o - | fsc truncate - --max-bytes 500 > small.fsc",
    )
)
@streams.file_argument
@click.option(
    "--max-bytes", type=click.IntRange(min=1), metavar="N", required=True, help="The size of OUT at most."
)
@streams.output_option("standard output")
def truncate(file: str, max_bytes: int, output: str | None, force: bool) -> None:
    """Cut to N bytes without encoding again."""
    import facecodec

    target = streams.target(output, streams.STANDARD, force=force)
    data = streams.read(file)
    with streams.about(file):
        short = facecodec.truncate(data, max_bytes)
    streams.write(target, short, force=force)


@click.command(
    epilog=streams.examples(
        "fsc strip photo.fsc --keep features -o who.fsc",
        "fsc strip photo.fsc --keep base | fsc info -",
    )
)
@streams.file_argument
@click.option(
    "--keep",
    type=click.Choice(["features", "base"]),
    required=True,
    help="features: boxes and embeddings, no picture. base: these and the preview.",
)
@streams.output_option("standard output")
def strip(file: str, keep: str, output: str | None, force: bool) -> None:
    """Drop the later layers, for privacy or size."""
    import facecodec

    target = streams.target(output, streams.STANDARD, force=force)
    data = streams.read(file)
    with streams.about(file):
        rest = facecodec.strip(data, keep)
    streams.write(target, rest, force=force)
