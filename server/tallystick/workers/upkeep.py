"""What else goes on without a request: observing, confirming, sweeping."""

from tallystick.claims.claim import prune_unsettled
from tallystick.credits.debts import collect_due
from tallystick.credits.holds import expire_due
from tallystick.identity.nonces import forget_expired_nonces
from tallystick.kernel.db import Database
from tallystick.ledger.breakage import settle_due
from tallystick.payments.observer import observed_seconds
from tallystick.payments.pruning import prune_payer_gas, prune_settlements
from tallystick.payments.rail import Rail
from tallystick.payments.topups import prune_unsent
from tallystick.paywall.forgetting import forget_expired

_CLAIM_MARGIN_SECONDS = 3600
_REJECTED_SECONDS = 7 * 24 * 3600
_NONCE_MARGIN_MS = 600_000


async def tend_facilitator(rail: Rail) -> None:
    """Know whether the facilitator is there, and who submits for it."""
    if rail.facilitator is not None:
        await rail.facilitator.tend()


async def sweep(db: Database, rail: Rail) -> None:
    """Close lapsed holds, book breakage, forget what nobody may ask for any more."""
    await db.write(expire_due)
    await db.write(settle_due)
    await db.write(collect_due)
    await db.write(forget_expired)
    await db.write(
        lambda session: forget_expired_nonces(session, margin_ms=_NONCE_MARGIN_MS)
    )
    await _prune(db, rail)


async def prune(db: Database, rail: Rail) -> None:
    """Forget what was counted of gas, and settled for merchants, long ago.

    Raises ``RpcUnavailable``.
    """
    if not rail.opening.is_open:
        return
    await prune_payer_gas(db, rail)
    await prune_settlements(db, rail)


async def _prune(db: Database, rail: Rail) -> None:
    """Forget payments that can neither be presented nor captured any more.

    Presented: the later of both clocks judges windows, so it judges here.
    Captured: no block of a later time holds evidence, but every block up to then must
    have been read, or money that arrived would find no claim.
    """
    if not rail.opening.is_open:
        return
    now = min(rail.now_seconds(), await observed_seconds(db, rail))
    before = now - _CLAIM_MARGIN_SECONDS
    await db.write(lambda session: prune_unsettled(session, before_seconds=before))
    # Longer, because their payers were given an address to look at.
    week_ago = now - _REJECTED_SECONDS
    await db.write(lambda session: prune_unsent(session, before_seconds=week_ago))
