import psutil
import pytest

from coursekit.publish.execute import execute


@pytest.fixture
def run(tmp_path, notebook_of):
    """run("a = 1", "a", limits=...) executes these cells; afterwards no kernel is left."""

    def runner(*cells, **options):
        return execute(notebook_of(*cells), "demo", cwd=tmp_path, **options)

    before = set(psutil.Process().children(recursive=True))
    yield runner
    left = set(psutil.Process().children(recursive=True)) - before
    # a busy machine needs a moment to take away what was killed
    _, alive = psutil.wait_procs(left, timeout=10)
    assert alive == []
