"""``tallystick doctor`` on paybacks that do not come to an end, and on merchants."""

import json
import secrets
from pathlib import Path
from typing import Any

from tallystick.chain.local import KEYS
from tallystick.kernel.ids import encode_id
from tallystick.payments.gas.costs import settle_gas
from tallystick.payments.gas.solvency import ether
from tallystick.payments.models.topups import TopUp
from tallystick.payments.paybacks.issuing import hand_out, pay_from_float_key
from tallystick.payments.rail import Relayer
from tests.api.test_watching import change
from tests.house import House
from tests.payments.merchants import Shop as Merchant
from tests.payments.merchants import gas_of, until_known
from tests.payments.paybacks.scenes import CREDIT, Shop
from tests.processes import run

DAY_MS = 24 * 3_600_000


def found_settings(house: House, **more: str) -> dict[str, str]:
    return {
        "DATABASE_URL": house.database_url,
        "RPC_URLS": house.local.url,
        "PAY_TO": f"0x{house.pay_to.hex()}",
        "RELAYER_KEYS": f"0x{KEYS[1].hex()}",
        "SECRET_KEY": secrets.token_urlsafe(48),
    } | more


async def doctor(
    house: House, folder: Path, check: str, **more: str
) -> list[dict[str, Any]]:
    """What it says of this; it must name a next step wherever it is not well."""
    settings = found_settings(house, **more)
    ended = await run("doctor", "--json", "--no-server", cwd=folder, **settings)
    report = json.loads(ended.out)
    lines = [one for one in report["findings"] if one["check"] == check]
    assert all((one["next_step"] is None) is (one["verdict"] == "ok") for one in lines)
    return lines


async def test_paybacks_that_wait_too_long_are_told_with_what_to_do(
    shop: Shop, house: House, topup: TopUp, tmp_path: Path
) -> None:
    (well,) = await doctor(house, tmp_path, "paybacks")
    assert (well["verdict"], well["said"]) == ("ok", "none is under way")
    await shop.propose(topup, 10 * CREDIT)
    handed = await shop.propose(topup, 10 * CREDIT)
    await hand_out(shop.process.db, shop.process.rail, handed.id, "ann")
    (well,) = await doctor(house, tmp_path, "paybacks")
    assert (well["verdict"], well["said"]) == (
        "ok",
        "2 under way with $2.00, none of them late",
    )
    for one in ("approved", "issued"):
        change(
            house.database_url,
            f"UPDATE payback SET changed_at_ms = changed_at_ms - {2 * DAY_MS},"
            f" valid_before = valid_before - 200000 WHERE state = '{one}'",
        )
    approved, lapsed = await doctor(house, tmp_path, "paybacks")
    assert approved["said"].startswith("1 with $1.00 are approved, and nobody")
    assert "then pay, page or batch each" in approved["next_step"]
    assert "their window is over" in lapsed["said"]
    assert "issue each again as before, or cancel it" in lapsed["next_step"]
    assert {approved["verdict"], lapsed["verdict"]} == {"warning"}


async def test_a_float_that_has_less_than_it_was_told_to_pay_is_a_problem(
    shop: Shop, house: House, topup: TopUp, tmp_path: Path, float_key: Relayer
) -> None:
    db, rail = shop.process.db, shop.process.rail
    payback = await shop.propose(topup, 30 * CREDIT)
    await pay_from_float_key(db, rail, payback.id, "ann")
    poor = f"0x{secrets.token_bytes(32).hex()}"
    found = await doctor(house, tmp_path, "paybacks", PAYBACK_KEY=poor)
    assert (found[0]["verdict"], found[0]["said"]) == (
        "problem",
        "the float was told to pay $3.00 and has $0.00",
    )
    assert found[0]["next_step"] == "Send at least $3.00 to it."
    (keyless,) = await doctor(house, tmp_path, "paybacks")
    assert "has no key here" in keyless["said"]
    rich = f"0x{float_key.key.hex()}"
    (well,) = await doctor(house, tmp_path, "paybacks", PAYBACK_KEY=rich)
    assert well["verdict"] == "ok"


async def test_merchants_are_told_of_with_what_is_stuck_and_what_they_cost(
    shop: Shop, house: House, tmp_path: Path
) -> None:
    serving = {"ACT_AS_FACILITATOR": "true"}
    assert await doctor(house, tmp_path, "merchants") == []
    (nobody,) = await doctor(house, tmp_path, "merchants", **serving)
    assert "`tallystick merchant add`" in nobody["next_step"]
    merchant = await Merchant.opened(house, shop.process)
    wallet = await shop.seller.fund()
    await merchant.claim(shop.process, await wallet.authorize(merchant.pay_to))
    (well,) = await doctor(house, tmp_path, "merchants", **serving)
    assert (well["verdict"], well["said"]) == (
        "ok",
        "1 with a key, 1 settlements not final yet",
    )
    change(house.database_url, "UPDATE merchant_settlement SET valid_before = 1")
    (stuck,) = await doctor(house, tmp_path, "merchants", **serving)
    assert "1 settlements are claimed long after their window" in stuck["said"]
    change(house.database_url, "UPDATE merchant_settlement SET state = 'quarantine'")
    (doubtful,) = await doctor(house, tmp_path, "merchants", **serving)
    assert "1 settlements are in quarantine" in doubtful["said"]


async def test_a_merchant_whose_gas_is_nearly_used_up_is_told(
    shop: Shop, house: House, tmp_path: Path
) -> None:
    merchant = await Merchant.opened(house, shop.process)
    wallet = await shop.seller.fund()
    one = await merchant.claim(shop.process, await wallet.authorize(merchant.pay_to))
    await until_known(shop.process, one.id)
    await settle_gas(shop.process.db, shop.process.rail)
    spent = (await gas_of(shop.process, merchant)).spent
    assert spent
    budget = f"{ether(spent * 105 // 100)}"
    (near,) = await doctor(
        house,
        tmp_path,
        "merchants",
        ACT_AS_FACILITATOR="true",
        GAS_PER_MERCHANT=budget,
    )
    assert near["verdict"] == "warning"
    assert near["said"].startswith(f"{encode_id('mer', merchant.merchant.id)} spent")
    assert "GAS_PER_MERCHANT" in near["next_step"]
    (many,) = await doctor(
        house,
        tmp_path,
        "merchants",
        ACT_AS_FACILITATOR="true",
        GAS_PER_MERCHANT="0.05",
    )
    assert "together are as much as the relayers'" in many["said"]
    assert "GAS_PER_DAY" in many["next_step"]
