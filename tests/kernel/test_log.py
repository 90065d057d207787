"""The log is one JSON object a line, whoever writes the line."""

import json
import subprocess
import sys

_PROGRAM = """
import logging
from tallystick.kernel.log import configure_logging, get_logger
configure_logging()
get_logger("ours").info("taking_payments", network="eip155:1")
logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
logging.getLogger("alembic.runtime.migration").info("Context impl %s.", "X")
key = "0x" + "ab" * 32
try:
    raise RuntimeError("the key is " + key)
except RuntimeError:
    logging.getLogger("uvicorn.error").exception("it broke: %s", key)
"""


def test_every_line_is_json_and_hides_what_is_secret() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in ran.stderr.splitlines()]
    assert [one["level"] for one in lines] == ["info", "warning", "error"]
    assert lines[0]["network"] == "eip155:1"
    assert lines[1]["event"] == "Invalid HTTP request received."
    assert "RuntimeError" in lines[2]["exception"]
    assert all(one["timestamp"].endswith("Z") for one in lines)
    assert "abab" not in ran.stderr
    assert ran.stdout == ""


_SEALED = """
from tallystick.kernel.log import configure_logging, get_logger
configure_logging()
get_logger("ours").info("journal_sealed", seal_digest="16:" + "cd" * 32)
"""


def test_a_seal_can_be_noted_from_the_log() -> None:
    """``tallystick audit --seal`` takes it as it stands there."""
    ran = subprocess.run(
        [sys.executable, "-c", _SEALED], capture_output=True, text=True, check=True
    )
    assert json.loads(ran.stderr)["seal_digest"] == "16:" + "cd" * 32
