"""An admission as text that only we can make and read.

The seller's own server keeps it while it works and brings it back to be charged or
released, so nothing is stored for it but the hold.
"""

import base64
import binascii
import json
from typing import Any

from tallystick.kernel.errors import BadInput
from tallystick.kernel.money import MicroCredits
from tallystick.kernel.seal import Seal
from tallystick.metering.charges import Usage
from tallystick.paywall.answers import AnswerKey
from tallystick.paywall.verdicts import PaidBy, Serve

_PURPOSE = "admission"
_TAG_BYTES = 16
_LARGEST_TOKEN = 2048


class InvalidAdmission(BadInput):
    """A text that is no admission of ours."""

    title = "The admission cannot be read"
    next_step = "Send the `admission` of an authorize answer, unchanged."

    def __init__(self) -> None:
        super().__init__("the admission is not one that this server gave")


def seal_admission(seal: Seal, serve: Serve) -> str:
    """The admission as URL-safe text."""
    parts = [
        serve.hold_id,
        _usage_fields(serve.usage),
        _paid_by_fields(serve.paid_by),
        [_answer_key_fields(key) for key in serve.answer_keys],
    ]
    fields = json.dumps(parts, separators=(",", ":")).encode()
    tag = seal.mac(_PURPOSE, fields)[:_TAG_BYTES]
    return base64.urlsafe_b64encode(tag + fields).rstrip(b"=").decode()


def open_admission(seal: Seal, token: str) -> Serve:
    """The admission behind the text; raises ``InvalidAdmission``."""
    if len(token) > _LARGEST_TOKEN or not token.isascii():
        raise InvalidAdmission
    try:
        sealed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except (binascii.Error, ValueError):
        raise InvalidAdmission from None
    tag, fields = sealed[:_TAG_BYTES], sealed[_TAG_BYTES:]
    if not seal.verify(_PURPOSE, fields, tag):
        raise InvalidAdmission
    hold_id, used, paid_by, keys = json.loads(fields)
    usage = _usage(used)
    # Who is charged is who asked.
    customer_id = usage.customer_id if usage is not None else 0
    answer_keys = tuple(_answer_key(one, customer_id) for one in keys)
    return Serve(usage, hold_id, _paid_by(paid_by), answer_keys)


def _usage_fields(usage: Usage | None) -> list[Any] | None:
    if usage is None:
        return None
    return [
        usage.customer_id,
        usage.feature,
        usage.quantity,
        usage.price,
        usage.catalog_version,
    ]


def _usage(fields: list[Any] | None) -> Usage | None:
    if fields is None:
        return None
    customer_id, feature, quantity, price, version = fields
    return Usage(customer_id, feature, quantity, MicroCredits(price), version)


def _paid_by_fields(paid_by: PaidBy | None) -> list[Any] | None:
    if paid_by is None:
        return None
    tx_hash = None if paid_by.tx_hash is None else paid_by.tx_hash.hex()
    return [
        paid_by.payer.hex(),
        paid_by.network,
        paid_by.version,
        tx_hash,
        paid_by.usdc,
    ]


def _paid_by(fields: list[Any] | None) -> PaidBy | None:
    if fields is None:
        return None
    payer, network, version, tx_hash, usdc = fields
    settled = None if tx_hash is None else bytes.fromhex(tx_hash)
    return PaidBy(bytes.fromhex(payer), network, version, settled, usdc)


def _answer_key_fields(key: AnswerKey) -> list[Any]:
    return [key.key.hex(), key.fingerprint.hex(), key.until_ms, key.owner]


def _answer_key(fields: list[Any], customer_id: int) -> AnswerKey:
    key, fingerprint, until_ms, owner = fields
    asked = bytes.fromhex(key), bytes.fromhex(fingerprint)
    return AnswerKey(*asked, customer_id, until_ms, owner)
