"""Where USDC comes in: one token on one chain, to one address.

Settled by our relayers, or by a facilitator that is asked to.
"""

import asyncio
import secrets
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

from tallystick.chain.fees import Fees
from tallystick.chain.rpc import Block, Chain
from tallystick.chain.witness import Testimony
from tallystick.kernel.clock import Clock
from tallystick.payments.changes import Bell, Changes
from tallystick.payments.desk import Desk
from tallystick.payments.errors import TopUpsUnavailable
from tallystick.payments.exposure import CAPS, Caps
from tallystick.payments.lookout import Lookout
from tallystick.payments.rules.gas import GAS_RULES, GasRules
from tallystick.payments.rules.paybacks import PAYBACK_RULES, PaybackRules
from tallystick.payments.sequences import Sequence
from tallystick.payments.ways import Elsewhere, Way
from tallystick.x402.erc6492 import Factory
from tallystick.x402.wire import TokenDomain

SILENCE_SECONDS = 15.0
"""How long the nodes may be silent before a payment counts as impossible."""
_OWNER_BYTES = 16


class Opening:
    """Whether the chain has answered since the start and is the one expected."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    @property
    def is_open(self) -> bool:
        return self._event.is_set()

    def open(self) -> None:
        """From now on payments are taken."""
        self._event.set()

    async def wait(self, timeout_seconds: float) -> None:
        """Return once it is open, or after so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._event.wait()


@dataclass(frozen=True, slots=True)
class Compared:
    """How books and chain compared last, in atomic USDC; ``findings`` in words."""

    at_ms: int
    block_number: int
    ledger_usdc: int
    chain_usdc: int
    findings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FloatSent:
    """What the float's key sent last: for which payback, at which nonce and price."""

    payback_id: int
    evm_nonce: int
    price: Fees
    at_ms: int


@dataclass(frozen=True, slots=True)
class FloatFunds:
    """What the float has: atomic USDC and wei, and how much wei it should have."""

    usdc: int
    wei: int
    needed_wei: int

    @property
    def has_gas(self) -> bool:
        """Whether it can pay for a few transactions at today's fees."""
        return self.wei >= self.needed_wei


@dataclass(slots=True)
class Outlook:
    """What this process saw of the chain last. Nothing of it is a record.

    ``head_seconds`` is the newest block's time and ``head_number`` its height,
    ``without_gas`` the relayers that cannot pay for a settlement now, ``over_budget``
    those that may not until the day is over (``told_over_budget``: on which day that
    was told last), ``price`` what gas costs, ``has_l1_fee`` whether the chain also
    bills for data, ``relayer_wei`` what each has, ``final_number`` and ``safe_number``
    the newest block that is it, ``exposure_cap`` what all together may have before
    theirs are. ``witness_agreed`` and ``witness_disagreed`` count the Transfers of
    which the witness said so, ``testimonies`` is what it said last of the newest of
    them, and ``witness_rests_until`` is when it may be asked again, in the event loop's
    time. ``compared`` is what the last comparison of books and chain said,
    ``compares_since_ms`` when there was to be the first; ``transitions`` counts the
    top-ups that went from state to state. ``float_has`` is what the float had,
    ``float_sent`` what it sent last, and ``told_of_paybacks`` why which payback could
    not be sent when that was tried last.
    """

    head_seconds: int = 0
    safe_number: int = -1
    exposure_cap: int | None = None
    is_another_chain: bool = False
    head_number: int = -1
    final_number: int = -1
    compared: Compared | None = None
    compares_since_ms: int | None = None
    transitions: Counter[tuple[str, str]] = field(default_factory=Counter)
    relayer_wei: dict[bytes, int] = field(default_factory=dict)
    without_gas: set[bytes] = field(default_factory=set)
    over_budget: set[bytes] = field(default_factory=set)
    told_over_budget: dict[bytes, int] = field(default_factory=dict)
    price: Fees | None = None
    has_l1_fee: bool | None = None
    witness_agreed: int = 0
    witness_disagreed: int = 0
    witness_rests_until: float = 0.0
    testimonies: dict[tuple[object, ...], Testimony] = field(default_factory=dict)
    float_has: FloatFunds | None = None
    float_sent: FloatSent | None = None
    told_of_paybacks: set[tuple[int, str]] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Witness:
    """Nodes of another provider, asked before so much or more is credited.

    ``above`` is in atomic units of the token.
    """

    chain: Chain
    above: int


