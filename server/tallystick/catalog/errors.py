"""What can be wrong with a catalog, and with a request that is priced by one."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from tallystick.kernel.errors import BadInput, NotFound
from tallystick.kernel.money import format_usdc


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to correct in a catalog file.

    ``line`` counts from 1 and is None when there is no text to point at.
    ``where`` names the key, such as ``feature.portfolio_audit.price``.
    """

    file: str
    line: int | None
    where: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        subject = f"{self.where}: " if self.where else ""
        return f"{place}: {subject}{self.reason}. {self.remedy}"


class InvalidCatalog(BadInput):
    """A catalog that cannot be used, with every problem that it has."""

    is_for_operators = True
    title = "The catalog is not usable"
    next_step = "Correct the lines named and load the catalog again."

    def __init__(self, problems: Sequence[Problem]) -> None:
        detail = "\n".join(map(str, problems))
        super().__init__(detail, problems=[asdict(problem) for problem in problems])
        self.problems = tuple(problems)


class UnknownFeature(NotFound):
    """The catalog sells no feature of that name."""

    next_step = "Take a feature's slug from GET /api/catalog."

    def __init__(self, slug: str, known: Iterable[str]) -> None:
        super().__init__(f"there is no feature {slug[:64]!r}", features=sorted(known))


class UnknownPack(NotFound):
    """The catalog sells no pack of that name."""

    next_step = "Take a pack's id from GET /api/catalog."

    def __init__(self, pack_id: str, known: Iterable[str]) -> None:
        super().__init__(f"there is no pack {pack_id[:64]!r}", packs=sorted(known))


class InvalidQuantity(BadInput):
    """A quantity that is missing, no number, too fine, too small or too large."""

    title = "The quantity is not possible"
    next_step = "Send a quantity within the bounds that GET /api/catalog names."


class TopUpOutOfBounds(BadInput):
    """More or less than the catalog lets a customer buy at once."""

    title = "The top-up is not possible"
    next_step = "Buy an amount within the bounds, in several top-ups if need be."

    def __init__(self, wanted: int, minimum: int, maximum: int) -> None:
        """All three in atomic units of USDC."""
        super().__init__(
            f"a top-up of {format_usdc(wanted)} is not between "
            f"{format_usdc(minimum)} and {format_usdc(maximum)}"
        )
