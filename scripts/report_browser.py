"""A report in a real browser without a window: Debian's chromium, driven by its chromium-driver."""

import base64
import os
import shutil
from pathlib import Path

from report_error import ReportError

FLAGS = ["--headless=new", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage",
         "--force-color-profile=srgb"]  # fmt: skip


def open_browser():
    """A WebDriver whose logs `browser` (console) and `performance` (requests) are kept."""
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ImportError:
        raise ReportError("needs Selenium, the Debian package python3-selenium") from None
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        raise ReportError("needs a browser, the Debian packages chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    # Its sandbox refuses to run as root.
    for flag in FLAGS + (["--no-sandbox"] if os.geteuid() == 0 else []):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(service=Service(driver), options=options)


def show(browser, page, *, width=1200, height=900, dark=False):
    """Opens a file in a window of this size, in CSS pixels; returns when its charts are drawn."""
    from selenium.webdriver.support.ui import WebDriverWait

    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.get(Path(page).resolve().as_uri())
    drawn = ("return document.readyState === 'complete' && "
             "[...document.querySelectorAll('div.plot')].every((plot) => plot.querySelector('.main-svg'))")  # fmt: skip
    WebDriverWait(browser, 120).until(lambda b: b.execute_script(drawn))


def screenshot(browser, *, top=0, height=None):
    """PNG bytes of the page from `top` on, all of it by default."""
    whole, width = browser.execute_script(
        "return [document.documentElement.scrollHeight, document.documentElement.clientWidth]")  # fmt: skip
    clip = {"x": 0, "y": top, "width": width, "height": min(height or whole, whole - top), "scale": 1}
    taken = browser.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
    return base64.b64decode(taken["data"])