@dataclass(slots=True)
class Payees:
    """Other addresses that were ``pay_to``, and when offers ceased to name them."""

    retired_at_ms: dict[bytes, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Relayer:
    """A key that pays the gas of what it sends. It is never shown.

    One that ``deploys`` settles for wallets that are deployed with it, and nothing else.
    """

    address: bytes
    key: bytes = field(repr=False)
    deploys: bool = False


@dataclass(frozen=True, slots=True)
class Rail:
    """What a payment needs to be offered, checked and settled.

    ``offer_seconds`` is the time a client gets to sign (``maxTimeoutSeconds``, 60 to
    120). ``start_block`` is where new books begin, after the final block unless set.
    ``poll_seconds`` is how often an open settlement is looked at,
    ``resend_seconds`` how long the chain may be silent about a transaction before its
    bytes are sent again, ``stuck_seconds`` how long it may leave a key's lowest nonce
    open before that is signed again with higher fees, ``lookback_blocks`` how far before
    the claim an authorization may have been used. ``lease_seconds`` is how long a key
    is this process's (``owner``) without being renewed. Without ``takes_payments``
    nothing is offered and nothing new is settled; what is under way is brought to its
    end. With a ``facilitator`` the relayers settle only what it may leave to them.
    ``factories`` may deploy wallets with their first payment (ERC-6492).
    ``elsewhere`` is set where the workers are in other processes. ``dust_below``, in
    atomic units, is how much a plain Transfer must bring for a row of
    its own. ``serves_merchants`` makes it a facilitator for other sellers, and
    ``merchants_busy`` counts what goes on here for each of them.
    ``float_key`` pays back what is unused, within the rules of ``paybacks``.
    ``takes_permit2`` is whether the operator wants payments by Permit2.
    """

    chain: Chain
    domain: TokenDomain
    pay_to: bytes
    relayers: tuple[Relayer, ...]
    clock: Clock
    start_block: int | None = None
    offer_seconds: int = 90
    poll_seconds: float = 1.0
    resend_seconds: float = 4.0
    stuck_seconds: float = 6.0
    lease_seconds: float = 10.0
    lookback_blocks: int = 5_000
    takes_payments: bool = True
    caps: Caps = CAPS
    gas: GasRules = GAS_RULES
    paybacks: PaybackRules = PAYBACK_RULES
    float_key: Relayer | None = None
    witness: Witness | None = None
    facilitator: Desk | None = None
    factories: frozenset[Factory] = frozenset()
    elsewhere: Elsewhere | None = None
    dust_below: int = 0
    serves_merchants: bool = False
    takes_permit2: bool = False
    changes: Changes = field(default_factory=Changes)
    work: Bell = field(default_factory=Bell)
    lookout: Lookout = field(default_factory=Lookout)
    opening: Opening = field(default_factory=Opening)
    outlook: Outlook = field(default_factory=Outlook)
    payees: Payees = field(default_factory=Payees)
    owner: bytes = field(default_factory=lambda: secrets.token_bytes(_OWNER_BYTES))
    sequences: dict[bytes, Sequence] = field(default_factory=dict)
    merchants_busy: Counter[int] = field(default_factory=Counter)

    def sequence(self, relayer: Relayer) -> Sequence:
        """What we know of the key's nonces."""
        return self.sequences.setdefault(relayer.address, Sequence())

    @property
    def offers_permit2(self) -> bool:
        """Whether payments by Permit2 are switched on: only our relayers settle them."""
        has_keys = any(not one.deploys for one in self.relayers)
        return self.takes_permit2 and (has_keys or self.elsewhere is not None)

    @property
    def ways(self) -> tuple[Way, ...]:
        """What is switched on of what a 402 may offer, in its order."""
        return (Way.EIP3009, Way.PERMIT2) if self.offers_permit2 else (Way.EIP3009,)

    @property
    def may_relay(self) -> bool:
        """Whether a key of ours could sign at this moment."""
        return any(self.sequence(one).has_room for one in self.solvent_relayers)

    @property
    def may_deploy(self) -> bool:
        """Whether a key of ours could sign what deploys a wallet at this moment."""
        return any(self.sequence(one).has_room for one in self.solvent_deployers)

    async def close(self) -> None:
        """Close the connections to every node."""
        await self.chain.close()
        if self.witness is not None:
            await self.witness.chain.close()

    @property
    def network(self) -> str:
        """The chain in CAIP-2 form."""
        return self.domain.network

    @property
    def solvent_relayers(self) -> tuple[Relayer, ...]:
        """The keys that have gas money and may spend it, as far as we know."""
        return tuple(one for one in self._solvent if not one.deploys)

    @property
    def solvent_deployers(self) -> tuple[Relayer, ...]:
        """The same of those that settle for wallets which are not deployed yet."""
        return tuple(one for one in self._solvent if one.deploys)

    @property
    def _solvent(self) -> tuple[Relayer, ...]:
        poor = self.outlook.without_gas | self.outlook.over_budget
        return tuple(one for one in self.relayers if one.address not in poor)

    @property
    def obstacle(self) -> str | None:
        """Why no payment could be taken now, in words; None when one could."""
        found = [self.obstacle_of(one) for one in self.ways]
        return None if None in found else found[0]

    @property
    def limits(self) -> tuple[str, ...]:
        """What is in the way of some payments or of all, in words."""
        found = {one: self.obstacle_of(one) for one in self.ways}
        if len(set(found.values())) == 1:
            return tuple(one for one in {*found.values()} if one)
        names = {Way.EIP3009: "EIP-3009", Way.PERMIT2: "Permit2"}
        return tuple(
            f"no payment by {names[one]}: {words}"
            for one, words in found.items()
            if words
        )

    def obstacle_of(self, way: Way) -> str | None:
        """Why nothing could be taken in this way now, in words; None when it could."""
        if not self.takes_payments:
            return "this server takes no payments"
        return self.settling_obstacle(way)

    def settling_obstacle(self, way: Way) -> str | None:
        """The same, of whoever pays: also of what buyers of other sellers pay."""
        if self._out_of_sight is not None:
            return self._out_of_sight
        if self.elsewhere is not None:
            return self.elsewhere.obstacles[way]
        if way == Way.ERC6492:
            return self._without_deployer
        desk = self.facilitator
        if desk is None or way == Way.PERMIT2:
            return self._without_relayer
        if desk.trouble is None or (desk.falls_back and not self._without_relayer):
            return None
        return desk.trouble

    def offering_obstacle(self, way: Way) -> str | None:
        """Why nothing should be offered in this way now, in words.

        Also while the chain is silent: who paid by then would most likely be refused.
        """
        return self.obstacle_of(way) or self.silence

    @property
    def _out_of_sight(self) -> str | None:
        if not self.opening.is_open:
            return "the chain has not answered since the start"
        if self.outlook.is_another_chain:
            return "the books belong to another chain"
        return None

    @property
    def _without_relayer(self) -> str | None:
        if all(one.deploys for one in self.relayers):
            return "no relayer key is configured"
        if self.solvent_relayers:
            return None
        if self.outlook.over_budget:
            return "the relayers' gas budget of this day is used up"
        return "no relayer has money for gas"

    @property
    def _without_deployer(self) -> str | None:
        if not any(one.deploys for one in self.relayers):
            return "no deployer key is configured"
        if self.solvent_deployers:
            return None
        if self.outlook.over_budget:
            return "the deployer's gas budget of this day is used up"
        return "the deployer has no money for gas"

    @property
    def silence(self) -> str | None:
        """That the chain does not answer, in words; None when it did a while ago.

        The workers ask all the time, so this asks nobody. It is no obstacle: whoever
        pays asks the chain anew.
        """
        silent_seconds = self.chain.silent_seconds
        if silent_seconds <= max(SILENCE_SECONDS, 10 * self.poll_seconds):
            return None
        return f"the chain has not answered for {silent_seconds:.0f} seconds"

    def now_seconds(self) -> int:
        """The machine's time or the chain's, whichever is later, in seconds.

        Windows are judged by the chain, and a machine that is behind it would take
        payments that nobody can settle any more.
        """
        return max(self.clock.now_ms() // 1000, self.outlook.head_seconds)

    async def head(self) -> Block:
        """The newest block. Raises ``RpcUnavailable`` or ``TopUpsUnavailable``."""
        block = await self.chain.block("latest")
        if block is None:
            raise TopUpsUnavailable("the node names no newest block")
        self.outlook.head_seconds = block.timestamp_seconds
        self.outlook.head_number = block.number
        return block
