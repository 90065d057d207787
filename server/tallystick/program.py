"""The command ``tallystick``, which ends quietly from its first moment on."""

import gc

from tallystick.kernel.interrupts import leave_quietly


def main() -> None:
    """Load the command line and run it."""
    leave_quietly()
    # What is imported is never garbage, and looking for it is a quarter of the start.
    gc.disable()
    from tallystick.cli import main as run  # noqa: PLC0415  # this takes a second

    gc.enable()
    gc.freeze()
    run()
