"""Runtime code in a line or two, for contracts that do one odd thing."""

from tallystick.chain import abi

_RETURN_WORD = bytes.fromhex("5f5260205ff3")


def _push(word: bytes | int) -> bytes:
    return b"\x7f" + abi.word(word)


def _logs(*logs: tuple[list[bytes], bytes | int]) -> bytes:
    code = b""
    for topics, payload in logs:
        code += _push(payload) + bytes.fromhex("5f52")
        code += b"".join(_push(topic) for topic in reversed(topics))
        code += bytes.fromhex("60205f") + bytes([0xA0 + len(topics)])
    return code


def emitting(*logs: tuple[list[bytes], bytes | int]) -> bytes:
    """Emits such logs (topics, one word of data), whatever is called."""
    return _logs(*logs) + b"\x00"


def answering(word: int, *logs: tuple[list[bytes], bytes | int]) -> bytes:
    """Answers every call with one word, and emits the logs when called with nothing."""
    emit = _logs(*logs)
    answer = _push(word) + _RETURN_WORD
    # Calldata? Then jump over the logs, which are followed by the end.
    target = 5 + len(emit) + 1
    return b"\x36\x61" + target.to_bytes(2) + b"\x57" + emit + b"\x00\x5b" + answer


def slow_yes(rounds: int) -> bytes:
    """An EIP-1271 wallet that says yes to everything, after 26 gas a round."""
    count_down = b"\x61" + rounds.to_bytes(2) + bytes.fromhex("5b6001900380600357")
    magic = bytes.fromhex("1626ba7e") + bytes(28)
    return count_down + _push(magic) + _RETURN_WORD
