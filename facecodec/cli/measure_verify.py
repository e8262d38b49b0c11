"""``fsc eval verify`` and ``fsc eval robust``: who is told apart after coding, and from bad photographs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facecodec.cli import streams
from facecodec.cli.measure_looks import OWN, judge_options, named, paired, pairs_option, taken, tune_option
from facecodec.cli.measure_options import Sitting, peers_options, sitting_options, titles

if TYPE_CHECKING:
    from facecodec.evaluation.peers import Peer

BUDGETS = (192, 256, 384, 512, 768, 1024, 2048)


@click.command(
    epilog=streams.examples(
        "fsc eval verify --pairs lfw/pairs.txt --images lfw --jobs 2",
        "fsc eval verify --pairs pairs.csv --images set.jsonl --judge judge.ts --chips 128 --out report",
    )
)
@pairs_option(required=True)
@sitting_options("verify")
@judge_options(BUDGETS)
@tune_option
@peers_options
def verify(
    sitting: Sitting,
    pairs_file: Path,
    judge: str | None,
    budgets: tuple[int, ...],
    chip: int | None,
    tune: str,
    others: tuple[Peer, ...],
) -> None:
    """Measure recognition: accuracy over pairs of pictures.

    From photographs, with the detector's landmarks: by float embeddings, by the features in files, and by a
    judge who looks at decoded pictures, ours and those of other formats at their best quality within so many
    bytes. Ten folds, each judged by the threshold of the others. A pair with a picture in which no face is
    found, or of which a format has no file so small, counts as an error.
    """
    from facecodec.evaluation import looks, pairs, tables
    from facecodec.evaluation import verify as verification

    if budgets and not judge:
        raise click.UsageError("--bytes is for a --judge")
    sitting = named(sitting, chip, tune)
    sizes = tuple(sorted(budgets or BUDGETS)) if judge else ()
    wanted, entries = paired(sitting, pairs.read_pairs(pairs_file))
    plan = looks.Plan(judge, sizes, others if judge else (), chip=chip, tune=tune)
    seen, options = taken(sitting, plan, entries)
    names = list(titles(plan.others))
    result = {"titles": titles(plan.others), "pairs_file": str(pairs_file), "judge": judge}
    result |= verification.report(seen, wanted, names, sizes)
    summary = sitting.finish(result, tables.looks(seen), options)
    if sitting.as_json:
        streams.show_json(summary)
        return
    absent = len(summary["without_face"])
    click.echo(f"{_compared(summary)}; {absent} without a face found")
    if judge == "own":
        click.echo(OWN)
    click.echo(f"\n{'':24}{'accuracy':>16}{'TAR at FAR 0.1 %':>18}{'mean cosine':>13}   from")
    for row in summary["rows"] + summary["codes"]:
        lacking = f", {row['missing']:,} missing" if row["missing"] else ""
        click.echo(f"{row['name']:24}{_accuracy(row)}   {row['from']}{lacking}")
    if summary["one_face"]:
        alone = streams.counted(summary["one_face"], "picture")
        click.echo(f"\n{'bytes':24}{'mean':>16}{'most':>18}   in {alone} with one face")
        for name, key in {"identity codes": "identity_bytes", "base-only file": "base_bytes"}.items():
            click.echo(f"{name:24}{summary[key]['mean']:16.1f}{summary[key]['max']:18}")
    if summary["needed"]:
        _show_needed(summary["needed"], summary["titles"])


def _compared(summary: dict[str, Any]) -> str:
    return f"{streams.counted(summary['pairs'], 'pair')} of {streams.counted(summary['pictures'], 'picture')}"


def _accuracy(row: dict[str, Any]) -> str:
    accuracy = f"{100 * row['accuracy']:.2f} +- {100 * row['standard_error']:.2f} %"
    share = row["true_accept_rates"]["0.001"]
    rate = "-" if share is None else f"{100 * share:.2f} %"
    cosine = "-" if row["mean_cosine"] is None else f"{row['mean_cosine']:.3f}"
    return f"{accuracy:>16}{rate:>18}{cosine:>13}"


def _show_needed(needed: dict[str, Any], names: dict[str, str]) -> None:
    click.echo("\nBytes needed for an accuracy, with 95 % of bootstrap samples")
    for name, cells in needed["bytes"].items():
        for accuracy, cell in zip(needed["accuracies"], cells, strict=True):
            ours = needed["percent"].get(name, [None] * len(cells))[needed["accuracies"].index(accuracy)]
            share = f"   ours: {_between(ours)} % of it" if ours and ours["value"] is not None else ""
            click.echo(f"{names[name]:12}{100 * accuracy:5.0f} %   {_between(cell)}{share}")


def _between(cell: dict[str, Any]) -> str:
    value, low, high = (
        f"{v:.0f}" if isinstance(v, float) else v or "-" for v in (cell["value"], cell["low"], cell["high"])
    )
    return f"{value} ({low} to {high})"


@click.command(
    epilog=streams.examples(
        "fsc eval robust --pairs lfw/pairs.txt --images lfw --jobs 2",
        "fsc eval robust --pairs pairs.csv --images set.jsonl --out report",
    )
)
@pairs_option(required=True)
@sitting_options("robust")
def robust(sitting: Sitting, pairs_file: Path) -> None:
    """Measure recognition from bad photographs: blurred, JPEG quality 20, dark, turned, small.

    Both pictures of a pair are degraded alike, and faces are found in them anew; a face that is not found is
    an error.
    """
    from facecodec.evaluation import degrade, looks, pairs, tables
    from facecodec.evaluation import robust as robustness

    wanted, entries = paired(sitting, pairs.read_pairs(pairs_file))
    seen, options = taken(sitting, looks.Plan(degraded=tuple(degrade.KINDS)), entries)
    result = {"pairs_file": str(pairs_file)} | robustness.report(seen, wanted)
    summary = sitting.finish(result, tables.degraded(seen), options)
    if sitting.as_json:
        streams.show_json(summary)
        return
    click.echo(_compared(summary))
    click.echo(f"\n{'':48}{'accuracy':>16}{'TAR at FAR 0.1 %':>18}{'mean cosine':>13}  not found")
    for row in summary["rows"]:
        for kind in ("float", "codes"):
            click.echo(f"{row['title'] + ', ' + kind:48}{_accuracy(row[kind])}{row[kind]['missing']:>11}")
