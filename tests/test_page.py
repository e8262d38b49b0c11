from __future__ import annotations

import base64
import hashlib
import math
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_page import DIFFERENCES, FACTS, FIGURES, HOSTILE, RATES, ROC, SECTIONS, picture

from facecodec.evaluation.page import Bars, Image, Part, Plot, Section, Series, Strip, Table, html
from facecodec.evaluation.page.bars import bar_chart
from facecodec.evaluation.page.lines import HEIGHT, INDISTINCT, LINE, line_chart
from facecodec.evaluation.page.scales import decimals_for, linear, logarithmic, number, significant

VOID = {"meta", "link", "img", "input"}
SAMPLE = html("A report", SECTIONS, FACTS)


class Reader(HTMLParser):
    """Tags, attributes and text of a document; fails if a tag is left open."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(document)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    def classes(self, tag: str) -> list[str]:
        return [attributes.get("class") or "" for name, attributes in self.tags if name == tag]


def page(*parts: Part) -> str:
    return html("t", [Section("s", "", parts)], [])


def test_the_same_figures_give_the_same_page() -> None:
    assert html("A report", SECTIONS, FACTS) == SAMPLE


def test_every_text_is_on_the_page_as_it_was_given() -> None:
    words = "".join(Reader(SAMPLE).words)
    assert words.count(HOSTILE) == 4  # paragraph, legend, cell, command line
    assert "49" not in words
    assert "<script>alert" not in SAMPLE
    assert SAMPLE.count("<script") == SAMPLE.count("</script>") == 1 + 2  # its own, and two plots


def labelled(text: str) -> Reader:
    table = Table(text, (text, text), ((text, text),))
    return Reader(html(text, [Section(text, "", (table, RATES))], [(text, text)]))


@settings(max_examples=40)
@given(st.text())
def test_no_text_changes_the_structure_of_the_page(text: str) -> None:
    plain, told = labelled("x"), labelled(text)
    assert [(tag, attributes.keys() - {"class"}) for tag, attributes in told.tags] == [
        (tag, attributes.keys() - {"class"}) for tag, attributes in plain.tags
    ]
    assert "".join(told.words).count(text) >= 8


def test_names_of_files_that_are_no_unicode_are_shown() -> None:
    assert "photo?.jpg" in html("t", [], [("file", "photo\udcff.jpg")])


def test_no_address_is_asked_for_anything() -> None:
    for tag, attributes in Reader(SAMPLE).tags:
        for name, value in attributes.items():
            if name in ("src", "href", "action", "srcset", "data"):
                assert (value or "").startswith(("data:", "#")), (tag, name, value)
        assert tag not in ("iframe", "object", "embed", "base", "form")
    assert "url(" not in SAMPLE
    assert "@import" not in SAMPLE


def test_the_policy_allows_this_style_and_this_script_alone() -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', SAMPLE)
    assert policy
    for tag in ("style", "script"):
        source = re.findall(f"<{tag}>(.*?)</{tag}>", SAMPLE, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(source[-1].encode()).digest()).decode()
        assert f"{tag}-src &#39;sha256-{digest}&#39;;".replace("&#39;", "'") in policy[1]
    assert policy[1].startswith("default-src 'none'; img-src data:;")
    assert not any("style" in attributes for _, attributes in Reader(SAMPLE).tags)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "avif", "gif"])
def test_pictures_are_embedded_as_they_are(kind: str) -> None:
    data = picture(100, kind.upper())
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    assert f'src="{source}"' in page(Strip("t", ((Image(data, "caption"),),)))


@pytest.mark.parametrize("data", [b"", b"II*\0", b"<svg/>"])
def test_pictures_that_browsers_do_not_show_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="browsers"):
        page(Strip("t", ((Image(data, "caption"),),)))


def test_intervals_are_for_every_point_or_for_none() -> None:
    with pytest.raises(ValueError, match="2 points, 1 interval"):
        Series("a", ((0, 0), (1, 1)), ((0, 1),))


def test_the_first_name_is_the_subject_and_every_other_has_a_look_of_its_own() -> None:
    names = [f"codec {index}" for index in range(22)]
    flat = Plot("t", "x", "y", tuple(Series(name, ((0, 0), (1, 1))) for name in names))
    again = Bars("t", "y", ("g",), tuple(Series(name, ((0, 1),)) for name in reversed(names)))
    keys = Reader(page(flat, again)).classes("button")
    assert keys[0] == "key c0"
    assert len(set(keys[:22])) == 22
    assert keys[22:] == keys[21::-1]
    rows = Reader(page(flat, Table("t", ("a",), (("codec 0",), ("codec 1",))))).classes("tr")
    assert rows == ["", "subject", ""]


def test_columns_of_figures_are_aligned_as_such() -> None:
    reader = Reader(page(FIGURES))
    assert reader.classes("th") == ["", *["figure"] * 7, ""]
    assert reader.classes("td") == ["", *["figure"] * 7, ""] * 2


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_points_without_a_place_are_left_out(value: float) -> None:
    drawn = line_chart(Plot("t", "x", "y", (Series("a", ((1, 2), (2, value), (value, 3), (4, 5))),)))
    assert [dot.text for dot in drawn.lines[0].dots] == [("1", "2"), ("4", "5")]
    bars = bar_chart(Bars("t", "y", ("g", "h"), (Series("a", ((0, value), (1, 2))),)))
    assert [len(group) for _, group in bars.groups] == [0, 1]


def test_a_logarithmic_axis_has_no_place_for_zero() -> None:
    drawn = line_chart(Plot("t", "x", "y", (Series("a", ((0, 1), (-1, 2), (1, 3), (10, 4))),), log_x=True))
    assert [(dot.x, dot.text) for dot in drawn.lines[0].dots] == [(0, ("1", "3")), (1, ("10", "4"))]


@pytest.mark.parametrize(
    "part", [Plot("t", "x", "y", ()), Plot("t", "x", "y", (Series("a", ()),)), Bars("t", "y", ("g",), ())]
)
def test_a_chart_of_nothing_says_so(part: Part) -> None:
    assert re.search("No (points|bars) to draw", page(part))


def test_intervals_are_drawn_and_told() -> None:
    ours = line_chart(RATES).lines[0]
    assert ours.band
    assert all(dot.high < dot.y < dot.low for dot in ours.dots)  # from the top
    assert ours.dots[0].text == ("100", "31.93", "31.43 to 32.43")
    assert not line_chart(ROC).lines[0].band


def test_long_lines_lose_only_what_nobody_can_see() -> None:
    count = 50_000
    points = tuple((i / count, (i / count) ** 2) for i in range(count + 1))
    dots = line_chart(Plot("t", "x", "y", (Series("a", points),))).lines[0].dots
    assert 200 < len(dots) < 1500
    kept = [(dot.x, 1 - dot.y) for dot in dots]
    assert kept[0] == points[0]
    assert kept[-1] == points[-1]
    gaps = pairwise(kept)
    assert all(max(b[0] - a[0], b[1] - a[1]) < 2 * INDISTINCT for a, b in gaps)


def test_names_at_the_ends_of_lines_do_not_overlap() -> None:
    near = Plot("t", "x", "y", tuple(Series(f"codec {i}", ((0, 0), (1, i / 100))) for i in range(5)))
    lines = line_chart(near).lines
    heights = [line.end.y * HEIGHT + line.shift for line in lines if line.shift is not None]
    assert len(heights) == 5
    assert all(above - below >= LINE - 1 for above, below in pairwise(heights))
    assert "named" in page(near)


@pytest.mark.parametrize(
    "series",
    [
        tuple(Series(f"codec {i}", ((0, i), (1, 9))) for i in range(9)),  # too many at one place
        (Series("a", ((0, 0), (1, 1))), Series("b", ((0, 0), (0.5, 1)))),  # one ends amid the plot
        (Series("a name that is too long", ((0, 0), (1, 1))),),
    ],
)
def test_all_lines_have_a_name_at_their_end_or_none(series: tuple[Series, ...]) -> None:
    assert {line.shift for line in line_chart(Plot("t", "x", "y", series)).lines} == {None}


def test_bars_start_at_zero_on_either_side() -> None:
    chart = bar_chart(DIFFERENCES)
    (_, (worse,)), (_, (better,)) = chart.groups
    assert (worse.left, worse.left + worse.width) == pytest.approx((0, chart.zero))
    assert (better.left, better.left + better.width) == pytest.approx((chart.zero, 1))
    assert [worse.text, better.text] == ["\u221241.90", "3.90"]


reasonable = st.floats(-1e9, 1e9).map(lambda value: round(value, 6))
positive = st.floats(1e-9, 1e9)


@given(st.lists(reasonable, min_size=1), st.booleans())
def test_linear_axes_hold_all_values_and_a_few_ticks(values: list[float], whole_steps: bool) -> None:
    axis = linear(values, whole_steps=whole_steps)
    assert all(-1e-6 <= axis.place(value) <= 1 + 1e-6 for value in values)
    assert 2 <= len(axis.ticks) <= 9
    assert len({axis.label(tick) for tick in axis.ticks}) == len(axis.ticks)
    assert all(-1e-6 <= axis.place(tick) <= 1 + 1e-6 for tick in axis.ticks)


@given(st.lists(positive, min_size=1))
def test_logarithmic_axes_hold_all_values(values: list[float]) -> None:
    axis = logarithmic(values)
    assert all(-1e-6 <= axis.place(value) <= 1 + 1e-6 for value in values)
    assert len({axis.label(tick) for tick in axis.ticks}) == len(axis.ticks) <= 19


def test_ticks_are_round() -> None:
    axis = linear([21.4, 39.8], whole_steps=True)
    assert [axis.label(tick) for tick in axis.ticks] == ["20", "25", "30", "35", "40"]
    axis = linear([0.904, 0.998])
    assert [axis.label(tick) for tick in axis.ticks] == ["0.92", "0.94", "0.96", "0.98"]
    axis = logarithmic([290, 6000])
    assert [axis.label(tick) for tick in axis.ticks] == ["500", "1,000", "2,000", "5,000"]
    axis = logarithmic([160, 60_000])
    assert [axis.label(tick) for tick in axis.ticks] == ["300", "1,000", "3,000", "10,000", "30,000"]
    axis = logarithmic([1e-5, 1])
    assert [axis.label(tick) for tick in axis.ticks] == ["10⁻⁵", "10⁻⁴", "10⁻³", "0.01", "0.1", "1"]


def test_figures_have_the_digits_that_matter() -> None:
    assert number(-1234.567, 1) == "\u22121,234.6"
    assert [significant(value) for value in (0, 0.00012, 12.3456, 123456.0)] == [
        "0",
        "0.00012",
        "12.35",
        "123,456",
    ]
    assert decimals_for([100, 25_000]) == 0
    assert decimals_for([24.25, 48.5]) == 2
    assert decimals_for([0.9, 0.9975]) == 4
