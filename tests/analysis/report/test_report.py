"""The report: one page that needs nothing else, and the files beside it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from analysis import AnalysisError, connect, write_report
from analysis.charts.catalog import PLOTS
from analysis.tables.catalog import TABLES

pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium")
# They need a cell with several configs, and metrics beside the usual ones.
DRAWN = set(PLOTS) - {"parallel-coordinates", "metric-curves", "confusion-reported"}


@pytest.fixture(scope="module")
def page(tiny, tmp_path_factory) -> Path:
    return write_report(connect(tiny), tmp_path_factory.mktemp("report") / "new")


def without_script(text):
    """Return the page without the script of Vega, which holds all kinds of text."""
    return re.sub(r"<script>.*?</script>", "", text, flags=re.S)


def test_files_lie_beside_the_page(page):
    assert page.name == "index.html"
    files = {str(path.relative_to(page.parent)) for path in page.parent.rglob("*.*")}
    tables = {f"tables/{name}.{suffix}" for name in TABLES for suffix in ("csv", "md")}
    assert files == {"index.html"} | tables | {f"figures/{name}.svg" for name in DRAWN}


def test_every_link_resolves(page):
    text = page.read_text()
    links = re.findall(r'href="([^"]+)"', without_script(text))
    assert len(links) > 15
    for link in links:
        if link.startswith("#"):
            assert f'id="{link[1:]}"' in text
        else:
            assert (page.parent / link).exists(), link


def test_the_page_needs_no_network_and_holds_the_script_once(page):
    text = page.read_text()
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=", without_script(text))
    assert text.count("window.vegaEmbed=") == 1
    assert not re.search(r"\$[a-z_]+\b(?!\")", without_script(text)), "a placeholder is left"


def test_the_page_lists_failures(page):
    text = page.read_text()
    assert "not every trial is complete (21/28, 1 pruned, 1 failed, 1 diverged, 4 missing)" in text
    assert "RuntimeError: out of memory" in text
    assert "sweep: tiny" in text
    assert "torch 2.15.0" in text


def test_the_page_says_what_is_real_and_what_is_noise(page):
    text = without_script(page.read_text())
    assert "<h3>Paired comparison</h3>" in text
    assert "<h3>Ranking</h3>" in text
    assert 'data-figure="ranks"' in text
    assert 'data-figure="lr-sensitivity"' in text


def test_a_search_is_drawn(searched, tmp_path):
    text = without_script(write_report(searched, tmp_path).read_text())
    assert 'data-figure="parallel-coordinates"' in text
    assert 'data-figure="ranks"' not in text
    assert "<h3>Ranking</h3>" not in text


@pytest.fixture
def one_figure(monkeypatch):
    """Draw one figure only, for tests of the text beside it."""
    monkeypatch.setattr("analysis.report.report.PLOTS", ["curves"])


@pytest.mark.usefixtures("one_figure")
def test_trials_that_early_stopping_pruned_are_no_cause_for_alarm(blank, tmp_path):
    for state, alarmed in (("pruned", False), ("failed", True)):
        sweep = blank(state)
        for seed, ends in enumerate(("complete", "complete", state)):
            sweep.store(sweep.trial(sweep.planned({"arch": "cnn3"}, seed), state=ends))
        sweep.write_plan()
        text = write_report(connect(sweep.folder), tmp_path / f"{state}-page").read_text()
        assert ("not every trial is complete" in text) == alarmed


@pytest.mark.usefixtures("one_figure")
def test_the_connection_is_left_as_it_was(tiny, tmp_path):
    connection = connect(tiny)
    before = connection.execute("SELECT count(*) FROM best").fetchone()
    write_report(connection, tmp_path)
    assert connection.execute("SELECT count(*) FROM best").fetchone() == before
    assert connection.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE database_name = 'temp'"
    ).fetchone() == (0,)


def test_figures_are_drawn_if_the_process_that_draws_them_dies(page, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("analysis.charts.svg.sys.executable", "/bin/false")
    write_report(connect(tiny), tmp_path)
    drawn = {path.name: path.read_bytes() for path in (page.parent / "figures").iterdir()}
    assert {p.name: p.read_bytes() for p in (tmp_path / "figures").iterdir()} == drawn


def test_an_empty_folder_has_a_report(blank, tmp_path):
    page = write_report(connect(blank().folder), tmp_path)
    assert "Nothing to show in curves yet." in page.read_text()


@pytest.mark.usefixtures("one_figure")
def test_several_folders_have_one_report(tiny, blank, tmp_path):
    sweep = blank("other")
    sweep.store(sweep.trial(sweep.planned({"arch": "cnn3"}, 0), image_size=8))
    sweep.store(sweep.trial(sweep.planned({"arch": "alexnet"}, 0), image_size=64))
    sweep.write_plan()
    text = write_report(connect(tiny, sweep.folder), tmp_path).read_text()
    assert "<title>tiny, other</title>" in text
    assert "other: image sizes differ (8, 64 px)" in text


def test_hostile_names_stay_text(blank, tmp_path):
    name = "</script><script>alert('x')</script><img src=x onerror=alert(1)>"
    sweep = blank()
    (sweep.folder / "sweep.yaml").write_text(f"sweep: blank\n# {name} $title\n")
    row = sweep.trial(sweep.planned({"arch": name}, 0), host=name, device=name, versions=name)
    sweep.store(row)
    failed = sweep.trial(sweep.planned({"arch": "cnn3"}, 0), state="failed", reason=name)
    sweep.store(failed)
    sweep.write_plan()
    text = write_report(connect(sweep.folder), tmp_path).read_text()
    assert "alert('x')</script>" not in text
    assert "<img" not in without_script(text)
    assert text.count("</script>") == 3
    assert "$title" in text


def test_a_report_that_cannot_be_written_is_a_message(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AnalysisError, match="cannot be made"):
        write_report(connect(tiny), tmp_path / "file")


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_figures_come_alive_in_a_browser(page, tmp_path):
    command = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path}",
        "--virtual-time-budget=8000",
        "--dump-dom",
        page.as_uri(),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert result.stdout.count('class="chart-wrapper"') == len(DRAWN)
    assert "Uncaught" not in result.stderr
