"""`make lab` serves the course: the Start page opens in JupyterLab, and a cell of it runs."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import TimeoutError

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-for-this-test"
pytestmark = pytest.mark.browser


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab that the course's own command started."""
    port = free_port()
    command = [
        sys.executable,
        "course.py",
        "lab",
        "--no-browser",
        f"--port={port}",
        f"--IdentityProvider.token={TOKEN}",
    ]
    page = ROOT / "notebooks/00_start.ipynb"
    committed = page.read_bytes()  # JupyterLab saves after two minutes, unasked
    # Settings and trust of the person who runs the tests stay as they are.
    folders = {
        name: str(tmp_path_factory.mktemp(name.lower()))
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR")
    }
    log = (tmp_path_factory.mktemp("lab") / "log").open("w")
    server = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **folders}, stdout=log, stderr=log, start_new_session=True
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/api", server, Path(log.name))
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=20)
        page.write_bytes(committed)


def wait_for(address, server, log, seconds=120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert server.poll() is None, f"the server stopped:\n{log.read_text()}"
        try:
            return urllib.request.urlopen(address, timeout=2)
        except OSError:
            time.sleep(0.3)
    raise AssertionError(f"no answer within {seconds} s:\n{log.read_text()}")


def test_the_start_page_opens_and_a_cell_runs(lab, browser):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"{lab}/lab/tree/notebooks/00_start.ipynb?token={TOKEN}")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']", timeout=60_000)
    # Markdown of the committed page is rendered, not shown as source.
    assert page.locator(".jp-RenderedMarkdown h1").first.inner_text()
    # A visitor's own words in the first cell, run by the kernel that the course chose. Filling and clicking name their
    # targets; keys would go to whatever JupyterLab has in focus at that moment, which differs on a slow machine.
    cell = page.locator(".jp-CodeCell").first
    # On a busy machine the first press may come before the cell listens.
    for _ in range(5):
        cell.locator(".cm-content").fill("import coursekit; print('ready', 6 * 7)")
        cell.locator(".cm-content").press("Shift+Enter")
        try:
            cell.get_by_text("ready 42", exact=True).wait_for(timeout=20_000)
            break
        except TimeoutError:
            continue
    else:
        raise AssertionError("the cell did not run")
    page.close()
