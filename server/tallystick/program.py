"""The command ``tallystick``, which ends quietly from its first moment on."""

from tallystick.kernel.interrupts import leave_quietly


def main() -> None:
    """Load the command line and run it."""
    leave_quietly()
    from tallystick.cli import main as run  # noqa: PLC0415  # this takes a second

    run()
