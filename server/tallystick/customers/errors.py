"""What can be wrong with a customer that somebody names."""

from tallystick.kernel.errors import NotFound


class UnknownCustomer(NotFound):
    """There is no customer of that id, or none that has this wallet."""

    title = "There is no such customer"
    next_step = (
        "Check the id or address. A wallet becomes a customer with its first payment:"
        " POST /api/credits/add."
    )

    def __init__(self, named: str) -> None:
        super().__init__(f"{named} is no customer yet")
