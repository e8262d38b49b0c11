"""``fsc eval groups`` and ``fsc eval faces1024``: what compression does to whom, and in 1,024 bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facecodec.cli import streams
from facecodec.cli.measure_looks import OWN, judge_options, paired, pairs_option, taken
from facecodec.cli.measure_options import Sitting, peers_options, sitting_options, spread, titles

if TYPE_CHECKING:
    from facecodec.evaluation.peers import Peer

BUDGETS = (256, 512, 1024)


@click.command(
    epilog=streams.examples(
        "fsc eval groups --images faces.jsonl --labels group --judge judge.ts",
        "fsc eval groups --images photos --labels age --bands 20,40,60 --out report",
    )
)
@click.option(
    "--labels",
    "column",
    metavar="COLUMN",
    required=True,
    help="The column of the packed set, or of labels.csv (id,...) in the folder, that names the groups.",
)
@click.option("--bands", metavar="N,N,...", default="", help="Make groups of a column of numbers.")
@sitting_options("groups")
@judge_options(BUDGETS)
@peers_options
def groups(
    sitting: Sitting,
    column: str,
    bands: str,
    judge: str | None,
    budgets: tuple[int, ...],
    chip: int | None,
    others: tuple[Peer, ...],
) -> None:
    """Measure what compression does to whom: rates of false matches by group, at one threshold for all.

    False matches: different pictures of a group (of different people as far as ids say) at or above the
    threshold that 0.1 % of all pairs of the labelled pictures pass. False non-matches: a degraded, or by a
    judge a decoded, picture below it when compared with its own original. No identities are needed.
    """
    from facecodec.evaluation import degrade, looks, tables
    from facecodec.evaluation import groups as grouping
    from facecodec.evaluation.pictures import open_pictures

    if budgets and not judge:
        raise click.UsageError("--bytes is for a --judge")
    try:
        edges = [float(edge) for edge in bands.split(",") if edge]
    except ValueError as error:
        raise click.BadParameter("bands are numbers, as in 20,40,60") from error
    everything = open_pictures(sitting.images)
    labelled = grouping.having(everything, column)
    entries = spread(labelled, sitting.limit)
    labels = grouping.labelled([entry.tags for entry in entries], column, edges)
    sizes = tuple(sorted(budgets or BUDGETS)) if judge else ()
    plan = looks.Plan(judge, sizes, others if judge else (), chip=chip, degraded=tuple(degrade.KINDS))
    seen, options = taken(sitting, plan, entries)
    result: dict[str, Any] = {"titles": titles(plan.others), "column": column, "judge": judge}
    result["without_label"] = len(everything) - len(labelled)
    result |= grouping.report(seen, labels, list(titles(plan.others)), sizes)
    summary = replace(sitting, name=f"groups-{column}").finish(result, tables.groups(result), options)
    if sitting.as_json:
        streams.show_json(summary)
        return
    found = streams.counted(summary["pictures"], "picture")
    click.echo(f"{found}, {len(summary['without_face'])} without a face found")
    if judge == "own":
        click.echo(OWN)
    for by, compared in summary["by"].items():
        if compared["threshold"] is None:
            click.echo(f"\nToo few pairs of pictures for a false match rate of {summary['false_match_rate']}")
            continue
        click.echo(
            f"\nBy {by}, threshold {compared['threshold']:.4f}: false matches / false non-matches / cosine"
        )
        for row in compared["rows"]:
            click.echo(row.get("title", row["name"]))
            for group, of in row["groups"].items():
                cosine = "-" if of["mean_cosine"] is None else f"{of['mean_cosine']:.3f}"
                match = "-" if of["false_match_rate"] is None else f"{100 * of['false_match_rate']:.3f} %"
                miss = f"{100 * of['false_non_match_rate']:.2f} %"
                click.echo(f"  {group:24}{match:>10}{miss:>10}{cosine:>8}")


@click.command(
    epilog=streams.examples(
        "fsc eval faces1024 --images photos --limit 50",
        "fsc eval faces1024 --images lfw --pairs lfw/pairs.txt --judge judge.ts --chips 128 --out report",
    )
)
@pairs_option(required=False)
@sitting_options("faces1024")
@judge_options((1024,))
@peers_options
def faces1024(
    sitting: Sitting,
    pairs_file: Path | None,
    judge: str | None,
    budgets: tuple[int, ...],
    chip: int | None,
    others: tuple[Peer, ...],
) -> None:
    """Measure the best that each codec makes of a face within 1,024 bytes.

    The others may reduce the picture or drop its colour; the best of these variants counts, for the picture
    and for recognition apart. Our files hold the embedding too.
    """
    from facecodec.evaluation import looks, pairs, tables, thousand

    if len(budgets) > 1:
        raise click.UsageError("one --bytes")
    if pairs_file and not judge:
        raise click.UsageError("--pairs is for a --judge")
    budget = budgets[0] if budgets else thousand.BUDGET
    if pairs_file:
        wanted, entries = paired(sitting, pairs.read_pairs(pairs_file))
    else:
        wanted, entries = None, sitting.entries()
    plan = looks.Plan(judge, (budget,), others, thousand.VARIANTS, chip)
    seen, options = taken(sitting, plan, entries)
    result = {"titles": titles(others), "judge": judge}
    result |= thousand.report(seen, list(titles(others)), budget, wanted)
    summary = sitting.finish(result, tables.looks(seen), options)
    if sitting.as_json:
        streams.show_json(summary)
        return
    click.echo(f"{streams.counted(summary['pictures'], 'picture')}, {budget:,} bytes")
    if judge == "own":
        click.echo(OWN)
    for row in summary["rows"]:
        picture = "no file so small"
        if row["bytes"] is not None:
            psnr = "-" if row["psnr"] is None else f"{row['psnr']:.2f}"
            picture = f"{row['bytes']:.0f} bytes, {psnr} dB, MS-SSIM {row['ms_ssim']:.4f}"
            picture += f", {row['without_file']} without a file" if row["without_file"] else ""
        click.echo(f"{summary['titles'][row['codec']]:12}{picture}")
        if recognised := row.get("recognition"):
            accuracy = f"{100 * recognised['accuracy']:.2f} %, " if recognised["accuracy"] is not None else ""
            if recognised["mean_cosine"] is not None:
                cosine = f"cosine {recognised['mean_cosine']:.3f} ({recognised['variant']})"
                click.echo(f"{'':12}{accuracy}{cosine}")
