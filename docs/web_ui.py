"""Pictures of NNI's web UI for the README, taken with headless Chromium from running experiments.

    nni-autoformer launch examples/nnictl_search/config.yml --port 8080
    nni-autoformer launch examples/nnictl_supernet/config.yml --port 8090
    python docs/web_ui.py --search 8080 --supernet 8090

Needs `pip install selenium` and Debian's packages chromium and chromium-driver.
"""

import argparse
import time
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1400,1180",
)
FIGURES = Path(__file__).with_name("figures")


def open_browser() -> webdriver.Chrome:
    """Chromium without a screen, and without connections of its own."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in FLAGS:
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))


def wait_for(browser: webdriver.Chrome, text: str) -> str:
    """The text of the page, once it holds some text."""
    WebDriverWait(browser, 30).until(lambda b: text in b.find_element(By.TAG_NAME, "body").text)
    return browser.find_element(By.TAG_NAME, "body").text


def overview(browser: webdriver.Chrome, port: int, picture: Path) -> None:
    """The overview of an experiment."""
    browser.get(f"http://localhost:{port}/oview")
    wait_for(browser, "Best metric")
    time.sleep(3)  # the charts draw themselves slowly
    browser.save_screenshot(str(picture))


def curves(browser: webdriver.Chrome, port: int, picture: Path) -> None:
    """The curves of all trials."""
    browser.get(f"http://localhost:{port}/detail")
    wait_for(browser, "Trial jobs")
    for button in browser.find_elements(By.CSS_SELECTOR, "button[role=tab]"):
        if "Intermediate result" in button.text:
            button.click()
    time.sleep(3)
    browser.save_screenshot(str(picture))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--search", type=int, help="port of a search")
    parser.add_argument("--supernet", type=int, help="port of a supernet's training")
    arguments = parser.parse_args()
    browser = open_browser()
    try:
        if arguments.search:
            overview(browser, arguments.search, FIGURES / "web_ui_search.png")
        if arguments.supernet:
            curves(browser, arguments.supernet, FIGURES / "web_ui_supernet.png")
    finally:
        browser.quit()


if __name__ == "__main__":
    main()
