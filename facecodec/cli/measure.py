"""The commands of ``fsc eval``: verify, rd, faces."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from facecodec import files
from facecodec.cli import streams
from facecodec.errors import FscError

Function = TypeVar("Function", bound=Callable[..., Any])
Item = TypeVar("Item")
Result = TypeVar("Result")

PEERS = ("jpeg", "jpeg2000", "webp", "avif")
BUDGETS = (256, 512, 1024)
MOST_GROUPS = 12
KINDS = ("detector", "trunk", "base", "analysis", "texture")


@click.group(
    "eval",
    epilog=streams.examples(
        "fsc eval verify --pairs lfw/pairs.txt --images lfw",
        "fsc eval rd --images photos --limit 50",
    ),
)
def evaluate() -> None:
    """Measure the weights on your own pictures."""


def images_option(function: Function) -> Function:
    """Take ``--images``."""
    text = "A folder of pictures (LFW's too), or a packed set."
    path = click.Path(path_type=Path)
    return click.option("--images", metavar="DIR|NAME.jsonl", type=path, required=True, help=text)(function)


def jobs_option(function: Function) -> Function:
    """Take ``--jobs``."""
    most = os.cpu_count() or 1
    return click.option(
        "--jobs", type=click.IntRange(1, most), metavar="N", default=1, show_default=True, help="Processes."
    )(function)


def limit_option(function: Function) -> Function:
    """Take ``--limit``."""
    text = "Take N pictures, spread over all."
    return click.option("--limit", type=click.IntRange(min=1), metavar="N", help=text)(function)


@evaluate.command(
    epilog=streams.examples(
        "fsc eval verify --pairs lfw/pairs.txt --images lfw --jobs 2",
        "fsc eval verify --pairs pairs.csv --images set.jsonl --judge judge.ts --bytes 300 --bytes 1000",
    )
)
@click.option(
    "--pairs",
    "pairs_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    required=True,
    help="CSV with the columns a, b, same, or LFW's pairs.txt.",
)
@images_option
@click.option(
    "--judge",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A TorchScript recogniser of 112x112 aligned faces, to look at decoded pictures.",
)
@click.option(
    "--bytes",
    "budgets",
    type=click.IntRange(min=1),
    metavar="N",
    multiple=True,
    help=f"A size of whole files for the judge; may be repeated.  [default: {', '.join(map(str, BUDGETS))}]",
)
@jobs_option
@streams.json_option
def verify(
    pairs_file: Path, images: Path, judge: Path | None, budgets: tuple[int, ...], jobs: int, as_json: bool
) -> None:
    """Measure recognition: accuracy over pairs of pictures.

    From photographs, with the detector's landmarks: by float embeddings, by the features in files, and by a
    judge who looks at decoded pictures. Ten folds, each judged by the threshold of the others. A pair with a
    picture in which no face is found counts as an error.
    """
    from facecodec.evaluation import judges, pairs, pictures
    from facecodec.evaluation import verify as verification

    if budgets and not judge:
        raise click.UsageError("--bytes is for a --judge")
    if judge:
        judges.load(judge)
        budgets = budgets or BUDGETS
    wanted = pairs.read_pairs(pairs_file)
    known = {entry.id: entry for entry in pictures.open_pictures(images)}
    missing = [name for name in wanted.pictures() if name not in known]
    if missing:
        raise FscError(
            f"{len(missing)} pictures of {pairs_file} are not in {images}: {', '.join(missing[:3])} ..."
        )
    chosen = [known[name] for name in wanted.pictures()]
    see = partial(verification.see, judge=judge, budgets=budgets)
    result = verification.report(_over(see, chosen, jobs), wanted, budgets)
    if as_json:
        streams.show_json(_conditions(images) | {"pairs_file": str(pairs_file)} | result)
        return
    _show_verification(result)


def _show_verification(result: dict[str, Any]) -> None:
    absent = len(result["without_face"])
    click.echo(f"{result['pairs']:,} pairs of {result['pictures']:,} pictures; {absent} without a face found")
    click.echo(f"\n{'':20}{'accuracy':>16}{'TAR at FAR 0.1 %':>18}{'mean cosine':>13}   from")
    for row in result["rows"]:
        accuracy = f"{100 * row['accuracy']:.2f} +- {100 * row['standard_error']:.2f} %"
        rate = "-" if row["true_accept_rate"] is None else f"{100 * row['true_accept_rate']:.2f} %"
        cosine = "-" if row["mean_cosine"] is None else f"{row['mean_cosine']:.3f}"
        click.echo(f"{row['name']:20}{accuracy:>16}{rate:>18}{cosine:>13}   {row['from']}")
    if result["one_face"]:
        click.echo(
            f"\n{'bytes':20}{'mean':>16}{'most':>18}   in {result['one_face']:,} pictures with one face"
        )
        for name, key in {"identity codes": "identity_bytes", "base-only file": "base_bytes"}.items():
            click.echo(f"{name:20}{result[key]['mean']:16.1f}{result[key]['max']:18}")


def _peers(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(name for name in value.split(",") if name)
    if unknown := set(names) - set(PEERS):
        raise click.BadParameter(f"{', '.join(sorted(unknown))}: the choices are {', '.join(PEERS)}")
    return names


@evaluate.command(
    epilog=streams.examples(
        "fsc eval rd --images photos --limit 50",
        "fsc eval rd --images photos --peers jpeg,avif --jobs 2 --out report",
    )
)
@images_option
@click.option(
    "--peers",
    metavar="NAMES",
    default=",".join(PEERS),
    show_default=True,
    callback=_peers,
    help="Formats beside ours.",
)
@limit_option
@click.option(
    "--walk",
    type=click.IntRange(min=0),
    metavar="N",
    default=0,
    show_default=True,
    help="Cut the files of N pictures at every 16 bytes, and look for a fall in quality. Slow.",
)
@click.option(
    "--out", metavar="DIR", type=click.Path(path_type=Path, file_okay=False), help="Keep the figures here."
)
@click.option("--force", is_flag=True, help="Overwrite what is in DIR.")
@jobs_option
@streams.json_option
def rd(
    images: Path,
    peers: tuple[str, ...],
    limit: int | None,
    walk: int,
    out: Path | None,
    force: bool,
    jobs: int,
    as_json: bool,
) -> None:
    """Measure rate and distortion beside other formats.

    One file of full quality is cut to many sizes; the others sweep their quality. Whole files count, and the
    PSNR over R, G and B of what they decode to. DIR gets rd.csv, every file of every picture, and rd.json.
    """
    from facecodec.evaluation import distortion, pictures

    targets = {name: out / f"rd.{name}" for name in ("csv", "json")} if out else {}
    for target in targets.values():
        if not force:
            files.refuse_overwriting(target)
    entries = _spread(pictures.open_pictures(images), limit)
    walked = {entry.id for entry in _spread(entries, walk)}
    tasks = [(entry, entry.id in walked) for entry in entries]
    measured = _over(partial(_measured, peers=peers), tasks, jobs)
    result = _conditions(images) | distortion.report(measured, peers)
    if out:
        out.mkdir(parents=True, exist_ok=True)
        files.write_atomic(targets["csv"], distortion.table(measured).encode(), force=force)
        files.write_atomic(targets["json"], (json.dumps(result, indent=2) + "\n").encode(), force=force)
    if as_json:
        streams.show_json(result)
        return
    _show_distortion(result)


def _measured(task: tuple[Any, bool], peers: tuple[str, ...]) -> Any:
    from facecodec.evaluation import distortion

    return distortion.measure(task[0], peers=peers, walked=task[1])


def _show_distortion(result: dict[str, Any]) -> None:
    from facecodec.evaluation.peers import PEERS as formats

    titles = {"fsc": "fsc"} | {name: peer.title for name, peer in formats.items()}
    click.echo(f"{result['pictures']} pictures, {result['without_face']} without a face found")
    click.echo(
        "Mean bytes of whole files for at least this PSNR, and our rate against theirs (Bjontegaard)\n"
    )
    groups = sorted(result["groups"].items(), key=lambda item: -item[1]["pictures"])[:MOST_GROUPS]
    for name, group in groups:
        heads = [f"{target} dB" for target in result["targets"]]
        click.echo(f"| {name}, {group['pictures']} pictures | " + " | ".join(heads) + " | our rate |")
        click.echo("|---" * (len(heads) + 2) + "|")
        for codec, values in group["bytes"].items():
            cells = ["-" if value is None else f"{value:.0f}" for value in values]
            click.echo(f"| {titles[codec]} | " + " | ".join([*cells, _rate(group, codec)]) + " |")
        if any(count < group["pictures"] for count in group["compared"]):
            click.echo("| pictures that all reach it | " + " | ".join(map(str, group["compared"])) + " | |")
        click.echo()
    for setting, mean in result["groups"]["all"]["settings"].items():
        quality = "-" if mean["psnr"] is None else f"{mean['psnr']:.2f}"
        click.echo(f"{setting:12}{mean['bytes']:10.1f} bytes{quality:>8} dB")
    fall = result["largest_fall"]
    if fall["pictures"]:
        click.echo(
            f"\nLargest fall of PSNR along the stream, in steps of {fall['stride']} bytes, over "
            f"{fall['pictures']} pictures: {fall['decibels']:.3f} dB"
        )


def _rate(group: dict[str, Any], codec: str) -> str:
    difference = group["rate_difference"].get(codec)
    if not difference:
        return ""
    return f"{difference['percent']:+.1f} % ({difference['from_db']:.1f}-{difference['to_db']:.1f} dB)"


@evaluate.command(
    epilog=streams.examples(
        "fsc eval faces --images lfw-dev.jsonl",
        "fsc eval faces --images val.jsonl --limit 100 --json",
    )
)
@images_option
@limit_option
@jobs_option
@streams.json_option
def faces(images: Path, limit: int | None, jobs: int, as_json: bool) -> None:
    """Measure the detector against labelled faces.

    The right face is found if it overlaps the first label by half (IoU). Landmarks: the mean distance of the
    five from their labels, in per cent of the distance of the eyes.
    """
    from facecodec.evaluation import detection, pictures

    entries = _spread(pictures.open_pictures(images), limit)
    if any(entry.labels is None for entry in entries):
        raise FscError(f"{images} has no labels; a packed set has them")
    result = detection.report(_over(detection.look, entries, jobs))
    if as_json:
        streams.show_json(_conditions(images) | result)
        return
    click.echo(f"{result['pictures']:,} pictures, {result['labelled']:,} with a label")
    if result["labelled"]:
        click.echo(f"right face found      {100 * result['found']:8.2f} %")
        click.echo(f"  and it is the largest {100 * result['found_first']:6.2f} %")
    if result["landmark_error"] is not None:
        click.echo(f"landmark error, mean  {100 * result['landmark_error']:8.2f} % of the eye distance")
        click.echo(f"  95 % are below      {100 * result['landmark_error_95']:8.2f} %")
    click.echo(f"pictures with faces   {100 * result['with_faces']:8.2f} %")
    click.echo(f"faces a picture       {result['faces']:8.2f}")
    click.echo(f"time a picture        {result['milliseconds']:8.1f} ms of processor time")


def _over(function: Callable[[Item], Result], items: Sequence[Item], jobs: int) -> list[Result]:
    """Return what the function makes of each item, with progress on standard error."""
    from facecodec.evaluation.jobs import run

    with click.progressbar(
        run(function, items, jobs), length=len(items), label=f"{len(items):,} pictures", file=sys.stderr
    ) as results:
        return list(results)


def _spread(items: list[Item], limit: int | None) -> list[Item]:
    """Return ``limit`` items, evenly spread over all."""
    if limit is None or limit >= len(items):
        return items
    return [items[len(items) * i // limit] for i in range(limit)]


def _conditions(images: Path) -> dict[str, Any]:
    """Return what the figures were measured with."""
    from importlib.metadata import version

    from facecodec import weights

    listed = weights.sums(weights.folder())
    used = {
        kind: weights.newest(kind) for kind in KINDS if any(n.rpartition("-v")[0] == kind for n in listed)
    }
    return {"facecodec": version("facecodec"), "weights": used, "images": str(images)}


COMMANDS = (evaluate,)
