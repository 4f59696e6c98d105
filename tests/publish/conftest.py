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
    assert [child for child in left if child.status() != psutil.STATUS_ZOMBIE] == []
