"""One top-up and its chain as an explicit-state model, small enough to explore whole.

What is decided is decided by the server's own ``decide``; the model has what happens
around it: a chain that mines, finalizes and replaces its blocks, a payer who cancels,
strangers who submit, nodes that lag, a node of ours that shows a payment which is not
on the chain, a witness that is silent or tells the truth, a worker that acts on an old
look, and a crash between any two steps (which loses nothing here but a look).

Left out: amounts (a capture is exact or wrong), what credits are spent on, gas, and
more than one top-up of a wallet. Attempts at one nonce are one transaction here, because
at most one of them is mined; a filler takes its nonce at any moment, also a wrong one.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple

from tallystick.chain.witness import Testimony, weigh
from tallystick.payments.machine import (
    CREDITABLE,
    EDGES,
    Act,
    Decision,
    Look,
    Rehearsal,
    decide,
    heed,
)
from tallystick.payments.models.topups import (
    PAID_STATES,
    PENDING_STATES,
    REFUSED_STATES,
    TopUpState,
)

S = TopUpState
MOST_SIGNED = 2
MOST_REORGS = 2


class Nonce(StrEnum):
    """What the newest block says of the authorization."""

    FREE = "free"
    PAID = "paid"
    PAID_WRONG = "paid_wrong"
    CANCELED = "canceled"


class Sent(StrEnum):
    """A transaction of ours."""

    STORED = "stored"
    POOLED = "pooled"
    MINED = "mined"
    REVERTED = "reverted"
    FILLED = "filled"
    """A filler has taken its nonce, whatever became of the authorization."""


class Window(IntEnum):
    """Whether the authorization's window is over."""

    OPEN = 0
    CLOSED_AT_HEAD = 1
    CLOSED_AT_FINAL = 2


_ALIVE = (Sent.STORED, Sent.POOLED)
_BEFORE, _AFTER = 1, 3
_VALID_BEFORE = 2


class World(NamedTuple):
    """Everything that the future depends on; a tuple is compared and hashed fast."""

    nonce: Nonce = Nonce.FREE
    is_final: bool = False
    """Whether the block that shows the nonce, truly or not, is finalized."""
    is_indexed: bool = False
    """Whether the node's logs already show it."""
    is_forged: bool = False
    """Whether our node shows it as paid, although its nonce is free."""
    witness_answers: bool = True
    window: Window = Window.OPEN
    reorgs: int = 0
    sent: tuple[Sent, ...] = ()
    state: TopUpState = S.CLAIMED
    generation: int = 1
    booked: frozenset[int] = frozenset()
    """Generations whose grant was posted: their keys book nothing again."""
    balance: int = 0
    """Grants less what was taken back."""
    suspense: int = 0
    look: tuple[TopUpState, int, Decision] | None = None
    """What a worker has decided and not yet done: for which state and generation."""

    @property
    def is_paid(self) -> bool:
        return self.nonce == Nonce.PAID

    @property
    def is_captured(self) -> bool:
        """Whether our node shows a capture."""
        truly = self.nonce in {Nonce.PAID, Nonce.PAID_WRONG} and self.is_indexed
        return truly or self.is_forged

    @property
    def testimony(self) -> Testimony:
        """What the witness says, who sees what is and no lie."""
        if not self.witness_answers:
            return Testimony.SILENT
        return weigh(is_there=self.is_paid, height=1, final=int(self.is_final))

    @property
    def may_still_be_mined(self) -> bool:
        """Whether a transaction of ours could yet move the money."""
        is_open = self.window < Window.CLOSED_AT_FINAL
        nonce_is_safe = self.nonce != Nonce.FREE and self.is_final
        return is_open and not nonce_is_safe and any(one in _ALIVE for one in self.sent)


@dataclass(frozen=True, slots=True)
class Rules:
    """How the server acts. Each field replaced is a bug that the model must find."""

    decide: Callable[[TopUpState, int, Look], Decision] = decide
    creditable: tuple[TopUpState, ...] = CREDITABLE
    checks_state: bool = True
    counts_generations: bool = True
    takes_back: bool = True
    suspends: bool = True
    signs_only_from: tuple[TopUpState, ...] = (S.CLAIMED, S.WATCH)
    most_signed: int = MOST_SIGNED
    stores_bytes: bool = True
    knows_keys: bool = True
    asks_witness: bool = True
    heed: Callable[[Testimony], Decision] = heed


@dataclass(slots=True)
class Exploration:
    """The reachable worlds, and what is wrong in the first bad one."""

    seen: dict[World, tuple[World | None, str]] = field(default_factory=dict)
    wrong: str | None = None
    path: list[str] = field(default_factory=list)


def explore(rules: Rules) -> Exploration:
    """Breadth first, so that what is found is the shortest way to it."""
    found = Exploration({World(): (None, "begin")})
    waiting = [World()]
    for world in waiting:
        found.wrong = _wrong(world) or _wrong_in_the_end(world, rules)
        if found.wrong:
            found.path = _path(found, world)
            return found
        for name, after in _steps(world, rules):
            if after not in found.seen:
                found.seen[after] = (world, name)
                waiting.append(after)
    return found


