"""The commands that read files and run no network: features, compare, info, verify."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from facecodec.cli import streams
from facecodec.errors import StreamError

KINDS = ("npy", "json", "csv")


@click.command(
    epilog=streams.examples(
        "fsc features photo.fsc --format csv",
        "fsc features album/*.fsc -o album.npy",
    )
)
@streams.files_argument
@click.option("--format", "kind", type=click.Choice(KINDS), help="[default: as OUT's suffix says, or json]")
@streams.output_option("standard output")
def features(names: tuple[str, ...], kind: str | None, output: str | None, force: bool) -> None:
    """Write boxes, landmarks, embeddings.

    A row for each face in each FILE. An npy file holds the embeddings alone: float32 rows of unit length.
    """
    suffix = Path(output or "").suffix[1:]
    kind = kind or (suffix if suffix in KINDS else "json")
    target = streams.target(output, streams.STANDARD, force=force, text=kind != "npy")

    import facecodec
    from facecodec.cli import tables

    found = []
    for name in names:
        data = streams.read(name)
        with streams.about(name):
            found.append((name, facecodec.features(data)))
    streams.write(target, tables.dump(found, kind), force=force)


@click.command(
    epilog=streams.examples(
        "fsc compare a.fsc b.fsc",
        "fsc encode photo.jpg -o - | fsc compare - b.fsc --json",
    )
)
@click.argument("first", metavar="A", type=click.Path(allow_dash=True))
@click.argument("second", metavar="B", type=click.Path(allow_dash=True))
@streams.json_option
def compare(first: str, second: str, as_json: bool) -> None:
    """Tell whether it is the same person.

    Prints the cosine similarity of the most similar faces of A and B, and a verdict by the threshold that was
    measured with the weights.
    """
    import facecodec

    if first == second == streams.STANDARD:
        raise click.UsageError("A and B cannot both be standard input")
    result = facecodec.compare(streams.read(first), streams.read(second))
    if as_json:
        streams.show_json(asdict(result))
        return
    verdict = "the same person" if result.same else "different people"
    terms = f"threshold {result.threshold:.4f}, {result.false_match_rate:.2%} false matches"
    click.echo(f"{result.similarity:.4f}  {verdict} ({terms})")


@click.command(
    epilog=streams.examples(
        "fsc info photo.fsc",
        "fsc info photo.fsc --json | jq .parts",
    )
)
@streams.file_argument
@streams.json_option
def info(file: str, as_json: bool) -> None:
    """Account for every byte."""
    import facecodec

    data = streams.read(file)
    with streams.about(file):
        about = facecodec.info(data)
    if as_json:
        streams.show_json({"file": file, "bytes": len(data), **asdict(about)})
        return
    streams.say(file, *about.notes)
    faces = streams.counted(about.faces, "face")
    click.echo(f"{about.width}x{about.height} pixels, {faces}, {len(data):,} bytes")
    click.echo(f"bitstream version {about.version}, model {about.model}")
    click.echo()
    click.echo("offset   bytes  part")
    for part in about.parts:
        click.echo(f"{part.offset:6}  {part.size:6}  {part.name}")


@click.command(
    epilog=streams.examples(
        "fsc verify photo.fsc",
        "fsc verify album/*.fsc --json",
    )
)
@streams.files_argument
@streams.json_option
@click.pass_context
def verify(context: click.Context, names: tuple[str, ...], as_json: bool) -> None:
    """Check lengths and checksums.

    Prints ok or what is wrong for each FILE; exit code 4 if something is wrong.
    """
    import facecodec

    findings = {}
    for name in names:
        try:
            findings[name] = list(facecodec.verify(streams.read(name)))
        except StreamError as error:
            findings[name] = [str(error)]
    if as_json:
        streams.show_json(findings)
    else:
        for name, sentences in findings.items():
            click.echo(f"{name}: {'; '.join(sentences) or 'ok'}")
    if any(findings.values()):
        context.exit(StreamError.exit_code)
