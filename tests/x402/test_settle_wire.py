"""What facilitators are asked, by the SDK's own models; and every answer's reading."""

import json
import secrets
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from x402.schemas import PaymentPayload
from x402.schemas import SettleRequest as SdkRequest
from x402.schemas.v1 import PaymentPayloadV1, PaymentRequirementsV1

from tallystick.kernel.money import UsdcAtomic
from tallystick.x402.networks import BASE_SEPOLIA
from tallystick.x402.settle_wire import (
    AnswerKind,
    SettleRequest,
    read_settle_answer,
    read_supported,
)
from tallystick.x402.wire import Authorization, PaymentTerms

PAYER, PAY_TO = b"\x11" * 20, b"\x22" * 20
HASH = "0x" + "ab" * 32
REQUEST = SettleRequest(
    PaymentTerms(BASE_SEPOLIA.usdc, UsdcAtomic(1_000_000), PAY_TO, 90),
    Authorization(PAYER, PAY_TO, 1_000_000, 0, 2_000_000_000, b"\x07" * 32),
    b"\x05" * 65,
    "https://api.example.com",
)
K = AnswerKind
YES = {"success": True, "transaction": HASH, "network": "eip155:84532"}
NO = {"success": False, "transaction": "", "network": "eip155:84532"}


def read(status: int, said: Any) -> tuple[AnswerKind, str | None, bool]:
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    found = read_settle_answer(status, body, REQUEST)
    assert found.status == status
    return found.kind, found.reason, found.tx_hash is not None


def test_the_sdk_reads_our_request_of_version_2() -> None:
    document = REQUEST.document(2)
    read_by_it = SdkRequest.model_validate(document)
    assert read_by_it.payment_payload.accepted == read_by_it.payment_requirements
    assert read_by_it.model_dump(by_alias=True, exclude_none=True) == document
    assert set(document["paymentPayload"]) == {"x402Version", "payload", "accepted"}
    assert PaymentPayload.model_validate(document["paymentPayload"]).payload == {
        "signature": "0x" + "05" * 65,
        "authorization": {
            "from": "0x1111111111111111111111111111111111111111",
            "to": "0x2222222222222222222222222222222222222222",
            "value": "1000000",
            "validAfter": "0",
            "validBefore": "2000000000",
            "nonce": "0x" + "07" * 32,
        },
    }


def test_the_sdk_reads_our_request_of_version_1() -> None:
    document = REQUEST.document(1)
    payload = PaymentPayloadV1.model_validate(document["paymentPayload"])
    wanted = PaymentRequirementsV1.model_validate(document["paymentRequirements"])
    assert payload.network == wanted.network == "base-sepolia"
    assert wanted.max_amount_required == "1000000"
    assert payload.payload == REQUEST.document(2)["paymentPayload"]["payload"]


