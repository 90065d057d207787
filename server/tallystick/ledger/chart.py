"""The chart of accounts: the only place where account codes are spelled.

| code | asset | means |
|---|---|---|
| ``assets:chain:<network>:<token>`` | USDC | what ``pay_to`` holds on chain |
| ``assets:treasury:<network>:<token>`` | USDC | what has left ``pay_to`` |
| ``liabilities:customer:<id>:credits`` | CREDIT | what we owe a customer in calls |
| ``liabilities:suspense:<network>:<token>`` | USDC | arrived and has no owner yet |
| ``liabilities:paybacks`` | CREDIT | unused credits on their way back as USDC |
| ``revenue:feature:<slug>`` | CREDIT | earned by calls of a feature |
| ``revenue:breakage`` | CREDIT | expired before anybody spent it |
| ``expense:promotions`` | CREDIT | given away |
| ``expense:bad_debts`` | CREDIT | owed, and not asked for any more |
| ``receivable:customer:<id>`` | CREDIT | spent of credits whose payment vanished |
| ``equity:exchange:<asset>`` | each | where one posting changes the asset |
"""

from dataclasses import dataclass
from functools import lru_cache

from tallystick.kernel.ids import encode_id
from tallystick.kernel.money import CREDIT, USDC, Asset


@dataclass(frozen=True, slots=True)
class AccountName:
    """An account as a posting names it; ``customer_id`` gives it a balance row."""

    code: str
    asset: Asset
    customer_id: int | None = None


def customer_credits(customer_id: int) -> AccountName:
    """What we owe the customer, in micro-credits; has a balance row."""
    code = f"liabilities:customer:{encode_id('cus', customer_id)}:credits"
    return AccountName(code, CREDIT, customer_id)


def chain_assets(network: str, token: bytes) -> AccountName:
    """What ``pay_to`` holds of the token, in atomic units."""
    return AccountName(f"assets:chain:{network}:0x{token.hex()}", USDC)


def treasury(network: str, token: bytes) -> AccountName:
    """What has left ``pay_to``, wherever it is by now, in atomic units."""
    return AccountName(f"assets:treasury:{network}:0x{token.hex()}", USDC)


def suspense(network: str, token: bytes) -> AccountName:
    """Money that arrived and has no owner yet, in atomic units."""
    return AccountName(f"liabilities:suspense:{network}:0x{token.hex()}", USDC)


def paybacks() -> AccountName:
    """Unused credits that go back to their payers as USDC, until the money has moved."""
    return AccountName("liabilities:paybacks", CREDIT)


@lru_cache(maxsize=4096)  # every charge asks, some of them several times
def feature_revenue(slug: str) -> AccountName:
    """What the feature has earned, in micro-credits."""
    return AccountName(f"revenue:feature:{slug}", CREDIT)


def breakage() -> AccountName:
    """What expired unspent, in micro-credits."""
    return AccountName("revenue:breakage", CREDIT)


def promotions() -> AccountName:
    """What was given away, in micro-credits."""
    return AccountName("expense:promotions", CREDIT)


def bad_debts() -> AccountName:
    """What was owed and is written off, in micro-credits."""
    return AccountName("expense:bad_debts", CREDIT)


def receivable(customer_id: int) -> AccountName:
    """What the customer owes us, in micro-credits: spent, and never paid in the end."""
    return AccountName(f"receivable:customer:{encode_id('cus', customer_id)}", CREDIT)


def exchange(asset: Asset) -> AccountName:
    """Where a posting changes the asset, in the asset's atomic units."""
    return AccountName(f"equity:exchange:{asset.code}", asset)
