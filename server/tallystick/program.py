"""The command ``tallystick``, which ends quietly from its first moment on.

To load everything takes a second, and Python answers Ctrl-C in that second with the
traceback of some import.
"""

import os
import signal
from types import FrameType


def main() -> None:
    """Load the command line and run it."""
    # Somebody who has us ignore Ctrl-C (nohup, a shell's background) means it.
    is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_ours:
        signal.signal(signal.SIGINT, _leave)
    from tallystick import cli  # noqa: PLC0415  # this is what takes the second

    if is_ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.main()


def _leave(number: int, _frame: FrameType | None) -> None:
    # Nothing has been begun, so there is nothing to put away.
    os._exit(128 + number)
