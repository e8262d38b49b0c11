"""Sections of charts, tables and pictures to one HTML document."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from facecodec.evaluation.page.parts import Section


def html(title: str, sections: Sequence[Section], facts: Sequence[tuple[str, str]]) -> str:
    """One self-contained HTML document; equal arguments give an equal string.

    `facts` are pairs of name and value shown at the end: machine, versions, command line, date, count of
    pictures.
    """
    body = "".join(
        f"<section><h2>{escape(section.title)}</h2><p>{escape(section.text)}</p>"
        + "".join(f"<figure><figcaption>{escape(part.title)}</figcaption></figure>" for part in section.parts)
        + "</section>"
        for section in sections
    )
    about = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title></head>\n<body><h1>{escape(title)}</h1>{body}<dl>{about}</dl></body></html>\n"
    )
