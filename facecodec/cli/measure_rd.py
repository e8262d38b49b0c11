"""``fsc eval rd`` and ``fsc eval faces``: pictures and the detector."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from facecodec.cli import streams
from facecodec.cli.measure_options import (
    Sitting,
    described,
    peers_options,
    sitting_options,
    spread,
    titles,
)
from facecodec.errors import FscError

if TYPE_CHECKING:
    from facecodec.evaluation.peers import Peer

MOST_GROUPS = 12


@click.command(
    epilog=streams.examples(
        "fsc eval rd --images photos --limit 50",
        "fsc eval rd --images photos --jobs 2 --out report --peers jpeg,avif "
        "--external 'mine=enc -q {quality} {input} {output} ;; dec {input} {output}'",
    )
)
@sitting_options("rd")
@peers_options
@click.option(
    "--walk",
    type=click.IntRange(min=0),
    metavar="N",
    default=0,
    show_default=True,
    help="Cut the files of N pictures at every 16 bytes, and look for a fall in quality. Slow.",
)
def rd(sitting: Sitting, others: tuple[Peer, ...], walk: int) -> None:
    """Measure rate and distortion beside other formats.

    Ours are made for many sizes, from the base layer to full quality; the others sweep their quality. Whole
    files count, and the PSNR over R, G and B and the MS-SSIM of what they decode to. rd.csv holds every file
    of every picture.
    """
    from facecodec.evaluation import distortion, examples

    entries = sitting.entries()
    walked = {entry.id for entry in spread(entries, walk)} if walk else set()
    tasks = [(entry, entry.id in walked) for entry in entries]
    options = {"peers": described(others)}
    records = sitting.measure(
        partial(_measured, others=others),
        tasks,
        key=lambda task: task[0].id + (" walked" if task[1] else ""),
        options=options,
    )
    measured = [distortion.Measured.kept(record) for record in records]
    result: dict[str, Any] = {"titles": titles(others)}
    result |= distortion.report(measured, [peer.name for peer in others])
    if sitting.out:
        examples.write(sitting.out, entries, others)
    summary = sitting.finish(result, distortion.table(measured), options)
    if sitting.as_json:
        streams.show_json(summary)
        return
    _show(summary)


def _measured(task: tuple[Any, bool], others: tuple[Any, ...]) -> Any:
    from facecodec.evaluation import distortion

    return distortion.measure(task[0], others=others, walked=task[1])


def _show(result: dict[str, Any]) -> None:
    found = streams.counted(result["pictures"], "picture")
    click.echo(f"{found}, {result['without_face']} without a face found")
    click.echo(
        "Mean bytes of whole files for at least this PSNR, and our rate against theirs (Bjontegaard)\n"
    )
    groups = sorted(result["groups"].items(), key=lambda item: -item[1]["pictures"])[:MOST_GROUPS]
    for name, group in groups:
        heads = [*(f"{target} dB" for target in result["targets"]), "our rate", "by MS-SSIM"]
        click.echo(f"| {name}, {streams.counted(group['pictures'], 'picture')} | " + " | ".join(heads) + " |")
        click.echo("|---" * (len(heads) + 1) + "|")
        for codec, values in group["bytes"].items():
            cells = ["-" if value is None else f"{value:.0f}" for value in values]
            cells += [_rate(group, metric, codec) for metric in ("psnr", "ms_ssim")]
            click.echo(f"| {result['titles'][codec]} | " + " | ".join(cells) + " |")
        if any(count < group["pictures"] for count in group["compared"]):
            click.echo("| pictures that all reach it | " + " | ".join(map(str, group["compared"])) + " | | |")
        click.echo()
    everything = result["groups"]["all"]
    for mean in everything["curves"]["fsc"]:
        if not mean["setting"].startswith("size"):
            quality = "-" if mean["psnr"] is None else f"{mean['psnr']:.2f}"
            click.echo(f"{mean['setting']:12}{mean['bytes']:10.1f} bytes{quality:>8} dB")
    for codec, spent in everything["milliseconds"].items():
        click.echo(
            f"{result['titles'][codec]:12}{spent['encode']:10.1f} ms encode{spent['decode']:8.1f} ms decode"
        )
    fall = result["largest_fall"]
    if fall["pictures"]:
        click.echo(
            f"\nLargest fall of PSNR along the stream, in steps of {fall['stride']} bytes, over "
            f"{streams.counted(fall['pictures'], 'picture')}: {fall['decibels']:.3f} dB"
        )


def _rate(group: dict[str, Any], metric: str, codec: str) -> str:
    difference = group["rate_difference"][metric].get(codec)
    if not difference:
        return ""
    return f"{difference['percent']:+.1f} % ({difference['from_db']:.1f}-{difference['to_db']:.1f} dB)"


@click.command(
    epilog=streams.examples(
        "fsc eval faces --images lfw-dev.jsonl",
        "fsc eval faces --images val.jsonl --limit 100 --json",
    )
)
@sitting_options("faces")
def faces(sitting: Sitting) -> None:
    """Measure the detector against labelled faces.

    The right face is found if it overlaps the first label by half (IoU). Landmarks: the mean distance of the
    five from their labels, in per cent of the distance of the eyes.
    """
    from facecodec.evaluation import detection

    entries = sitting.entries()
    if any(entry.labels is None for entry in entries):
        raise FscError(f"{sitting.images} has no labels; a packed set has them")
    records = sitting.measure(detection.look, entries, key=lambda entry: entry.id, options={})
    result = sitting.finish(detection.report([detection.Found(**record) for record in records]), None, {})
    if sitting.as_json:
        streams.show_json(result)
        return
    click.echo(f"{streams.counted(result['pictures'], 'picture')}, {result['labelled']:,} with a label")
    if result["labelled"]:
        click.echo(f"right face found      {100 * result['found']:8.2f} %")
        click.echo(f"  and it comes first   {100 * result['found_first']:6.2f} %")
    if result["landmark_error"] is not None:
        click.echo(f"landmark error, mean  {100 * result['landmark_error']:8.2f} % of the eye distance")
        click.echo(f"  95 % are below      {100 * result['landmark_error_95']:8.2f} %")
    click.echo(f"pictures with faces   {100 * result['with_faces']:8.2f} %")
    click.echo(f"faces a picture       {result['faces']:8.2f}")
    click.echo(f"time a picture        {result['milliseconds']:8.1f} ms of processor time")