def _path(found: Exploration, world: World) -> list[str]:
    names: list[str] = []
    at: World | None = world
    while at is not None:
        before, name = found.seen[at]
        names.append(f"{name}: {at.state}, {at.nonce}")
        at = before
    return names[::-1]


def _wrong(world: World) -> str | None:
    """What must hold at every moment."""
    if world.balance not in {0, 1}:
        return "credited twice, or taken back twice"
    if (world.state in PAID_STATES) != (world.balance == 1):
        return "the state and the books disagree"
    if world.is_forged and world.state in PAID_STATES:
        return "credited what nobody but our own node has shown"
    if world.state in REFUSED_STATES and world.may_still_be_mined:
        return "refused while our own transaction may still move the money"
    if sum(one in _ALIVE for one in world.sent) > 1 and world.nonce == Nonce.FREE:
        return "two of our transactions are out for one authorization"
    if world.state == S.FINAL and not (world.is_paid and world.is_final):
        return "final without a final block"
    return None


def _wrong_in_the_end(world: World, rules: Rules) -> str | None:
    """What must hold once everything is final and the workers have come to rest."""
    begin = world._replace(
        look=None,
        is_indexed=True,
        is_final=True,
        is_forged=False,
        witness_answers=True,
        window=Window.CLOSED_AT_FINAL,
    )
    return _wrong_at_rest(begin, rules)


@functools.cache  # many worlds have one end
def _wrong_at_rest(begin: World, rules: Rules) -> str | None:
    last = begin
    for _ in range(12):
        after = _work(_work(last, rules), rules)
        after = _confirm(_observe(after, rules))
        if after == last:
            break
        last = after
    else:
        return "the workers never come to rest"
    return _wrong(last) or _unfair(last)


def _unfair(world: World) -> str | None:
    owned = world.balance + world.suspense
    if owned != (world.nonce in {Nonce.PAID, Nonce.PAID_WRONG}):
        return "money and books differ in the end"
    if world.is_paid and not world.balance and world.state != S.QUARANTINE:
        return "paid exactly, and never credited"
    if world.state in PENDING_STATES:
        return "nobody will ever know what became of it"
    return None


