"""Made-up secrets of every class that could pass through the system.

Each is (text as it may appear, the part that must not survive).
"""

import base64
import json
import textwrap

_HEX = "5ec2e7" * 40
SIGNATURE = "0x" + _HEX[:130]
PRIVATE_KEY = _HEX[7:71]
_PAYMENT = {"x402Version": 2, "payload": {"signature": SIGNATURE}}


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _jwt(claims: str) -> str:
    parts = ['{"alg":"HS256"}', claims]
    return ".".join([*map(_base64, parts), "c2lnbmF0dXJlLW9mLXRoZS10b2tlbg"])


_PLAIN = {
    "customer key": "tk_live_4fG9kQ2mZx81Lw7PbN3sVdYe",
    "short customer key": "tk_4fG9kQ2mZx81Lw7PbN3s",
    "merchant key": "mk_7dRw4-TnVe2_XsT8yLm5PcQb6H",
    "service key": "sk_9aXw2-KpQe7_ZrT5uLm1NcVb3D",
    "stripe secret key": "sk_" + "test_" + "51Habcdefghijklmnopqrstu",
    "stripe restricted key": "rk_" + "live_" + "51Habcdefghijklmnopqrstu",
    "stripe webhook secret": "whsec_MfKQ9r8GKYq/TwjUPD8ILP+Io2LaLaSw",
    "stripe client secret": "pi_3MtwBw_secret_YrKJUKribcBjcG8HVhfZluoGH",
    "signature": SIGNATURE,
    "signature without 0x": SIGNATURE[2:],
    "compact signature": "0x" + _HEX[:128],
    "half a signature": "0x" + _HEX[:64],
    "half a signature as a number": str(int(_HEX[:64], 16)),
    "private key": "0x" + PRIVATE_KEY,
    "private key without 0x": PRIVATE_KEY,
    "signed transaction": "0x02f8" + _HEX,
    "payment header": _base64(json.dumps(_PAYMENT, separators=(",", ":"))),
    "payment header of another writer": _base64("{ " + json.dumps(_PAYMENT)[1:]),
    "payment header, printed": _base64(json.dumps(_PAYMENT, indent=2)),
    "json web token": _jwt('{"sub":"a customer with a long name","admin":true}'),
    "small json web token": _jwt('{"sub":1}'),
    "private key file": "\n".join(
        [
            "-----BEGIN PRIVATE KEY-----",
            *textwrap.wrap(_base64(_HEX), 64),
            "-----END PRIVATE KEY-----",
        ]
    ),
}
_IN_CONTEXT = {
    "database password": ("postgresql://ada:{}@db.example/books", "hunter2-hunter2"),
    "password with an at sign": ("postgresql://ada:{}@db.example/b", "hun@ter2"),
    "password with a slash": ("postgresql://ada:{}@db.example/b", "hun/ter2"),
    "password alone": ("redis://:{}@cache.example:6379/0", "hunter2"),
    "token as a user": ("https://{}@node.example/rpc", "q8Zr1Lw7PbN3sVd"),
    "node key": ("https://base.node.example/v2/{}", "Zr1Lw7PbN3sVdYe_kQ2mZx81"),
    "node key in the query": ("https://node.example/?apikey={}&x=1", "q8Zr1Lw7PbN"),
    "bearer token": ("Authorization: Bearer {}", "opaque-9aXw2KpQe7"),
    "bearer alone": ("got bearer {}", "opaque-9aXw2KpQe7"),
    "basic credentials": ("authorization: Basic {}", "YWRhOmh1bnRlcjI="),
    "cookie": ("Cookie: a=1; session={}; theme=dark", "S3ss10nS3cr3t"),
    "set-cookie": ("{{'set-cookie': '__Host-s={}; Secure'}}", "S3ss10nS3cr3t"),
    "raw header": ("[(b'payment-signature', b'x'), (b'cookie: s={}')]", "S3ss10nS3"),
    "secret in settings": ("TALLYSTICK_SECRET_KEY={}", "correct-horse-battery"),
    "password in a form": ("user=ada&password={}&next=/", "hunter2"),
    "password in json": ('{{"password": "{}"}}', "hunter2"),
    "relayer keys": ("RELAYER_KEYS={}", "deadbeef-and-more"),
    "mnemonic": ("mnemonic: {}", "testtesttestjunk"),
    "payment header of unknown form": ("X-PAYMENT: {}", "c29tZXRoaW5nIGVsc2U"),
}
CANARIES = {name: (secret, secret) for name, secret in _PLAIN.items()} | {
    name: (template.format(secret), secret)
    for name, (template, secret) in _IN_CONTEXT.items()
}
"""By class: a text in which the secret stands, and the secret."""

HARMLESS = [
    "the call took 12.5 credits and 3 ms",
    "cus_000000000001a placed hld_01hzzzzzzzzzz for ai_analyst",
    "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
    "https://api.example/features/ai_analyst?quantity=3",
    "tx_hash=0x" + "ab" * 32,
    "Transaction with hash: '0x" + "ab" * 32 + "' not found.",
    "block hash 0x" + "ab" * 32,
    "eip155:84532 at block 12345678",
    "2026-11-20T10:00:00.000Z",
    "sqlite+aiosqlite:////var/lib/tallystick/books.sqlite3",
]
"""What an operator needs to read."""
