"""The main job: a stock wallet pays, gets credits, spends them, is told when short."""

from tests.live import Buyer, LiveServer


async def test_a_stock_client_pays_once_and_then_spends_its_credits(
    server: LiveServer, buyer: Buyer, usdc: str
) -> None:
    client = buyer.client(server)
    remaining = []
    for _ in range(10):
        answer = await client.get("/features/ai_analyst", params={"address": usdc})
        assert answer.status_code == 200, answer.text
        remaining.append(answer.headers["credits-remaining"])
    assert remaining == ["9", "8", "7", "6", "5", "4", "3", "2", "1", "0"]
    report = await server.audit()
    assert report.chain is not None
    assert report.chain.chain_usdc == 1_000_000
    audit = await client.get(
        "/features/portfolio_audit",
        params={
            "owner": buyer.account.address,
            "tokens": ",".join([usdc, *(f"0x{n:040x}" for n in range(1, 10))]),
        },
    )
    assert audit.status_code == 200, audit.text
    assert audit.headers["credits-charged"] == "5"
    assert audit.headers["credits-remaining"] == "5"
