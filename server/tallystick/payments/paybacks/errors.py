"""Why nothing is paid back, told to operators."""

from tallystick.kernel.clock import rfc3339
from tallystick.kernel.errors import BadInput, Conflict, NotFound
from tallystick.kernel.ids import encode_id
from tallystick.kernel.money import format_credits, format_usdc


class UnknownPayback(NotFound):
    """There is no such payback."""

    is_for_operators = True
    next_step = "Send its identifier as `tallystick payback list` shows it."

    def __init__(self, payback_id: int) -> None:
        super().__init__(f"{encode_id('pbk', payback_id)} names no payback")


class TopUpNotFinal(Conflict):
    """Money goes back only for a payment whose block nothing can replace any more."""

    is_for_operators = True
    title = "The payment is not final"
    next_step = "Wait until the top-up's state is `final`, minutes after its payment."

    def __init__(self, topup_id: int, state: str) -> None:
        super().__init__(f"{encode_id('top', topup_id)} is {state}", state=state)


class TransferNotFinal(Conflict):
    """Money goes back only for a Transfer whose block nothing can replace any more."""

    is_for_operators = True
    title = "The transfer is not final"
    next_step = "Wait until its block is final, some twenty minutes on Base."

    def __init__(self, named: str) -> None:
        super().__init__(f"{named} is in no final block yet")


class UnknownRedemption(NotFound):
    """No plain transfer of this transaction was redeemed for credits."""

    is_for_operators = True
    next_step = (
        "Send the hash of a plain transfer whose credits were claimed. What came by an"
        " authorization is a top-up (top_…)."
    )

    def __init__(self, tx_hash: bytes) -> None:
        super().__init__(f"nothing of 0x{tx_hash.hex()} was redeemed")


class SeveralTransfers(Conflict):
    """The transaction made several transfers that were redeemed."""

    is_for_operators = True
    title = "The transaction made several transfers"
    next_step = "Name one of them with --log."

    def __init__(self, logs: list[int]) -> None:
        super().__init__(f"its transfers are the logs {', '.join(map(str, logs))}")


class NothingToPayBack(Conflict):
    """All that was bought with the payment was spent, is held or went back already."""

    is_for_operators = True
    title = "Nothing of it is unused"
    next_step = "Nothing is to be done, unless a running call gives credits back."

    def __init__(self, named: str) -> None:
        super().__init__(f"nothing unused is left of {named}")


class PaybackTooLarge(Conflict):
    """More was asked for than is unused of what the payment bought."""

    is_for_operators = True
    title = "So much is not unused"
    next_step = "Propose at most what is left, or leave the amount out for all of it."

    def __init__(self, wanted: int, left: int) -> None:
        super().__init__(
            f"{format_credits(wanted)} credits exceed the {format_credits(left)} that"
            " are unused"
        )


class CustomerOwes(Conflict):
    """The customer has spent credits whose payment vanished, so no money goes to him."""

    is_for_operators = True
    title = "The customer owes credits"
    next_step = "Wait until what is owed is collected."

    def __init__(self, owed: int) -> None:
        super().__init__(f"the customer owes {format_credits(owed)} credits")


class SameOperator(Conflict):
    """Whoever proposed a large payback cannot approve it."""

    is_for_operators = True
    title = "A second operator must approve"
    next_step = "Let another operator approve it."


class PaybackNotReady(Conflict):
    """The payback's state does not allow this step; ``state`` says which it is."""

    is_for_operators = True
    title = "This is not the payback's next step"
    next_step = "Look with `tallystick payback show` what comes next."

    def __init__(self, payback_id: int, state: str) -> None:
        super().__init__(f"{encode_id('pbk', payback_id)} is {state}", state=state)


class PaybackMayMove(Conflict):
    """What was signed for the payback, or handed out for it, could still move money."""

    is_for_operators = True
    title = "Its money could still move"
    next_step = (
        "Cancel it again once that is over; `tallystick payback show` tells when."
    )

    def __init__(self, detail: str, next_step: str) -> None:
        super().__init__(detail)
        self.next_step = next_step


def window_open(valid_before: int) -> PaybackMayMove:
    """Its authorization is valid until that time of the chain, in seconds."""
    until = rfc3339(valid_before * 1000)
    return PaybackMayMove(
        f"what was handed out to be signed is valid until {until}",
        "Wait until a block of a later time is final, or withdraw the authorization on"
        " the chain (cancelAuthorization), and cancel again.",
    )


class NoFloatKey(Conflict):
    """The server has no key that pays back by itself."""

    is_for_operators = True
    title = "No payback key is configured"
    next_step = "Set TALLYSTICK_PAYBACK_KEY, or pay by `page` or by `batch`."


class AboveFloatCap(Conflict):
    """The float pays no more than so much at a time, and so much in a day."""

    is_for_operators = True
    title = "The float may not pay so much"
    next_step = (
        "Pay by `page` or by `batch`, wait for midnight UTC, or raise"
        " TALLYSTICK_PAYBACK_MOST or TALLYSTICK_PAYBACK_PER_DAY."
    )

    def __init__(self, usdc: int, most: int, of: str) -> None:
        super().__init__(
            f"{format_usdc(usdc)} would exceed the {format_usdc(most)} of {of}"
        )


class ForeignSignature(BadInput):
    """The signature is not that of the address which pays, for just this payback."""

    is_for_operators = True
    title = "The signature does not fit"
    next_step = "Sign the page's request with the key of the address that it names."
