"""The token, the payee and the relayers, as the chain has them."""

from collections.abc import Sequence

from tallystick.boot import check_multicall, check_permit2, check_token
from tallystick.chain import abi
from tallystick.chain.errors import RpcErrorAnswer, RpcUnavailable, TokenUnreadable
from tallystick.chain.relay import fees
from tallystick.chain.rpc import Chain
from tallystick.chain.token import balance_of
from tallystick.doctor.findings import Examination
from tallystick.kernel.money import format_usdc, to_decimal
from tallystick.payments.gas.solvency import ether, gas_reserve
from tallystick.safe_settings import UnsafeSettings
from tallystick.x402.keccak import checksum_address
from tallystick.x402.networks import NETWORKS
from tallystick.x402.wire import TokenDomain

_SOMEBODY = bytes.fromhex("11" * 20)
"""Whose transfer of nothing is rehearsed; nobody has this address's key."""
_DELEGATED = bytes.fromhex("ef0100")
"""How an account's code begins that only points to a contract's (EIP-7702)."""


async def examine_asset(exam: Examination, chain: Chain, domain: TokenDomain) -> None:
    """The token's decimals and its EIP-712 domain, without which no signature fits."""
    exam.looking("the token")
    official = NETWORKS[domain.network].usdc.contract
    try:
        await check_token(chain, domain)
    except UnsafeSettings as error:
        exam.refused("asset", error.problems)
        return
    except TokenUnreadable as error:
        exam.problem("asset", error.detail, error.next_step or "")
        return
    except RpcUnavailable as error:
        exam.problem("asset", error.detail, "Mend the nodes first.")
        return
    said = f"{domain.name}, version {domain.version}, 6 decimals; its domain fits"
    if domain.contract == official:
        exam.ok("asset", said)
    else:
        step = "Stock clients pay in it only when their owner allows that; unset ASSET."
        exam.warn("asset", f"{said}, but it is not the network's own USDC", step)


async def examine_pay_to(
    exam: Examination, chain: Chain, pay_to: bytes, relayers: Sequence[bytes]
) -> None:
    """Whether money can arrive there, and who could take it away again."""
    exam.looking("the payee")
    shown = checksum_address(pay_to)
    try:
        code = await chain.code_at(pay_to)
        refusal = await _refusal(chain, pay_to)
    except (RpcUnavailable, RpcErrorAnswer) as error:
        exam.problem("pay-to", error.detail, "Mend the nodes first.")
        return
    if refusal is not None:
        step = "Set PAY_TO to an address that the token pays to."
        exam.problem("pay-to", f"the token refuses a transfer to {shown}", step)
    elif pay_to in relayers:
        step = "Set PAY_TO to an address whose key is elsewhere."
        said = f"{shown} is a relayer's: whoever takes the server takes the income"
        exam.warn("pay-to", said, step)
    else:
        exam.ok("pay-to", f"{shown} takes the token; {_kind(code)}")


async def _refusal(chain: Chain, pay_to: bytes) -> RpcErrorAnswer | None:
    """Why the token would not pay to it: a pause, a blacklist, or an odd token."""
    calldata = abi.selector("transfer(address,uint256)") + abi.word(pay_to)
    try:
        await chain.call(chain.token, calldata + abi.word(0), caller=_SOMEBODY)
    except RpcErrorAnswer as error:
        if not error.is_revert:
            raise
        return error
    return None


def _kind(code: bytes) -> str:
    if not code:
        return "no contract on this chain, so a wallet's key must be able to spend it"
    if code.startswith(_DELEGATED):
        return "a wallet that has delegated to a contract (EIP-7702)"
    return "a contract, which must be able to send it on"


async def examine_relayers(
    exam: Examination, chain: Chain, relayers: Sequence[bytes]
) -> None:
    """Whether each relayer can pay for settlements, and has none stuck."""
    exam.looking("the relayers' gas")
    try:
        needed = gas_reserve(await fees(chain))
        found = {one: await chain.native_balance(one) for one in relayers}
        for address, wei in found.items():
            _tell_gas(exam, address, wei, needed, is_last=max(found.values()) < needed)
            await _examine_waiting(exam, chain, address)
    except (RpcUnavailable, RpcErrorAnswer) as error:
        exam.problem("relayer", error.detail, "Mend the nodes first.")


async def examine_deployer(exam: Examination, chain: Chain, address: bytes) -> None:
    """Whether the key that calls factories can pay for it, and has nothing else."""
    exam.looking("the deployer")
    shown = checksum_address(address)
    try:
        await check_multicall(chain)
        needed = gas_reserve(await fees(chain), deploys=True)
        wei = await chain.native_balance(address)
        dollars = await balance_of(chain, address)
    except UnsafeSettings as error:
        exam.refused("deployer", error.problems)
        return
    except (RpcUnavailable, RpcErrorAnswer, TokenUnreadable) as error:
        exam.problem("deployer", error.detail, "Mend the nodes first.")
        return
    _tell_gas(exam, address, wei, needed, is_last=True, name="deployer")
    if dollars:
        said = f"{shown} has {to_decimal(dollars)} dollars, and should have only ether"
        exam.warn("deployer", said, "Move them to another address.")


async def examine_permit2(exam: Examination, chain: Chain) -> None:
    """Whether the contracts are there that payments by Permit2 are signed for."""
    exam.looking("Permit2")
    try:
        await check_permit2(chain)
    except UnsafeSettings as error:
        exam.refused("permit2", error.problems)
    except (RpcUnavailable, RpcErrorAnswer) as error:
        exam.problem("permit2", error.detail, "Mend the nodes first.")
    else:
        exam.ok("permit2", "Permit2 and x402's proxy are where they should be")


async def examine_float(exam: Examination, chain: Chain, address: bytes) -> None:
    """Whether the float can pay unused credits back: with USDC, and ether for gas."""
    exam.looking("the float")
    shown = checksum_address(address)
    try:
        needed = gas_reserve(await fees(chain))
        wei = await chain.native_balance(address)
        usdc = await balance_of(chain, address)
    except (RpcUnavailable, RpcErrorAnswer, TokenUnreadable) as error:
        exam.problem("float", error.detail, "Mend the nodes first.")
        return
    said = f"{shown} has {format_usdc(usdc)} to pay back and {ether(wei)} ether for gas"
    if usdc and wei >= needed:
        exam.ok("float", said)
    elif wei >= needed:
        exam.warn("float", said, "Send it the USDC that it may pay back.")
    else:
        step = f"Send at least {ether(needed - wei)} ether to it."
        exam.warn("float", f"{said}, and needs {ether(needed)}", step)


def _tell_gas(
    exam: Examination,
    address: bytes,
    wei: int,
    needed: int,
    *,
    is_last: bool,
    name: str = "relayer",
) -> None:
    """``is_last``: no relayer has enough, so that nothing can be settled."""
    shown = checksum_address(address)
    if wei >= needed:
        exam.ok(name, f"{shown} has {ether(wei)} ether for gas")
        return
    said = f"{shown} has {ether(wei)} ether for gas and needs {ether(needed)}"
    tell = exam.problem if is_last else exam.warn
    tell(name, said, f"Send at least {ether(needed - wei)} ether to it.")


async def _examine_waiting(exam: Examination, chain: Chain, address: bytes) -> None:
    mined = await chain.nonce(address, "latest")
    waiting = await chain.nonce(address, "pending") - mined
    if waiting > 0:
        said = f"{checksum_address(address)} has {waiting} transactions in the pool"
        step = "Ask again in a minute; a server that runs replaces what is stuck."
        exam.warn("relayer", said, step)
