"""A wallet signs in, without paying, and gets an API key for its credits."""

from typing import Any

from tallystick.demo.errors import expect
from tallystick.demo.stage import Stage
from tallystick.demo.wallet import Wallet
from tallystick.kernel import json
from tallystick.kernel.money import MicroCredits, parse_credits

_KEYS = "/api/keys"


async def make_key(stage: Stage, wallet: Wallet) -> str:
    """An API key that may read and spend what the wallet has bought."""
    asked = await stage.http.post(_KEYS, json={"name": "demo"})
    expect("a stranger who wants a key gets", asked.status_code, 401)
    proof = wallet.sign_in(json.loads(asked.content)["extensions"])
    made = await stage.http.post(_KEYS, json={"name": "demo"}, headers=proof)
    expect("a wallet that signs in gets", made.status_code, 201)
    return str(json.loads(made.content)["secret"])


async def credits_left(stage: Stage, key: str) -> MicroCredits:
    """What the key's owner can spend, in micro-credits."""
    found = await _read(stage, "/api/credits", key)
    return parse_credits(found["available"])


async def statement(stage: Stage, key: str) -> list[dict[str, Any]]:
    """The lines of the statement, the oldest first."""
    page = await _read(stage, "/api/credits/transactions?limit=200", key)
    expect("further pages of the statement", page["next_cursor"], None)
    lines: list[dict[str, Any]] = page["transactions"]
    return lines[::-1]


async def _read(stage: Stage, path: str, key: str) -> Any:
    headers = {"Authorization": f"Bearer {key}"}
    answer = await stage.http.get(path, headers=headers)
    expect(f"GET {path} with a key answers", answer.status_code, 200)
    return json.loads(answer.content)
