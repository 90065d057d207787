"""What travels between a paying client and us, in canonical form.

Addresses are 20 bytes and nonces 32, so that two spellings of one payment are equal.
Amounts are in the token's atomic units, times in Unix seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from tallystick.kernel.money import AMOUNT_LIMIT, UsdcAtomic
from tallystick.x402.keccak import keccak256

Version = Literal[1, 2]
"""Of the protocol."""
EXACT: Final = "exact"
"""The only payment scheme that is accepted."""

_DOMAIN_TYPE = keccak256(
    b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)


@dataclass(frozen=True, slots=True)
class TokenDomain:
    """A token's EIP-712 domain: what makes a signature good for this token only."""

    chain_id: int
    contract: bytes
    name: str
    version: str
    _separator: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        assert len(self.contract) == 20, "a contract address has 20 bytes"
        words = (
            _DOMAIN_TYPE,
            keccak256(self.name.encode()),
            keccak256(self.version.encode()),
            self.chain_id.to_bytes(32, "big"),
            bytes(12),
            self.contract,
        )
        object.__setattr__(self, "_separator", keccak256(b"".join(words)))

    @property
    def network(self) -> str:
        """The chain in CAIP-2 form, such as ``eip155:8453``."""
        return f"eip155:{self.chain_id}"

    def separator(self) -> bytes:
        """The 32 bytes of the domain (EIP-712), computed once."""
        return self._separator


@dataclass(frozen=True, slots=True)
class Authorization:
    """An EIP-3009 transfer as its payer signs it."""

    payer: bytes
    pay_to: bytes
    value: int
    valid_after: int
    valid_before: int
    nonce: bytes


@dataclass(frozen=True, slots=True)
class AcceptedTerms:
    """The entry of ``accepts`` that a client of version 2 says it has chosen.

    It is the client's word and signed by nobody; it is only compared with our terms.
    """

    scheme: str
    network: str
    amount: int
    asset: bytes
    pay_to: bytes
    max_timeout_seconds: int
    extra: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PaymentPayload:
    """A payment as it came in a header. Nothing in it has been checked.

    ``network`` is always in CAIP-2 form; what has a default comes with version 2 only.
    The URL is the client's word, ``identifier`` the payer's name for the payment.
    """

    version: Version
    scheme: str
    network: str
    authorization: Authorization
    signature: bytes = field(repr=False)
    accepted: AcceptedTerms | None = None
    resource_url: str | None = None
    identifier: str | None = None


@dataclass(frozen=True, slots=True)
class PaymentTerms:
    """One way to pay that we offer: so much of this token to this address.

    ``amount`` is exact (equal, not at least). ``extra`` is sent with the entry of
    version 2 and comes back in the payment; the token's name and version are added.
    """

    domain: TokenDomain
    amount: UsdcAtomic
    pay_to: bytes
    max_timeout_seconds: int
    extra: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert len(self.pay_to) == 20, "an address has 20 bytes"
        assert 0 < self.amount < AMOUNT_LIMIT, "an offer asks for a possible amount"

    @property
    def network(self) -> str:
        """The chain in CAIP-2 form."""
        return self.domain.network

    @property
    def asset(self) -> bytes:
        """The token's contract."""
        return self.domain.contract

    def full_extra(self) -> dict[str, str]:
        """What the entry's ``extra`` holds; the token's domain always wins."""
        domain = {"name": self.domain.name, "version": self.domain.version}
        return {**self.extra, **domain}
