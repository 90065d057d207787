"""Ctrl-C before anything was begun ends a command quietly.

To load everything takes a second, and Python answers Ctrl-C in that second with the
traceback of some import. Nothing is imported here that takes part of that second.
"""

import os
import signal
from types import FrameType


def leave_quietly() -> None:
    """From now on Ctrl-C ends the process at once, with a shell's code for it."""
    # Somebody who has us ignore Ctrl-C (nohup, a shell's background) means it.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def interrupt_normally() -> None:
    """From now on Ctrl-C raises ``KeyboardInterrupt``: there is work to put away."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)
