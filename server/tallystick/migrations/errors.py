"""Why the schema is left as it is."""

from tallystick.kernel.errors import Conflict


class BrokenSeals(Conflict):
    """The journal is not as it was sealed, and the new schema needs new seals.

    They would hide what was changed for ever.
    """

    is_for_operators = True
    title = "The books are not as they were sealed; the schema was left as it is"
    next_step = (
        "Restore a backup from before that, or run `tallystick audit` of the release"
        " that ran until now, which names all that is wrong. Books that shall go on as"
        " they are get new seals with `--accept-broken-seals`."
    )

    def __init__(self, flaw: str) -> None:
        super().__init__(flaw)
