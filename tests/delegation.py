"""Accounts that have delegated to a contract, by a real transaction (EIP-7702)."""

from eth_account import Account
from eth_account.signers.local import LocalAccount

from tallystick.chain.hexadecimal import to_hex
from tallystick.chain.local import KEYS, LocalChain, artifact
from tallystick.chain.relay import fees

SENDER = KEYS[7]
NOBODY = bytes(20)
_MARK = b"\xef\x01\x00"


async def delegate(chain: LocalChain, account: LocalAccount, contract: bytes) -> None:
    """Let the account's key delegate it to the contract; to ``NOBODY`` ends that."""
    address = bytes.fromhex(account.address[2:])
    sender = Account.from_key(SENDER)
    signed = account.sign_authorization(
        {
            "chainId": chain.chain_id,
            "address": contract,
            "nonce": await chain.chain.nonce(address, "latest"),
        }
    )
    price = await fees(chain.chain)
    nonce = await chain.chain.nonce(bytes.fromhex(sender.address[2:]), "pending")
    transaction = sender.sign_transaction(
        {
            "type": 4,
            "chainId": chain.chain_id,
            "nonce": nonce,
            "to": sender.address,
            "value": 0,
            "gas": 100_000,
            "maxFeePerGas": price.max_fee_per_gas,
            "maxPriorityFeePerGas": price.max_priority_fee_per_gas,
            "authorizationList": [signed],
        }
    )
    await chain.rpc("eth_sendRawTransaction", to_hex(transaction.raw_transaction))
    expected = b"" if contract == NOBODY else _MARK + contract
    while await chain.chain.code_at(address) != expected:
        await chain.mine()


async def planted(chain: LocalChain, name: str) -> bytes:
    """The address of a test contract's code, for accounts to delegate to."""
    address = bytes.fromhex(Account.create().address[2:])
    await chain.plant(address, artifact(name))
    return address
