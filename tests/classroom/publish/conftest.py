import psutil
import pytest

from classroom.publish.execute import execute


@pytest.fixture
def run(tmp_path, notebook_of):
    """run("a = 1", "a", limits=...) executes these cells; afterwards no kernel is left."""

    def runner(*cells, **options):
        return execute(notebook_of(*cells), "demo", cwd=tmp_path, **options)

    before = set(psutil.Process().children(recursive=True))
    yield runner
    after = set(psutil.Process().children(recursive=True)) - before
    left = [process for process in after if not of_a_browser(process)]
    # a busy machine needs a moment to take away what was killed
    _, alive = psutil.wait_procs(left, timeout=10)
    assert alive == []


def of_a_browser(process) -> bool:
    """Tell whether the process belongs to the Chromium that other tests drive, which starts its own."""
    try:
        return any(word in process.name().lower() for word in ("chrom", "headless", "msedge"))
    except psutil.Error:
        return False
