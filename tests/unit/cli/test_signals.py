"""SIGTERM interrupts a command as Ctrl-C does, and its previous handler is restored."""

from __future__ import annotations

import os
import signal
import time

import pytest

from deepterms.cli.signals import sigterm_as_interrupt


def test_sigterm_runs_cleanup_and_restores_the_handler() -> None:
    before = signal.getsignal(signal.SIGTERM)
    deleted = False
    with pytest.raises(KeyboardInterrupt), sigterm_as_interrupt():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        finally:
            deleted = True
    assert deleted
    assert signal.getsignal(signal.SIGTERM) is before
