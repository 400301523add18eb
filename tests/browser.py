"""Headless Chromium for tests of pages, where it is installed: `apt-get install chromium chromium-driver`."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def chromium(width: int = 1400, height: int = 900) -> Iterator:
    """A browser window that logs what its pages complain about; the test is skipped where there is none."""
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed")
    options = selenium.ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--window-size={width},{height}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    page = selenium.Chrome(options=options, service=selenium.ChromeService(driver))
    try:
        page.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        yield page
    finally:
        page.quit()


def complaints(page) -> list[str]:
    return [entry["message"] for entry in page.get_log("browser")]


def address(path: Path) -> str:
    return path.resolve().as_uri()