def _steps(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    yield from _chain_steps(world)
    yield from _node_steps(world)
    yield "look", _look(world, rules)
    if world.look is not None:
        yield "act", _act(world, rules)
        yield "crash", world._replace(look=None)
    yield "observe", _observe(world, rules)
    yield "confirm", _confirm(world)
    if world.state == S.QUARANTINE:
        yield "an operator releases it", world._replace(state=S.WATCH)


def _node_steps(world: World) -> Iterator[tuple[str, World]]:
    turned = world._replace(witness_answers=not world.witness_answers)
    yield "the witness goes or comes", turned
    if world.is_forged:
        yield "the lie ends", world._replace(is_forged=False, is_final=False)
        yield "its height is finalized", world._replace(is_final=True)
    elif world.nonce == Nonce.FREE and world.state not in PAID_STATES:
        yield "our node lies", world._replace(is_forged=True, is_final=False)


def _chain_steps(world: World) -> Iterator[tuple[str, World]]:
    is_open = world.window == Window.OPEN
    if world.nonce == Nonce.FREE:
        shown: dict[str, Any] = {
            "is_indexed": False,
            "is_final": False,
            "is_forged": False,
        }
        if is_open:
            yield "a stranger submits", world._replace(nonce=Nonce.PAID, **shown)
            wrong = world._replace(nonce=Nonce.PAID_WRONG, **shown)
            yield "the payer used the nonce for another amount", wrong
        yield "the payer cancels", world._replace(nonce=Nonce.CANCELED, **shown)
    elif not world.is_indexed:
        yield "the node indexes", world._replace(is_indexed=True)
    elif not world.is_final:
        yield "finalized", world._replace(is_final=True)
    if world.nonce != Nonce.FREE and not world.is_final and world.reorgs < MOST_REORGS:
        yield "reorganised", _reorganised(world)
    if world.window == Window.OPEN:
        yield "the window closes", world._replace(window=Window.CLOSED_AT_HEAD)
    elif world.window == Window.CLOSED_AT_HEAD and (
        world.nonce == Nonce.FREE or world.is_final
    ):
        closed = world._replace(window=Window.CLOSED_AT_FINAL)
        yield "its end is finalized", closed
    yield from _sent_steps(world)


def _sent_steps(world: World) -> Iterator[tuple[str, World]]:
    for at, one in enumerate(world.sent):
        if one in _ALIVE:
            yield "filled", _with(world, at, Sent.FILLED)
        if one == Sent.POOLED:
            yield "mined", _mined(world, at)
            yield "dropped", _with(world, at, Sent.STORED)


def _reorganised(world: World) -> World:
    sent = tuple(
        Sent.STORED if one in {Sent.MINED, Sent.REVERTED} else one for one in world.sent
    )
    return world._replace(
        nonce=Nonce.FREE,
        is_indexed=False,
        reorgs=world.reorgs + 1,
        sent=sent,
    )


def _mined(world: World, at: int) -> World:
    if world.nonce != Nonce.FREE or world.window != Window.OPEN:
        return _with(world, at, Sent.REVERTED)
    paid = world._replace(
        nonce=Nonce.PAID, is_indexed=False, is_final=False, is_forged=False
    )
    return _with(paid, at, Sent.MINED)


def _with(world: World, at: int, one: Sent) -> World:
    return world._replace(sent=(*world.sent[:at], one, *world.sent[at + 1 :]))


def _look(world: World, rules: Rules) -> World:
    if world.state not in PENDING_STATES:
        return world._replace(look=None)
    decision = rules.decide(world.state, _VALID_BEFORE, _seen(world, rules))
    return world._replace(look=(world.state, world.generation, decision))


def _seen(world: World, rules: Rules) -> Look:
    """As ``looking`` asks: the logs lag behind, the contract's own answer does not."""
    head = _BEFORE if world.window == Window.OPEN else _AFTER
    final = _AFTER if world.window == Window.CLOSED_AT_FINAL else _BEFORE
    captured = world.is_captured
    canceled = world.nonce == Nonce.CANCELED and world.is_indexed
    rehearsal = Rehearsal.OK if world.window == Window.OPEN else Rehearsal.REFUSED
    if world.nonce != Nonce.FREE:
        rehearsal = Rehearsal.NONCE_USED
    known = world.sent if rules.stores_bytes else ()
    alive = any(one in {*_ALIVE, Sent.MINED} for one in known)
    return Look(
        head,
        final,
        captures=int(captured),
        is_exact=captured and world.nonce != Nonce.PAID_WRONG,
        is_spent=canceled,
        is_spent_at_finalized=canceled and world.is_final,
        rehearsal=None if world.state == S.SIGNED else rehearsal,
        reason="why",
        own_is_dead=not captured and not alive,
    )


def _act(world: World, rules: Rules) -> World:
    assert world.look is not None
    state, generation, decision = world.look
    after = world._replace(look=None)
    if decision.act == Act.SIGN:
        return _sign(after, rules)
    if decision.act == Act.RESEND:
        return _resend(after)
    if decision.act == Act.CREDIT:
        return _credit(after, generation, rules)
    if decision.act == Act.MOVE:
        assert decision.state is not None
        if rules.checks_state and after.state != state:
            return after
        return after._replace(state=decision.state)
    return after


def _sign(world: World, rules: Rules) -> World:
    may = world.state in rules.signs_only_from and len(world.sent) < rules.most_signed
    if not may:
        return world
    signed = Sent.STORED if rules.stores_bytes else Sent.POOLED
    return world._replace(state=S.SIGNED, sent=(*world.sent, signed))


def _resend(world: World) -> World:
    if not world.sent or world.sent[-1] != Sent.STORED:
        return world
    return _with(world, len(world.sent) - 1, Sent.POOLED)


def _credit(world: World, generation: int, rules: Rules) -> World:
    """The one routine that credits: a conditional UPDATE, then a posting with a key."""
    is_same = world.generation == generation
    if rules.checks_state and (world.state not in rules.creditable or not is_same):
        return world
    decision = rules.heed(world.testimony)
    if rules.asks_witness and decision.act == Act.WAIT:
        watched = world.state in {*REFUSED_STATES, S.CLAIMED}
        return world._replace(state=S.WATCH) if watched else world
    if rules.asks_witness and decision.act == Act.MOVE:
        assert decision.state is not None
        return world._replace(state=decision.state)
    credited = world._replace(state=S.CREDITED)
    if rules.knows_keys and generation in world.booked:
        return credited
    return credited._replace(
        booked=world.booked | {generation},
        balance=world.balance + 1,
        suspense=0,
    )


def _observe(world: World, rules: Rules) -> World:
    """Take back what the chain has no more, then book what it shows now."""
    after = world
    if rules.takes_back and after.state in PAID_STATES and not after.is_paid:
        step = 1 if rules.counts_generations else 0
        after = after._replace(
            state=S.REVERSED,
            generation=after.generation + step,
            balance=after.balance - 1,
        )
    is_there = after.nonce in {Nonce.PAID, Nonce.PAID_WRONG} or after.is_forged
    if after.suspense and not is_there:
        after = after._replace(suspense=0)
    if not after.is_captured or after.state in PAID_STATES:
        return after
    is_exact = after.nonce != Nonce.PAID_WRONG
    if is_exact and after.state in rules.creditable:
        after = _credit(after, after.generation, rules)
        if after.state in PAID_STATES:
            return after
    return after._replace(suspense=1) if rules.suspends else after


def _confirm(world: World) -> World:
    if world.state == S.CREDITED and world.is_paid and world.is_final:
        return world._replace(state=S.FINAL)
    return world


def _work(world: World, rules: Rules) -> World:
    looked = _look(world, rules)
    return _act(looked, rules) if looked.look is not None else looked


def follows_an_edge(before: TopUpState, after: TopUpState) -> bool:
    """Whether the machine allows this change of state."""
    return before == after or after in EDGES[before]
