"""Facts about the machine: a container's limits count, nothing is guessed, nothing waits."""

import platform
import sys
import threading

import pytest

from classroom.machine import host as machine


def test_a_name_server_that_does_not_answer_is_not_waited_for(monkeypatch):
    never = threading.Event()
    monkeypatch.setattr(machine.socket, "getaddrinfo", lambda *_: never.wait())
    assert machine.hub_is_reachable(seconds=0.05) is False
    never.set()


def test_a_container_counts_with_its_own_limit(monkeypatch):
    limits = {"/sys/fs/cgroup/memory.max": 2**30, "/sys/fs/cgroup/memory.current": 2**29}
    monkeypatch.setattr(machine, "_read_int", limits.get)
    total, free = machine.ram_bytes()
    assert total == 2**30
    assert free <= 2**29


def test_without_psutil_memory_is_unknown(monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert machine.ram_bytes() == (None, None)


def test_the_browser_is_the_one_that_the_slides_use(monkeypatch):
    monkeypatch.setattr(machine.browser, "find_browser", lambda: "some-browser")
    assert machine.find_tool("chromium") == "some-browser"
    assert machine.find_tool("no-such-program") is None


@pytest.mark.parametrize(
    ("system", "processor", "release", "translated", "words"),
    [
        ("Linux", "x86_64", "6.8.0-generic", None, "Linux (x86_64)"),
        ("Linux", "x86_64", "5.15.153.1-microsoft-standard-WSL2", None, "Linux (x86_64), in Windows (WSL)"),
        ("Windows", "AMD64", "11", None, "Windows (AMD64)"),
        ("Darwin", "arm64", "24.0", None, "Darwin (arm64)"),
        ("Darwin", "x86_64", "22.0", "0", "Darwin (x86_64)"),
        ("Darwin", "x86_64", "24.0", "1", "Darwin (x86_64), an Intel Python on an Apple chip"),
    ],
)
def test_the_system_is_named(monkeypatch, system, processor, release, translated, words):
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    monkeypatch.delenv("COLAB_GPU", raising=False)
    for name, value in {"system": system, "machine": processor, "release": release}.items():
        monkeypatch.setattr(platform, name, lambda value=value: value)
    monkeypatch.setattr(machine, "answer_of", lambda *command: translated)
    assert machine.system_words() == words
    assert machine.is_intel_mac() == (system == "Darwin" and processor == "x86_64")


def test_colab_is_named(monkeypatch):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    assert machine.system_words().endswith(", Google Colab")


def test_a_program_is_asked_and_never_waited_for():
    assert machine.answer_of(sys.executable, "-c", "print(' yes ')") == "yes"
    assert machine.answer_of(sys.executable, "-c", "raise SystemExit(1)") is None
    assert machine.answer_of("no-such-program") is None
    endless = "import threading; threading.Event().wait()"
    assert machine.answer_of(sys.executable, "-c", endless, seconds=0.2) is None


def test_variables_that_hide_instructions_are_told(monkeypatch):
    for name in machine.LIMITING_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert machine.processor_limits() == ()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert machine.processor_limits() == ("ONEDNN_MAX_CPU_ISA=AVX2",)
