"""The seller's own keys, from the command line to the server that takes them."""

import json
from pathlib import Path
from typing import Any

import httpx

from tallystick.chain.local import LocalChain
from tests.processes import Ended, ServerProcess, run, serving
from tests.test_cli import all_of, require_refusal, settings_for


async def status(server: ServerProcess, key: str) -> int:
    """What the seller's own route answers to a key; 422 is past the door."""
    async with httpx.AsyncClient(base_url=server.url) as http:
        bearer = {"Authorization": f"Bearer {key}"}
        answer = await http.post("/api/paywall/authorize", json={}, headers=bearer)
    return answer.status_code


async def test_a_revoked_key_is_refused_at_once_by_a_running_server(
    punctual: LocalChain, tmp_path: Path
) -> None:
    settings = settings_for(punctual, tmp_path)

    async def service_key(*arguments: str) -> Ended:
        return await run("service-key", *arguments, cwd=tmp_path, **settings)

    async def listed() -> list[dict[str, Any]]:
        ended = await service_key("list", "--json")
        assert (ended.code, ended.err) == (0, "")
        keys: list[dict[str, Any]] = json.loads(ended.out)["keys"]
        return keys

    async with serving(tmp_path, **settings) as server:
        assert await listed() == []
        made = json.loads((await service_key("create", "--name", "till", "--json")).out)
        plain = await service_key("create", "--name", "shop")
        bare = await service_key("--name", "fortunes")
        assert plain.err.startswith("key_")
        for secret in (made["secret"], plain.out.strip(), bare.out.strip()):
            assert await status(server, secret) == 422

        ended = await service_key("revoke", made["id"], "--json")
        assert json.loads(ended.out) == {"id": made["id"], "revoked": True}
        assert await status(server, made["secret"]) == 401
        assert await status(server, plain.out.strip()) == 422

        keys = await listed()
        assert [one["name"] for one in keys] == ["fortunes", "shop", "till"]
        assert [bool(one["revoked_at"]) for one in keys] == [False, False, True]
        assert keys[2]["id"] == made["id"]
        assert keys[1]["id"] == plain.err.split()[0]
        assert all(one["created_at"].endswith("Z") for one in keys)

        words = await service_key("list")
        assert f"{made['id']}  created {keys[2]['created_at']}  revoked" in words.out
        for secret in (made["secret"], plain.out.strip()):
            assert secret not in words.said

        by_hand = await service_key("revoke", plain.err.split()[0])
        assert by_hand.out == f"{plain.err.split()[0]} is revoked.\n"
        assert await status(server, plain.out.strip()) == 401
        twice, unknown, no_id = await all_of(
            service_key("revoke", made["id"]),
            service_key("revoke", "key_0000000000001"),
            service_key("revoke", "till"),
        )
        require_refusal(twice, "names no active key")
        require_refusal(unknown, "names no active key")
        require_refusal(no_id, "Send the identifier")


async def test_no_key_is_made_or_shown_without_a_database(
    punctual: LocalChain, tmp_path: Path
) -> None:
    settings = settings_for(punctual, tmp_path)
    for command in (["create"], ["list"], ["revoke", "key_0000000000001"]):
        ended = await run("service-key", *command, cwd=tmp_path, **settings)
        require_refusal(ended, "there is no database at", "run `tallystick migrate`")
