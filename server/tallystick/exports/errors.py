"""What an export is refused for."""

from tallystick.kernel.errors import BadInput


class InvalidPeriod(BadInput):
    """A period that ends before it begins."""

    next_step = "Let `to` be later than `from`: the line at `from` is in, at `to` not."

    def __init__(self) -> None:
        super().__init__("the period ends before it begins", field="to")
