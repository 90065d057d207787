"""Signing in by wallet on each request (sign-in-with-x)."""

from dataclasses import dataclass

from tallystick.chain.rpc import Chain
from tallystick.chain.token import is_valid_signature
from tallystick.customers.wallets import customer_of_wallet
from tallystick.identity.nonces import use_nonce
from tallystick.kernel.clock import Clock
from tallystick.kernel.db import Database, WriteSession
from tallystick.kernel.seal import Seal
from tallystick.x402 import reasons
from tallystick.x402.errors import SignInRejected
from tallystick.x402.sealed_nonces import SealedNonces
from tallystick.x402.siwx import UnprovenSignIn, declare_siwx, verify_siwx

_STATEMENT = "Use the credits of this wallet. This signature moves no money."


@dataclass(frozen=True, slots=True)
class ProvenWallet:
    """A wallet that signed in just now; ``customer_id`` is None before it has paid."""

    address: bytes
    customer_id: int | None


@dataclass(frozen=True, slots=True)
class WalletSignIn:
    """What is needed to offer a sign-in and to believe one.

    ``origin`` is our public one, ``chain`` is asked only for contract wallets.
    """

    origin: str
    chain: Chain
    seal: Seal
    clock: Clock

    def offer(self, path: str) -> dict[str, object]:
        """The ``extensions`` member of a 402 for a request to ``path``."""
        return declare_siwx(
            origin=self.origin,
            path=path,
            chain_id=self.chain.expected_chain_id,
            now_seconds=self.clock.now_ms() // 1000,
            make_nonce=SealedNonces(self.seal).make,
            statement=_STATEMENT,
        )

    async def sign_in(self, db: Database, header: bytes | str) -> ProvenWallet:
        """The wallet that signed, and its customer if it is one's.

        It makes no customer: a fresh wallet costs nothing, and its rows would stay.
        Raises ``MalformedSignIn``, ``SignInRejected``, ``SignInReplayed``, and
        ``RpcUnavailable`` when a contract wallet cannot be asked.
        """
        proof = verify_siwx(
            header,
            expected_origin=self.origin,
            chain_id=self.chain.expected_chain_id,
            now_seconds=self.clock.now_ms() // 1000,
            check_nonce=SealedNonces(self.seal).check,
        )
        if isinstance(proof, UnprovenSignIn):
            await self._ask_wallet(proof)
            proof = proof.if_valid
        signed_in = proof

        async def enter(session: WriteSession) -> ProvenWallet:
            await use_nonce(
                session,
                signed_in.nonce,
                expires_at_ms=signed_in.expires_at_seconds * 1000,
            )
            customer_id = await customer_of_wallet(session, signed_in.address)
            return ProvenWallet(signed_in.address, customer_id)

        return await db.write(enter)

    async def _ask_wallet(self, proof: UnprovenSignIn) -> None:
        asked = proof.question
        signed = await is_valid_signature(
            self.chain, asked.wallet, asked.digest, asked.signature
        )
        if not signed:
            raise SignInRejected(reasons.SIWX_SIGNATURE, asked.refusal)
