"""``fsc eval previews``: what is seen of a face in the first bytes of a file."""

from __future__ import annotations

import click

from facecodec.cli import streams
from facecodec.cli.measure_looks import OWN, judge_options, named, taken, tune_option
from facecodec.cli.measure_options import Sitting, sitting_options

BUDGETS = (96, 128, 160, 192, 224, 256, 384)


@click.command(
    epilog=streams.examples(
        "fsc eval previews --images photos --limit 50",
        "fsc eval previews --images faces.jsonl --judge judge.ts --bytes 160 --out report",
    )
)
@sitting_options("previews")
@judge_options(BUDGETS)
@tune_option
def previews(
    sitting: Sitting, judge: str | None, budgets: tuple[int, ...], chip: int | None, tune: str
) -> None:
    """Measure what is seen of a face in the first bytes of a file.

    Each file is cut to so many bytes and decoded; means over the pictures in which a face is found.
    """
    from facecodec.evaluation import looks, previews, tables

    sitting = named(sitting, chip, tune)
    sizes = tuple(sorted(budgets or BUDGETS))
    seen, options = taken(sitting, looks.Plan(judge, sizes, chip=chip, tune=tune), sitting.entries())
    summary = sitting.finish({"judge": judge} | previews.report(seen, sizes), tables.looks(seen), options)
    if sitting.as_json:
        streams.show_json(summary)
        return
    found = streams.counted(summary["pictures"], "picture")
    click.echo(f"{found}, {len(summary['without_face'])} without a face found")
    if judge == "own":
        click.echo(OWN)
    click.echo(f"\n{'at most':>8}{'bytes':>8}{'picture':>12}{'face':>12}{'judge':>8}")
    for row in summary["rows"]:
        size = _shown(row["bytes"], ".1f")
        psnr, face = (_shown(row[key], ".2f") for key in ("psnr", "face_psnr"))
        click.echo(f"{row['budget']:8}{size:>8}{psnr:>9} dB{face:>9} dB{_shown(row['cosine'], '.3f'):>8}")


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
