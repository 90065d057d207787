"""Sign-in nonces work once: their UNIQUE row is the proof."""

from sqlalchemy import delete
from sqlmodel import col

from tallystick.identity.errors import SignInReplayed
from tallystick.identity.models import UsedNonce
from tallystick.kernel.db import WriteSession, insert_once, now_ms
from tallystick.kernel.seal import digest16


async def use_nonce(session: WriteSession, nonce: str, *, expires_at_ms: int) -> None:
    """Use up the nonce; raises ``SignInReplayed`` from the second time on.

    Whoever used it: one offer serves one wallet, so that nobody fills the table with
    fresh wallets and a single offer.
    """
    row: dict[str, object] = {
        "nonce_digest": digest16(nonce.encode()),
        "expires_at_ms": expires_at_ms,
    }
    if not await insert_once(session, UsedNonce, row):
        raise SignInReplayed


async def forget_expired_nonces(session: WriteSession, *, margin_ms: int) -> int:
    """Drop nonces that no sign-in could use any more; how many."""
    before = now_ms(session) - margin_ms
    statement = delete(UsedNonce).where(col(UsedNonce.expires_at_ms) < before)
    return (await session.exec(statement)).rowcount
