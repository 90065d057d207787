"""However the demo ends, nothing that it started outlives it."""

import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.demo.running import Demo

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="reads /proc; the death signal is Linux's"
)


def _to_the_demo(how: signal.Signals) -> Callable[[Demo], None]:
    return lambda demo: demo.process.send_signal(how)


def _to_its_group(how: signal.Signals) -> Callable[[Demo], None]:
    # What a terminal does at Ctrl-C, here by an impatient person.
    def send(demo: Demo) -> None:
        for _ in range(3):
            os.killpg(demo.process.pid, how)

    return send


@pytest.mark.parametrize(
    ("interrupt", "exit_code"),
    [
        pytest.param(_to_its_group(signal.SIGINT), 130, id="ctrl-c"),
        pytest.param(_to_the_demo(signal.SIGTERM), 143, id="sigterm"),
        pytest.param(_to_the_demo(signal.SIGKILL), -9, id="sigkill"),
    ],
)
def test_no_process_outlives_a_demo_that_is_ended_halfway(
    tmp_path: Path,
    interrupt: Callable[[Demo], None],
    exit_code: int,
) -> None:
    with Demo(tmp_path) as demo:
        demo.until("GET /features/ai_analyst")
        family = " ".join(demo.family().values())
        for name in ("anvil", "serve", "demo"):
            assert name in family

        interrupt(demo)

        assert demo.exit_code() == exit_code
        assert demo.everybody_is_gone(), demo.family()
    if exit_code > 0:
        assert not list(tmp_path.glob("tallystick-demo-*"))
        assert "Traceback" not in demo.told


@pytest.mark.parametrize("library", ["pydantic_core", "cytoolz", "uvloop|httptools"])
def test_a_demo_interrupted_while_it_loads_ends_without_a_word(
    tmp_path: Path, library: str
) -> None:
    """An impatient Ctrl-C in the first second was answered with a traceback."""
    with Demo(tmp_path) as demo:
        maps = Path(f"/proc/{demo.process.pid}/maps")
        while not re.search(library, maps.read_text()):
            time.sleep(0.005)
            assert demo.process.poll() is None
        demo.process.send_signal(signal.SIGINT)
        assert demo.exit_code() == 130
        assert demo.out.read() == b""
        assert demo.told == ""


def test_a_demo_interrupted_while_the_stage_is_set_leaves_nothing(
    tmp_path: Path,
) -> None:
    with Demo(tmp_path) as demo:
        demo.until("starting")
        demo.process.send_signal(signal.SIGINT)
        assert demo.exit_code() == 130
        assert demo.everybody_is_gone(), demo.family()
    assert not list(tmp_path.glob("tallystick-demo-*"))
