"""What may go wrong between us and the chain.

    RpcUnavailable     no node gave a usable answer: what was asked remains unknown
    ├─ WrongChain      a node answers, for another chain
    └─ BlockNotSeen    a node answers, and has not come as far as we ask
    RpcErrorAnswer     a node answered, and its answer is an error
    TokenUnreadable    the contract at the token's address does not answer as a token
    GasAboveCap        a payment would cost more gas than we are ready to pay

No detail names a node or repeats its text, which are not for callers to see: the host
(a URL's path and query may hold a key) and the text are on the object, for the log.
"""

import re

from tallystick.kernel.errors import BadInput, Unavailable

_REVERT_TEXT = re.compile(
    r"revert|out ?of ?gas|evm error|invalid (opcode|jump)|stack (over|under)flow"
    r"|gas required exceeds|write protection|bad (instruction|jump)",
    re.IGNORECASE,
)


class RpcUnavailable(Unavailable):
    """No node gave a usable answer; whatever was asked remains unknown."""

    title = "The chain cannot be reached"
    next_step = "Try again later. Credits already granted can be spent meanwhile."
    retry_after_seconds = 5

    def __init__(self, detail: str, *, node: str | None = None) -> None:
        super().__init__(detail)
        if node is not None:
            self.for_operator["node"] = node


class WrongChain(RpcUnavailable):
    """The node answers for another chain than the one configured."""

    is_for_operators = True
    next_step = (
        "The operator must point RPC_URLS and WITNESS_RPC_URLS at nodes of the"
        " configured NETWORK."
    )


class BlockNotSeen(RpcUnavailable):
    """The node has not come as far as the block asked for; an empty answer would lie."""

    retry_after_seconds = 2


class RpcErrorAnswer(Unavailable):
    """The node answered, and the answer is an error: a revert, a limit, a refusal.

    ``error_code`` and ``text`` are the node's own, ``revert_data`` the bytes that the
    contract reverted with (empty when there are none).
    """

    title = "The chain refused to answer"
    next_step = "Try again later."

    def __init__(
        self, method: str, error_code: int, text: str, revert_data: bytes = b""
    ) -> None:
        super().__init__(f"the node answered {method} with error {error_code}")
        self.error_code = error_code
        self.text = text
        self.revert_data = revert_data
        self.add_note(text)  # shown in our tracebacks, never to the caller

    @property
    def is_revert(self) -> bool:
        """Whether the contract failed, as opposed to the node (code 3: EIP-1474)."""
        return self.error_code == 3 or bool(_REVERT_TEXT.search(self.text))


class TokenUnreadable(Unavailable):
    """The contract at the token's address does not answer as such a token."""

    is_for_operators = True
    title = "The payment token cannot be read"
    next_step = "The operator must check NETWORK, ASSET and RPC_URLS."


class GasAboveCap(BadInput):
    """Settling this payment would take more gas than we pay for."""

    title = "The payment costs too much gas"
    next_step = "Pay from an ordinary wallet, or one with a cheaper signature check."
