"""Why a backup cannot be taken or put back."""

from tallystick.kernel.errors import BadInput, Conflict


class UnreadableBackup(BadInput):
    """The file is no backup, or not a whole one; nothing of it was restored."""

    is_for_operators = True
    title = "The backup cannot be read"
    next_step = "Take another copy of the file, or an older backup."


class NewerBackup(BadInput):
    """The backup was taken by a newer version of Tallystick."""

    is_for_operators = True
    next_step = "Restore it with the version that took it, or a newer one."


class DatabaseNotEmpty(Conflict):
    """A backup is restored into an empty database only."""

    is_for_operators = True
    next_step = (
        "Name a new database in TALLYSTICK_DATABASE_URL; keep the old one until the "
        "restored books were audited."
    )