def test_a_request_does_not_show_its_signature() -> None:
    assert "05050505" not in repr(REQUEST)
    assert "\\x05\\x05" not in repr(REQUEST)


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        (200, YES, (K.SETTLED, None, True)),
        (201, YES | {"network": "base-sepolia"}, (K.SETTLED, None, True)),
        (200, YES | {"payer": "0x" + "11" * 20}, (K.SETTLED, None, True)),
        (200, YES | {"amount": "1000000"}, (K.SETTLED, None, True)),
        (200, YES | {"payer": "", "network": ""}, (K.SETTLED, None, True)),
        (500, YES, (K.UNCLEAR, None, True)),
        (200, YES | {"transaction": ""}, (K.UNCLEAR, None, False)),
        (200, YES | {"transaction": "0x" + "00" * 32}, (K.UNCLEAR, None, False)),
        (200, YES | {"transaction": "0xab"}, (K.UNCLEAR, None, False)),
        (200, YES | {"success": "true"}, (K.UNCLEAR, None, True)),
        (200, YES | {"success": 1}, (K.UNCLEAR, None, True)),
        (200, YES | {"payer": "0x" + "12" * 20}, (K.UNCLEAR, "another_payment", False)),
        (200, YES | {"payer": 7}, (K.UNCLEAR, "another_payment", False)),
        (200, YES | {"amount": "1"}, (K.UNCLEAR, "another_payment", False)),
        (200, YES | {"network": "base"}, (K.UNCLEAR, "another_payment", False)),
        (200, YES | {"network": []}, (K.SETTLED, None, True)),
        (200, NO | {"errorReason": "nope"}, (K.FAILED, "nope", False)),
        (200, NO | {"errorReason": "a sentence!"}, (K.FAILED, "unreadable", False)),
        (200, NO | {"errorReason": "x" * 81}, (K.FAILED, "unreadable", False)),
        (200, NO | {"errorReason": {"a": 1}}, (K.FAILED, "unreadable", False)),
        (402, NO | {"errorReason": "funds"}, (K.FAILED, "funds", False)),
        (401, {"errorType": "unauthorized"}, (K.FAILED, "unauthorized", False)),
        (429, b"", (K.FAILED, "no_json", False)),
        (408, NO, (K.UNCLEAR, None, False)),
        (409, NO, (K.UNCLEAR, None, False)),
        (500, NO | {"errorReason": "x"}, (K.UNCLEAR, "x", False)),
        (502, b"<html>", (K.UNCLEAR, "no_json", False)),
        (307, b"", (K.UNCLEAR, "no_json", False)),
        (
            500,
            NO | {"errorReason": "settlement_pending", "transaction": HASH},
            (K.PENDING, "settlement_pending", True),
        ),
        (
            200,
            NO | {"errorReason": "settlement_pending"},
            (K.PENDING, "settlement_pending", False),
        ),
        (
            400,
            {"error": "settlement_pending"},
            (K.PENDING, "settlement_pending", False),
        ),
        (202, {"status": "pending"}, (K.PENDING, None, False)),
        (200, b"{}", (K.UNCLEAR, None, False)),
        (200, b"[]", (K.UNCLEAR, "no_json", False)),
        (200, b'{"success": true, "success": false}', (K.UNCLEAR, "no_json", False)),
        (200, b"\xff", (K.UNCLEAR, "no_json", False)),
        (200, b"[" * 30_000, (K.UNCLEAR, "no_json", False)),
        (200, b"9" * 30_000, (K.UNCLEAR, "no_json", False)),
        (200, b'{"a":' * 30_000, (K.UNCLEAR, "no_json", False)),
    ],
)
def test_every_answer_has_one_reading(status: int, said: Any, expected: Any) -> None:
    assert read(status, said) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
MEMBERS = [*YES, "payer", "amount", "errorReason", "error", "status", "txHash"]


@given(
    status=st.integers(100, 599),
    said=st.dictionaries(st.sampled_from(MEMBERS), JSON | st.just(HASH))
    | JSON
    | st.binary(),
)
def test_no_answer_is_an_error(status: int, said: Any) -> None:
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    found = read_settle_answer(status, body, REQUEST)
    if found.kind == K.SETTLED:
        assert isinstance(said, dict)
        assert said["success"] is True
        assert found.tx_hash is not None
    assert found.reason is None or len(found.reason) <= 80


@given(said=JSON | st.binary())
def test_no_list_of_kinds_is_an_error(said: Any) -> None:
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    assert read_supported(body, "eip155:84532") is None


def supported(*kinds: Any, signers: Any = None) -> Any:
    body = json.dumps({"kinds": kinds, "signers": signers}).encode()
    found = read_supported(body, "eip155:84532")
    assert found is not None
    return found


def kind(version: int, network: str, scheme: str = "exact") -> dict[str, Any]:
    return {"x402Version": version, "scheme": scheme, "network": network}


@pytest.mark.parametrize(
    ("kinds", "version"),
    [
        ([kind(2, "eip155:84532"), kind(1, "base-sepolia")], 2),
        ([kind(2, "eip155:*")], 2),
        ([kind(1, "base-sepolia")], 1),
        ([kind(1, "base"), kind(2, "eip155:8453")], None),
        ([kind(2, "eip155:84532", "upto")], None),
        ([kind(3, "eip155:84532")], None),
        ([kind(1, "base-sepolia") | {"x402Version": True}], None),
        ([7, None, {}, {"x402Version": 2}, kind(2, "eip155:84532")], 2),
        ([], None),
    ],
)
def test_the_newest_version_that_it_settles_is_spoken(
    kinds: list[Any], version: int | None
) -> None:
    assert supported(*kinds).version_for("eip155:84532") == version


def test_signers_are_those_of_our_network_or_its_family() -> None:
    one, two, three = (secrets.token_bytes(20) for _ in range(3))
    told = {
        "eip155:*": [f"0x{one.hex()}", "junk", 7],
        "eip155:84532": [f"0x{two.hex()}"],
        "solana:*": [f"0x{three.hex()}"],
        "eip155": "no list",
    }
    assert supported(signers=told).signers == {one, two}
    assert supported(signers=[1]).signers == frozenset()
