"""The command ``fsc eval`` and its measurements."""

from __future__ import annotations

import click

from facecodec.cli import measure_groups, measure_previews, measure_rd, measure_verify, streams


@click.group(
    "eval",
    epilog=streams.examples(
        "fsc eval rd --images photos --limit 50 --out report",
        "fsc eval verify --pairs lfw/pairs.txt --images lfw --judge judge.ts --out report",
    ),
)
def evaluate() -> None:
    """Measure the weights on your own pictures.

    Measurements that share --out share its report.html.
    """


for _command in (
    measure_rd.rd,
    measure_verify.verify,
    measure_verify.robust,
    measure_previews.previews,
    measure_groups.groups,
    measure_groups.faces1024,
    measure_rd.faces,
):
    evaluate.add_command(_command)
