"""The story from its first line to its last."""

import asyncio
import shlex
import sys
from decimal import Decimal

from tallystick.demo.clients import FOLDER, StockClients
from tallystick.demo.ending import tell_statement
from tallystick.demo.errors import StoryBroke, expect
from tallystick.demo.shopping import Shopper
from tallystick.demo.signing_in import credits_left, make_key
from tallystick.demo.stage import Stage
from tallystick.demo.telling import Record, Teller
from tallystick.demo.tricks import Tricks
from tallystick.kernel import json
from tallystick.kernel.money import UsdcAtomic, format_usdc
from tallystick.x402.keccak import checksum_address


async def tell(
    stage: Stage, teller: Teller, record: Record, clients: StockClients
) -> str:
    """Everything up to the last statement; an API key of the first buyer.

    Raises ``StoryBroke`` at the first thing that is off.
    """
    price_usd = await _tell_stage(stage, teller)
    first, *others = [
        Shopper(stage, teller, record, client, wallet, price_usd)
        for client, wallet in zip(clients.found, stage.buyers, strict=False)
    ]
    await first.go()
    key = await make_key(stage, first.wallet)
    await Tricks(first, key).play()
    for shopper in others:
        await shopper.go()
    if clients.missing is not None:
        teller.act("Node, @x402/fetch")
        teller.plain(f"  {clients.missing}")
    await _tell_statement(first, key)
    for shopper in others:
        await _tell_statement(shopper, await make_key(stage, shopper.wallet))
    return key


async def tell_briefly(
    stage: Stage, teller: Teller, record: Record, clients: StockClients
) -> str:
    """One paid call and its statement; as ``tell`` otherwise."""
    price_usd = await _tell_stage(stage, teller)
    client, wallet = clients.found[0], stage.buyers[0]
    shopper = Shopper(stage, teller, record, client, wallet, price_usd)
    await shopper.go_briefly()
    key = await make_key(stage, shopper.wallet)
    await _tell_statement(shopper, key)
    return key


async def _tell_statement(shopper: Shopper, key: str) -> None:
    left = await credits_left(shopper.stage, key)
    expect("what the wallet has left", left, shopper.credits)
    await tell_statement(shopper, key)


async def _tell_stage(stage: Stage, teller: Teller) -> Decimal:
    """Name what runs; the price of a credit in dollars."""
    catalog = json.loads((await stage.http.get("/api/catalog")).content)
    price_usd = Decimal(catalog["credit"]["price_usd"])
    local = stage.local
    teller.line("chain", f"{local.chain_id}, local, at {local.url}")
    dollar = checksum_address(local.token)
    teller.line("dollar", f"{dollar}, where Base Sepolia has USDC")
    teller.line("server", f"{stage.url}, its books in a SQLite file")
    teller.line("the seller's wallet", stage.pay_to.shown)
    prices = ", ".join(f"{one['slug']} {one['credits']}" for one in catalog["features"])
    teller.line("prices", f"1 credit = ${price_usd:.2f}: {prices}")
    return price_usd


async def keep_open(stage: Stage, teller: Teller, key: str) -> None:
    """Leave everything running until Ctrl-C; raises ``StoryBroke`` if the server ends."""
    report = f"{stage.url}/features/ai_analyst?address={stage.pay_to.shown}"
    pay = [sys.executable, str(FOLDER / "pay.py"), report, "--repeat", "3"]
    curl = ["curl", "-i", "-H", f"Authorization: Bearer {key}", report]
    teller.act("Everything keeps running until Ctrl-C")
    teller.line("API", f"{stage.url}/docs")
    teller.line("prices", f"{stage.url}/api/catalog")
    teller.line("chain", stage.local.url)
    teller.line("log", str(stage.server.log))
    teller.act("Spend credits with the first buyer's key:")
    teller.plain(shlex.join(curl))
    dollars = format_usdc(UsdcAtomic(await stage.usdc_of(stage.newcomer)))
    teller.act(f"Buy with a wallet that has {dollars} and no credits yet:")
    teller.plain(f"BUYER_KEY={stage.newcomer.private_key} {shlex.join(pay)}")
    try:
        await stage.server.ended()
    except asyncio.CancelledError:
        # Ctrl-C is how this is meant to end, so it is no failure.
        return
    raise StoryBroke(f"the server ended by itself: {stage.server.last_words()}")
