"""`make lab` serves the course: the student's own Start page opens in JupyterLab, and a cell of it runs."""

import os
import re
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
PAGE = "work/notebooks/00_start.ipynb"
SECONDS = 300  # a net against hangs only: on a machine with other work a start takes minutes
pytestmark = pytest.mark.browser


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab that was started by the course's own words, on copies in a folder of its own.

    The server runs in the environment of the tests: course.py's set-up belongs to whoever called the tests.
    """
    from course_setup import tasks, work

    folder = tmp_path_factory.mktemp("lab")
    for name in ("notebooks", "exercises"):
        (folder / name).mkdir()
        for path in (ROOT / name).glob("*.ipynb"):
            (folder / name / path.name).write_bytes(path.read_bytes())
    work.refresh(str(folder))
    port = free_port()
    command = [sys.executable, "-m", "jupyterlab", *tasks.lab_options(), "--no-browser", f"--port={port}"]
    command.append(f"--IdentityProvider.token={TOKEN}")
    with (folder / "log").open("w") as log:
        server = start(command, folder, log)
    try:
        wait_for(f"http://127.0.0.1:{port}/api", server, folder / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        stop(server)


def start(command, folder, log):
    """The server in a group of its own, so that its kernels end with it; settings of the person stay as they are."""
    folders = {name: str(folder / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR")}
    group = {"start_new_session": True}
    if os.name == "nt":
        group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return subprocess.Popen(
        command, cwd=folder, env={**os.environ, **folders}, stdout=log, stderr=log, **group
    )


def stop(server):
    """End the server and its kernels. Windows has no groups that can be ended: there its tree of processes is."""
    if os.name == "nt":
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(server.pid)], capture_output=True)
    else:
        os.killpg(server.pid, signal.SIGTERM)
    try:
        server.wait(timeout=60)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def wait_for(address, server, log):
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        assert server.poll() is None, f"the server stopped:\n{log.read_text()}"
        try:
            return urllib.request.urlopen(address, timeout=10)
        except OSError:
            time.sleep(0.3)
    raise AssertionError(f"no answer within {SECONDS} s:\n{log.read_text()}")


@pytest.mark.timeout(3 * SECONDS)
def test_the_start_page_opens_and_a_cell_runs(lab, browser):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(SECONDS * 1000)
    page.goto(f"{lab}/?token={TOKEN}")
    page.wait_for_url(f"**/{PAGE}*")  # what opens when nothing is asked for
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']")
    # Markdown of the committed page is rendered, not shown as source; Jupyter's own news do not pop up.
    assert page.locator(".jp-RenderedMarkdown h1").first.inner_text()
    news = page.get_by_text(re.compile("Jupyter news"))
    assert news.count() == 0, news.first.evaluate("e => e.outerHTML")
    # A visitor's own words in the first cell, run by the kernel that the course chose. Filling and clicking name their
    # targets; keys would go to whatever JupyterLab has in focus at that moment, which differs on a slow machine.
    cell = page.locator(".jp-CodeCell").first
    # On a busy machine the first press may come before the cell listens.
    for _ in range(10):
        cell.locator(".cm-content").fill("import coursekit; print('ready', 6 * 7)")
        cell.locator(".cm-content").press("Shift+Enter")
        try:
            cell.get_by_text("ready 42", exact=True).wait_for(timeout=SECONDS / 10 * 1000)
            break
        except TimeoutError:
            continue
    else:
        raise AssertionError("the cell did not run")
    page.close()
