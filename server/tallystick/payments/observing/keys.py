"""Under which keys the ledger has what a Transfer brought, so that each is once."""

from tallystick.kernel.seal import digest16
from tallystick.payments.models.topups import TopUp


def suspense_key(chain_transfer_id: int, generation: int) -> bytes:
    """Of the transaction that put a Transfer in suspense, the first time or again.

    The row keeps its id in whatever block it is by then.
    """
    return digest16(
        b"suspense by row",
        chain_transfer_id.to_bytes(8, "big"),
        generation.to_bytes(4, "big"),
    )


def first_suspense_key(block_hash: bytes, log_index: int, generation: int) -> bytes:
    """The same of books that were kept before: by the block in which it was then."""
    again = () if generation == 1 else (generation.to_bytes(4, "big"),)
    return digest16(b"suspense", block_hash, log_index.to_bytes(8, "big"), *again)


def grant_keys(topup: TopUp) -> tuple[bytes, bytes]:
    """Of the transactions that granted its credits and its bonus in this generation."""
    generation = topup.id.to_bytes(8, "big") + topup.generation.to_bytes(4, "big")
    return digest16(b"topup", generation), digest16(b"bonus", generation)


def redemption_key(chain_transfer_id: int, generation: int) -> bytes:
    """Of the transaction that credited it in this generation."""
    return digest16(
        b"redemption",
        chain_transfer_id.to_bytes(8, "big"),
        generation.to_bytes(4, "big"),
    )
