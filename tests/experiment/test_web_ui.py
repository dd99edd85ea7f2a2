"""NNI's web UI in a real browser."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from .conftest import SEARCH, rows, status, wait

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("chromium") is None or shutil.which("chromedriver") is None,
        reason="Debian's packages chromium and chromium-driver are not installed",
    ),
]


@pytest.fixture
def browser():
    pytest.importorskip("selenium")
    sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))
    import web_ui

    browser = web_ui.open_browser()
    yield browser, web_ui
    browser.quit()


def test_the_trials_and_the_best_metric_are_on_the_page(place, port, browser, tmp_path):
    driver, web_ui = browser
    experiment = place.create(place.config("nnictl_search", SEARCH), port)
    wait(lambda: status(port) == "DONE")
    accuracies = [row[2] for row in rows(place.folder(experiment) / "search")]
    driver.get(f"http://localhost:{port}/oview")
    text = web_ui.wait_for(driver, "DONE")
    best = float(re.search(r"([\d.]+)\nBest metric", text)[1])
    assert best == pytest.approx(max(accuracies), abs=1e-5)
    assert f"Succeeded\n{len(accuracies)}\n" in text
    driver.get(f"http://localhost:{port}/detail")
    text = web_ui.wait_for(driver, "(FINAL)")
    shown = sorted(float(number) for number in re.findall(r"([\d.]+) \(FINAL\)", text))
    assert shown == pytest.approx(sorted(accuracies), abs=1e-5)
    web_ui.overview(driver, port, tmp_path / "overview.png")
    web_ui.curves(driver, port, tmp_path / "curves.png")
    for name in ("overview.png", "curves.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
