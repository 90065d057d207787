"""The end of the story: what the ledger says, and whether the chain agrees."""

import asyncio
from decimal import Decimal
from typing import Any

from tallystick.chain.token import balance_of
from tallystick.demo.children import child, plain_environment
from tallystick.demo.errors import StoryBroke, expect
from tallystick.demo.shopping import Shopper
from tallystick.demo.signing_in import statement
from tallystick.demo.stage import TALLYSTICK, Stage
from tallystick.demo.telling import Record, Teller
from tallystick.kernel import json
from tallystick.kernel.money import USDC_SCALE, to_decimal

_AUDITS = 10


async def tell_statement(shopper: Shopper, key: str) -> None:
    """Every line of a wallet's statement; raises ``StoryBroke`` if one is wrong."""
    teller = shopper.teller
    teller.act(f"The statement of {shopper.wallet.shown}")
    balance_before = Decimal(0)
    for line in await statement(shopper.stage, key):
        change, balance_after = Decimal(line["credits"]), Decimal(line["balance_after"])
        expect("the line's running balance", balance_before + change, balance_after)
        words = f"{line['type']:<8}  {line['description']}"
        teller.line(words, f"{change:>+8f}  {balance_after:>8f}")
        balance_before = balance_after
    expect("the last line", balance_before, to_decimal(shopper.credits))


async def tell_audit(stage: Stage, teller: Teller, record: Record) -> None:
    """Run the operator's audit beside the server.

    Raises ``StoryBroke`` when it finds anything, or when its figures are not those of
    the payments that were told.
    """
    teller.act("The audit: the ledger by itself, and then what the chain says")
    head = await stage.local.chain.block("latest")
    assert head is not None, "the chain has a newest block"
    report = await _audit(stage, head.number)
    record.audit = {
        name: report.get(name) for name in ("ok", "ledger_usdc", "chain_usdc")
    }
    teller.line("USDC in the ledger, without the chain", _usd(report["ledger_usdc"]))
    teller.line("USDC on the chain, at that block", _usd(report["chain_usdc"]))
    for finding in report["findings"]:
        teller.bad(f"  {finding['invariant']}: {finding['detail']}")
    if not report["ok"]:
        raise StoryBroke("the books are not right: the audit says so above")
    paid = sum((one["amount_usdc"] for one in record.payments), Decimal(0))
    expect("what the ledger has, against the payments", report["ledger_usdc"], paid)
    now = await balance_of(stage.local.chain, stage.pay_to.address)
    expect("what the seller has on chain now", to_decimal(now, USDC_SCALE), paid)
    teller.good("  Everything adds up.")


async def _audit(stage: Stage, block_number: int) -> dict[str, Any]:
    """The audit of ``tallystick audit --json``, once the observer has seen the block."""
    for _ in range(_AUDITS):
        report = await _audit_once(stage)
        if not report["ok"] or report["block"] >= block_number:
            return report
        await asyncio.sleep(0.5)
    raise StoryBroke(f"the server's observer has not come to block {block_number}")


async def _audit_once(stage: Stage) -> dict[str, Any]:
    async with child(
        [*TALLYSTICK, "audit", "--json"],
        environment=plain_environment() | stage.settings,
        folder=stage.folder,
        log=stage.folder / "audit.log",
        is_piped=True,
    ) as running:
        printed = b"".join([line async for line in running.lines()])
        code = await running.ended()
        if not printed:
            raise StoryBroke(f"the audit could not be run: {running.last_words()}")
    report: dict[str, Any] = json.loads(printed)
    expect("the audit's exit code", code, 0 if report["ok"] else 1)
    return report


def _usd(amount: Decimal) -> str:
    return f"${Decimal(amount):.2f}"
