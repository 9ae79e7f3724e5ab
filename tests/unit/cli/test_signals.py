"""SIGTERM ends a command as Ctrl-C does, and afterwards it means what it meant before."""

from __future__ import annotations

import os
import signal
import time

import pytest

from deepterms.cli.signals import terminated_as_interrupted


def test_what_is_temporary_is_deleted() -> None:
    before = signal.getsignal(signal.SIGTERM)
    deleted = False
    with pytest.raises(KeyboardInterrupt), terminated_as_interrupted():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        finally:
            deleted = True
    assert deleted
    assert signal.getsignal(signal.SIGTERM) is before
