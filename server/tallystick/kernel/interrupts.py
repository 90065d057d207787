"""Ctrl-C before anything was begun ends a command quietly.

To load everything takes a second, and Python answers Ctrl-C in that second with the
traceback of some import. Nothing is imported here that takes part of that second.
"""

import os
import signal
import sys
from types import FrameType
from typing import NoReturn


def leave_quietly() -> None:
    """From now on Ctrl-C ends the process at once, with a shell's code for it."""
    # Somebody who has us ignore Ctrl-C (nohup, a shell's background) means it.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def interrupt_normally() -> None:
    """From now on Ctrl-C raises ``KeyboardInterrupt``: there is work to put away."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def leave_on_termination() -> None:
    """From now on SIGTERM raises ``SystemExit``: there is a file to clear away."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _exit)


def _exit(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def _leave(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)
