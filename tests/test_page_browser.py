"""The page in a real browser: skipped where there is none, so continuous integration installs one."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from sample_page import BUDGETS, FACTS, RATES, ROC, SECTIONS
from selenium.webdriver import ActionChains, Chrome, ChromeOptions, ChromeService, Keys
from selenium.webdriver.remote.webelement import WebElement

from facecodec.evaluation.page import html

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromium-driver")

ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in [*ARGUMENTS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=ChromeService(str(DRIVER)))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html("A report", SECTIONS, FACTS), "utf-8")
    return path


@pytest.fixture
def page(browser: Chrome, report: Path) -> Iterator[Chrome]:
    """The report just opened in a wide window; whatever is done to it, the console must stay silent."""
    size(browser, 1200)
    browser.get(report.as_uri())
    yield browser
    assert browser.get_log("browser") == []


def size(browser: Chrome, width: int) -> None:
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def all_of(browser: Chrome, selector: str) -> list[WebElement]:
    return browser.find_elements("css selector", selector)


def boxes(browser: Chrome, selector: str) -> list[dict[str, float]]:
    script = (
        "return [...document.querySelectorAll(arguments[0])].map(e => e.getBoundingClientRect().toJSON())"
    )
    found: list[dict[str, float]] = browser.execute_script(script, selector)
    return found


def point_at(browser: Chrome, chart: WebElement, across: float, down: float) -> None:
    """Move the pointer over a chart, to shares of its width and height."""
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", chart)
    width, height = chart.size["width"], chart.size["height"]
    move = ActionChains(browser, duration=0)
    move.move_to_element_with_offset(
        chart, round((across - 0.5) * width), round((down - 0.5) * height)
    ).perform()


def readout(chart: WebElement) -> list[list[str]]:
    return [
        [cell.text for cell in row.find_elements("css selector", "th, td")]
        for row in chart.find_elements("css selector", ".readout tr")
    ]


def test_nothing_is_asked_of_the_network(page: Chrome) -> None:
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    assert any(address.endswith("report.html") for address in asked)
    assert {address.partition(":")[0] for address in asked} <= {"file", "data", "chrome"}


def test_the_policy_stops_what_asks_for_more(browser: Chrome, report: Path) -> None:
    browser.get(report.as_uri())
    refused = browser.execute_async_script(
        "const done = arguments[0];"
        "document.addEventListener('securitypolicyviolation', event => done(event.effectiveDirective));"
        "document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/'}));"
    )
    assert refused == "img-src"
    browser.get_log("browser")


def test_every_part_is_drawn(page: Chrome) -> None:
    for plot in (RATES, ROC):
        lines = boxes(page, f'.chart[aria-label^="{plot.title}"] .line')
        assert len(lines) == len(plot.series)
        assert all(line["width"] > 200 and line["height"] > 20 for line in lines)
    assert all(dot["width"] == dot["height"] > 4 for dot in boxes(page, ".chart circle"))
    bars = boxes(page, ".bars rect")
    assert [round(1.2 * bar["width"] / bars[2]["width"], 1) for bar in bars[2:]] == [1.2, 3.5, 1.1, 2.2]
    assert boxes(page, ".table td")
    sizes = page.execute_script("return [...document.images].map(image => image.naturalWidth)")
    assert sizes == [32] * (12 + 1 + len(BUDGETS))


def test_pointing_at_a_chart_reads_out_the_nearest_points(page: Chrome) -> None:
    chart = all_of(page, ".chart")[0]
    point_at(page, chart, 0.5, 0.3)
    rows = readout(chart)
    assert rows[0] == ["", "bytes", "PSNR in dB", "interval"]
    assert rows[1] == ["ours", "400", "37.93", "37.43 to 38.43"]
    assert rows[2][:3] == ["JPEG", "400", "33.93"]
    nearest = chart.find_elements("css selector", ".nearest th")
    assert [cell.text for cell in nearest] == ["ours"]
    plot, told = boxes(page, ".chart .drawn")[0], boxes(page, ".readout")[0]
    assert told["top"] >= plot["bottom"] or told["bottom"] <= plot["top"]
    point_at(page, chart, 0.99, 0.9)
    assert readout(chart)[1][:2] == ["ours", "1,600"]
    ActionChains(page, duration=0).move_to_element(all_of(page, "h2")[0]).perform()
    assert not chart.find_element("css selector", ".readout").is_displayed()


def test_arrow_keys_read_out_one_point_after_the_other(page: Chrome) -> None:
    chart = all_of(page, ".chart")[0]
    page.execute_script("arguments[0].focus({focusVisible: true})", chart)

    def told(key: str) -> list[str]:
        chart.send_keys(key)
        return [cell.text for cell in chart.find_elements("css selector", ".nearest > *") if cell.text][:3]

    assert told(Keys.ARROW_RIGHT)[:2] == ["ours", "200"]
    assert told(Keys.ARROW_RIGHT)[:2] == ["ours", "400"]
    assert told(Keys.ARROW_DOWN) == ["JPEG", "400", "33.93"]
    assert told(Keys.ARROW_LEFT)[:2] == ["JPEG", "200"]
    assert told(Keys.ESCAPE) == []


def test_a_key_hides_its_series_in_every_chart(page: Chrome) -> None:
    keys = all_of(page, '.key[data-name="JPEG"]')
    series = [one for one in all_of(page, '.series[data-name="JPEG"]') if one.tag_name != "text"]
    others = all_of(page, 'g.series[data-name="ours"], tr.series[data-name="ours"]')
    assert len(keys) == 3
    assert len(series) == 5  # two lines, a bar of each group, and one that goes by its group's name
    assert all(one.is_displayed() for one in series + others)
    keys[1].click()
    assert not any(one.is_displayed() for one in series)
    assert all(one.is_displayed() for one in others)
    assert {key.get_attribute("aria-pressed") for key in keys} == {"false"}
    chart = all_of(page, ".chart")[0]
    point_at(page, chart, 0.5, 0.5)
    assert "JPEG" not in [row[0] for row in readout(chart)]
    keys[0].send_keys(Keys.ENTER)
    assert all(one.is_displayed() for one in series)
    assert {key.get_attribute("aria-pressed") for key in keys} == {"true"}


def test_the_slider_changes_the_picture(page: Chrome) -> None:
    slider = all_of(page, ".slider input")[0]
    seen = []
    for budget in BUDGETS:
        shown = [frame for frame in all_of(page, ".slider .frame") if frame.is_displayed()]
        assert len(shown) == 1
        seen.append(shown[0].find_element("css selector", "img").get_attribute("src"))
        assert (
            all_of(page, ".slider output")[0].text
            == f"{budget:,} bytes"
            == slider.get_attribute("aria-valuetext")
        )
        slider.send_keys(Keys.ARROW_RIGHT)
    assert len(set(seen)) == len(BUDGETS)
    assert shown[0].text == "cut 4"


@pytest.mark.parametrize("width", [360, 768, 1200])
def test_everything_fits_the_width_of_the_window(page: Chrome, width: int) -> None:
    size(page, width)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    labels = [label for label in boxes(page, ".tick") if label["width"]]
    assert all(label["left"] >= 0 and label["right"] <= width for label in labels)
    for index in (1, 2):  # the section of each plot
        ticks = [label for label in boxes(page, f"section:nth-of-type({index}) .tick.x") if label["width"]]
        assert len(ticks) >= 2
        assert all(before["right"] < after["left"] for before, after in pairwise(ticks))


def test_dark_readers_get_a_dark_page(page: Chrome) -> None:
    def brightness() -> int:
        colour = page.execute_script("return getComputedStyle(document.documentElement).backgroundColor")
        return sum(map(int, re.findall(r"\d+", colour)[:3]))

    assert brightness() == 3 * 255
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": dark})
    assert brightness() < 100
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_the_page_is_complete_without_its_script(page: Chrome, tmp_path: Path) -> None:
    still = tmp_path / "still.html"
    document = html("A report", SECTIONS, FACTS)
    still.write_text(re.sub(r"<script>.*?</script>", "", document, flags=re.DOTALL), "utf-8")
    page.get(still.as_uri())
    assert all(line["width"] > 200 for line in boxes(page, ".line"))
    assert all(frame.is_displayed() for frame in all_of(page, ".slider .frame"))
    assert not all_of(page, ".slider input")[0].is_displayed()
