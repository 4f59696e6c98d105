"""SIGTERM ends a command as Ctrl-C does."""

import os
import signal
import threading

import pytest

from classroom.publish.stop import Terminated, exit_status, terminated_like_ctrl_c


def test_statuses_are_those_of_shells():
    assert (exit_status(KeyboardInterrupt()), exit_status(Terminated())) == (130, 143)


if os.name != "nt":  # there os.kill ends the process at once

    def test_sigterm_is_raised_inside_and_what_it_was_afterwards():
        before = signal.getsignal(signal.SIGTERM)
        with pytest.raises(Terminated), terminated_like_ctrl_c():
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait(60)
        assert signal.getsignal(signal.SIGTERM) is before


def test_outside_the_main_thread_nothing_changes():
    def use():
        with terminated_like_ctrl_c():
            done.append(True)

    done = []
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert done
