"""Write the pictures of a report beside this file: `docs/screenshots.py report.html` (needs chromium)."""

from __future__ import annotations

import base64
import sys
import tempfile
from pathlib import Path

from selenium.webdriver import ActionChains, Chrome, ChromeOptions, ChromeService, Keys

HERE = Path(__file__).parent
ARGUMENTS = "--headless --no-sandbox --disable-gpu --disable-background-networking --hide-scrollbars"


def capture(browser: Chrome, name: str) -> None:
    """Write what the window shows as PNG."""
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    (HERE / name).write_bytes(base64.b64decode(shot["data"]))


def show(browser: Chrome, selector: str, width: int, height: int) -> None:
    """Make a window of this size and scroll so that the selected part is in its middle."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    part = browser.find_element("css selector", selector)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", part)


def main() -> None:
    """A chart with its read-out on a wide screen, and the slider on a phone."""
    report = Path(sys.argv[1]).resolve().as_uri()
    with tempfile.TemporaryDirectory() as profile:
        options = ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for argument in [*ARGUMENTS.split(), f"--user-data-dir={profile}"]:
            options.add_argument(argument)
        with Chrome(options=options, service=ChromeService("/usr/bin/chromedriver")) as browser:
            browser.get(report)
            show(browser, ".plot", 1200, 760)
            chart = browser.find_element("css selector", ".chart")
            ActionChains(browser, duration=0).move_to_element(chart).perform()
            capture(browser, "report.png")
            show(browser, ".slider", 360, 560)
            slider = browser.find_element("css selector", ".slider input")
            slider.send_keys(*[Keys.ARROW_RIGHT] * (int(slider.get_attribute("max") or 0) // 3))
            browser.execute_script("arguments[0].blur()", slider)
            capture(browser, "report-phone.png")


if __name__ == "__main__":
    main()
