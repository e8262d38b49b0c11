"""Sections of charts, tables and pictures to one HTML document."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from facecodec.evaluation.page.bars import bar_chart
from facecodec.evaluation.page.lines import line_chart
from facecodec.evaluation.page.parts import Bars, Part, Plot, Section, Table

PEERS, DASHES = 7, 3  # colours beside the subject's, and kinds of lines of each
FIGURE = re.compile(r"[-+\u2212\u2013<>≤≥~(]*\d.*|[-\u2212\u2013\u2014]?|n/?a|nan|inf", re.IGNORECASE)
MEDIA_TYPES = {
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "image/avif": re.compile(rb"....ftypavi[fs]", re.DOTALL),
    "image/gif": re.compile(rb"GIF8[79]a"),
}


def html(title: str, sections: Sequence[Section], facts: Sequence[tuple[str, str]]) -> str:
    """One self-contained HTML document; equal arguments give an equal string.

    `facts` are pairs of name and value shown at the end: machine, versions, command line, date, count of
    pictures. The name of the page's first series is taken for its subject and emphasised throughout. A strict
    content security policy keeps the document from asking any address for anything. Raises ValueError for a
    picture of a format that browsers do not show.
    """
    names = [
        one.name
        for section in sections
        for part in section.parts
        if isinstance(part, (Plot, Bars))
        for one in part.series
    ]
    assets = resources.files(__package__)
    document = (
        _templates()
        .get_template("page.html")
        .render(
            title=title,
            sections=sections,
            facts=facts,
            looks=_looks(names),
            subject=next(iter(names), None),
            style=Markup(assets.joinpath("page.css").read_text("utf-8")),
            script=Markup(assets.joinpath("page.js").read_text("utf-8")),
        )
    )
    return document.encode("utf-8", "replace").decode("utf-8")  # names of files may hold lone surrogates


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=PackageLoader(__package__, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters.update(
        bar_chart=bar_chart,
        data_uri=_data_uri,
        figure_columns=_figure_columns,
        kind=_kind,
        line_chart=line_chart,
        paragraphs=_paragraphs,
        percent=_percent,
        sha256=_sha256,
    )
    return templates


def _looks(names: Iterable[str]) -> dict[str, str]:
    """The CSS classes of every name: the first has a colour of its own."""
    looks = {}
    for index, name in enumerate(dict.fromkeys(names)):
        dash, colour = divmod(index - 1, PEERS)
        looks[name] = f"c{colour + 1} d{dash % DASHES}" if index else "c0"
    return looks


def _figure_columns(table: Table) -> list[bool]:
    """For every column of a table whether all its cells are figures, or say that there is none."""
    return [
        all(FIGURE.fullmatch(row[index].strip()) for row in table.rows) for index in range(len(table.columns))
    ]


def _kind(part: Part) -> str:
    return type(part).__name__.lower()


def _paragraphs(text: str) -> list[str]:
    return [paragraph for paragraph in re.split(r"\n\s*\n", text) if paragraph.strip()]


def _percent(share: float) -> str:
    return f"{100 * share:.4g}%"


def _data_uri(picture: bytes) -> str:
    for media_type, signature in MEDIA_TYPES.items():
        if signature.match(picture):
            return f"data:{media_type};base64,{base64.b64encode(picture).decode()}"
    raise ValueError("not a picture of a format that browsers show")


def _sha256(source: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
