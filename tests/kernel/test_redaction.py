"""No secret of any class survives on any way into the log."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from tests.kernel.canaries import CANARIES, HARMLESS, PRIVATE_KEY, SIGNATURE

from tallystick.kernel.log import configure_logging, get_logger
from tallystick.kernel.redaction import MASK, redact, redact_text

_ALL = pytest.mark.parametrize("name", CANARIES)


@dataclass
class _Box:
    content: Any


class _Odd:
    def __init__(self, content: str) -> None:
        self._content = content

    def __repr__(self) -> str:
        return f"<odd {self._content}>"


@contextmanager
def _logging(*, as_json: bool) -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logging("DEBUG", as_json=as_json)
    try:
        yield
    finally:
        structlog.reset_defaults()
        root.handlers[:] = handlers
        root.setLevel(level)


def _survives(secret: str, output: str) -> bool:
    """Whether the secret, or a line or half of it, stands in the output."""
    plain = output.replace("\\n", "\n").replace('\\"', '"')
    pieces = [secret, *secret.splitlines()]
    half = len(secret) // 2
    if half >= 12:
        pieces += [secret[:half], secret[half:]]
    return any(piece in text for piece in pieces for text in (output, plain))


@_ALL
def test_no_secret_survives_in_a_value_of_any_shape(name: str) -> None:
    text, secret = CANARIES[name]
    shapes = [
        text,
        {"note": text},
        {"a": {"b": [{"c": (text,)}]}},
        [text, {text}, frozenset([text])],
        {text: 1},
        MappingProxyType({"note": text}),
        _Box(_Box([text])),
        _Odd(text),
        ValueError(text),
        {"error": KeyError(text)},
        f"before {text} after",
        json.dumps({"note": [text]}),
    ]
    for shape in shapes:
        assert not _survives(secret, f"{redact(shape)!r}"), shape


def _fail(text: str) -> None:
    nothing: dict[str, str] = {}
    try:
        nothing[text]
    except KeyError as error:
        raise RuntimeError(f"because of {text}") from error


def _log_everywhere(text: str) -> None:
    log = get_logger()
    with_secret = f"an event with {text}"
    log.info(with_secret)
    log.info("an event", note=text, nested={"deep": [text]}, error=ValueError(text))
    log.bind(bound=text).warning("a bound value")
    try:
        _fail(text)
    except RuntimeError:
        log.exception("a failure", odd=_Odd(text))
    log.info("with the stack", stack_info=True)


def _library_logs_everywhere(text: str) -> None:
    log = logging.getLogger("some.library")
    log.debug("sent %s and %r", text, {"header": text})
    log.warning("named %(one)s", {"one": text})
    log.error(ValueError(text))
    try:
        _fail(text)
    except RuntimeError:
        log.exception("failed with %s", _Odd(text))


@_ALL
@pytest.mark.parametrize("as_json", [True, False])
def test_no_secret_survives_in_our_own_log(
    name: str, *, as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    text, secret = CANARIES[name]
    with _logging(as_json=as_json):
        _log_everywhere(text)
    output = capsys.readouterr().err
    assert output.count("an event") == 2
    assert "RuntimeError" in output
    assert not _survives(secret, output)


@_ALL
def test_no_secret_survives_in_a_library_s_log(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text, secret = CANARIES[name]
    with _logging(as_json=True):
        _library_logs_everywhere(text)
    output = capsys.readouterr().err
    assert "sent" in output
    assert "Traceback" in output
    assert not _survives(secret, output)


@pytest.mark.parametrize(
    "name",
    [
        *["PAYMENT-SIGNATURE", "payment_signature", "signature", "X-PAYMENT"],
        *["Authorization", "cookie", "Set-Cookie", "password", "SECRET_KEY"],
        *["api_key", "apiKey", "X-API-Key", "private_key", "stripe_webhook_secret"],
        *["access_token", "token", "relayer_key", "RELAYER_KEYS", "mnemonic"],
        *["db_credentials", "raw_transaction"],
    ],
)
def test_what_is_called_a_secret_is_masked_whatever_it_looks_like(name: str) -> None:
    for value in ("plain", 7, ["plain"], {"a": "plain"}, b"plain"):
        assert redact({name: value}) == {name: MASK}


@pytest.mark.parametrize("text", HARMLESS)
def test_what_an_operator_needs_stays_readable(text: str) -> None:
    assert redact_text(text) == text
    assert redact({"note": text, "n": [1, 2.5, None, True]}) == {
        "note": text,
        "n": [1, 2.5, None, True],
    }


def test_a_hash_is_readable_where_it_is_called_one() -> None:
    one = "0x" + "ab" * 32
    assert redact({"tx_hash": one, "nonce": one}) == {"tx_hash": one, "nonce": one}
    assert redact({"value": one}) == {"value": MASK}


def test_what_is_too_long_for_a_hash_is_masked_even_when_called_one() -> None:
    assert redact({"tx_hash": SIGNATURE}) == {"tx_hash": MASK}
    assert SIGNATURE[10:60] not in redact_text(f"hash={SIGNATURE}")


def test_numbers_that_could_be_keys_are_masked_and_amounts_are_not() -> None:
    assert redact([int(PRIVATE_KEY, 16), 2**63, -5]) == [MASK, 2**63, -5]


def test_bytes_are_told_by_their_length() -> None:
    assert redact([bytes(65), bytearray(3)]) == ["<65 bytes>", "<3 bytes>"]


def test_a_value_that_contains_itself_does_not_stop_the_log() -> None:
    endless: dict[str, Any] = {"a": 1}
    endless["self"] = [endless]
    assert MASK in repr(redact(endless))


@given(st.text(max_size=300))
def test_masking_twice_masks_no_more_than_masking_once(text: str) -> None:
    once = redact_text(text)
    assert redact_text(once) == once


@pytest.mark.timeout(5)
@pytest.mark.parametrize(
    "filler", ["a", "0", "e", "/", ":", "@", "://", "://a:", "hash", "cookie: ", "-"]
)
def test_a_large_text_is_masked_in_linear_time(filler: str) -> None:
    redact_text(filler * (200_000 // len(filler)))
