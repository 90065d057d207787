"""``tallystick rescan``, as an operator runs it."""

import json
from pathlib import Path

from tallystick.chain.fault import FaultProxy
from tallystick.chain.local import LocalChain
from tallystick.kernel.owner import FileOwner
from tallystick.x402.keccak import checksum_address
from tests.house import DOLLAR, House, Process, Wallet
from tests.payments.test_observer import suspense
from tests.payments.test_rereading import finalize, keep_back
from tests.processes import Ended, run
from tests.test_cli import require_refusal, settings_for


def settings_of(house: House, tmp_path: Path) -> dict[str, str]:
    return settings_for(house.local, tmp_path) | {
        "DATABASE_URL": house.database_url,
        "PAY_TO": checksum_address(house.pay_to),
    }


async def rescan(house: House, tmp_path: Path, *arguments: str) -> Ended:
    settings = settings_of(house, tmp_path)
    return await run("rescan", *arguments, cwd=tmp_path, **settings)


async def missed(
    house: House, wallet: Wallet, proxy: FaultProxy, local: LocalChain
) -> Process:
    """Two dollars of a payment and three of nobody, none of which was shown."""
    shop = await house.start(proxy.url)
    signed = await wallet.authorize(house.pay_to, 2 * DOLLAR)
    topup_id = await shop.claim(signed)
    keep_back(proxy)
    await shop.step(topup_id)
    await wallet.send(house.pay_to, 3 * DOLLAR)
    await finalize(shop, local)
    return shop


async def test_what_was_kept_back_is_booked_and_told(
    any_house: House,
    wallet: Wallet,
    proxy: FaultProxy,
    local: LocalChain,
    tmp_path: Path,
) -> None:
    """On PostgreSQL beside a server that runs."""
    shop = await missed(any_house, wallet, proxy, local)
    first = any_house.start_block or 0
    done = await rescan(any_house, tmp_path, "--from", str(first), "--json")
    assert done.code == 0, done.said
    told = json.loads(done.out)
    assert told["ok"] is True
    assert (told["came_in"], told["credited"], told["usdc_in"]) == (2, 1, 5)
    assert told["from"] == first
    assert await shop.credits_of(wallet) == 20 * DOLLAR
    assert await suspense(shop) == 3 * DOLLAR

    again = await rescan(any_house, tmp_path, "--from", "0")
    assert again.code == 0
    assert "booked  0 in, $0" in again.out
    assert "Books and chain agree." in again.out
    assert await shop.credits_of(wallet) == 20 * DOLLAR


async def test_what_is_left_is_told_and_ends_with_1(
    house: House, wallet: Wallet, proxy: FaultProxy, local: LocalChain, tmp_path: Path
) -> None:
    shop = await missed(house, wallet, proxy, local)
    first = house.start_block or 0
    done = await rescan(house, tmp_path, "--from", str(first), "--to", str(first))
    assert (done.code, "not right yet" in done.out) == (1, True), done.said
    await rescan(house, tmp_path, "--from", str(first))
    assert await suspense(shop) == 3 * DOLLAR


async def test_blocks_that_are_not_in_the_books_are_refused(
    house: House, tmp_path: Path
) -> None:
    await house.start()
    require_refusal(
        await rescan(house, tmp_path, "--from", "999999999"), "nothing to read again"
    )


async def test_a_file_that_a_server_has_is_refused_in_words(
    house: House, tmp_path: Path
) -> None:
    await house.start()
    path = Path(house.database_url.partition("///")[2])
    with FileOwner(path):
        refused = await rescan(house, tmp_path, "--from", "0")
    require_refusal(refused, "another process serves", "stop the other one")
