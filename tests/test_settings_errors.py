"""A wrong setting is told in a line that says what to do, and never with its value."""

import os
import secrets
import socket
from pathlib import Path

import pytest
from pydantic import ValidationError

from tallystick.chain.local import LocalChain
from tallystick.config import Settings, UnreadableSettings, read_settings
from tests.processes import run
from tests.test_cli import KEY, PASSWORD, SECRET, all_of, require_refusal, settings_for

REMEDY = "change it in the environment or in tallystick.toml"


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder, without anybody's settings."""
    for name in [name for name in os.environ if name.startswith("TALLYSTICK_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def problems() -> list[str]:
    with pytest.raises(UnreadableSettings) as refusal:
        read_settings()
    assert refusal.value.__cause__ is None, "its cause would show the values"
    return refusal.value.problems


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("LOG_LEVEL", "LOUD", "should be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ("PORT", "99999", "should be less than or equal to 65535"),
        ("PORT", "abc", "should be a valid integer"),
        ("PORT", "", "should be a valid integer"),
        ("SETTLE_WAIT", "-1", "should be greater than or equal to 0"),
        ("SETTLE_WAIT", "nan", "should be"),
        ("OFFER_SECONDS", "600", "should be less than or equal to 120"),
        ("TAKE_PAYMENTS", "perhaps", "should be a valid boolean"),
    ],
)
def test_one_line_says_which_setting_is_wrong_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(f"TALLYSTICK_{name}", value)
    (line,) = problems()
    assert line.startswith(f"TALLYSTICK_{name} {words}")
    assert REMEDY in line
    assert not value or value not in line.removeprefix(f"TALLYSTICK_{name}")


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (b'pay_to = "\xff"', "is no text"),
        (b'port = "x', "is no TOML"),
        (b'prot = 5\nsecret_key = "x"', "no setting prot: did you mean port?"),
        (b"nonesuch_at_all = 5", "no setting nonesuch_at_all: remove it"),
        (b"relayer_keys = [12345, 67890]", "TALLYSTICK_RELAYER_KEYS should be a valid"),
        (b'[secret_key]\nis = "hunter2"', "TALLYSTICK_SECRET_KEY should be a valid"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_in_one_line(
    tmp_path: Path, written: bytes, words: str
) -> None:
    (tmp_path / "tallystick.toml").write_bytes(written)
    (line,) = problems()
    assert words in line
    assert "tallystick.toml" in line
    assert not {"hunter2", "12345"} & set(line.replace("'", " ").split())


def test_a_folder_in_the_place_of_the_file_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "tallystick.toml").mkdir()
    (line,) = problems()
    assert "is no file" in line


def test_every_wrong_setting_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLYSTICK_HOLD_SECONDS", "0")
    monkeypatch.setenv("TALLYSTICK_PORT", "abc")
    monkeypatch.setenv("TALLYSTICK_LOG_LEVEL", "LOUD")
    assert len(problems()) == 3


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("TALLYSTICK_PAYTO", "did you mean TALLYSTICK_PAY_TO?"),
        ("tallystick_payto", "did you mean TALLYSTICK_PAY_TO?"),
        ("TALLYSTICK_RELAYER_KEY", "did you mean TALLYSTICK_RELAYER_KEYS?"),
        ("TALLYSTICK_NONESUCH_AT_ALL", "unset it."),
    ],
)
def test_a_misspelt_variable_is_not_passed_over(
    monkeypatch: pytest.MonkeyPatch, name: str, remedy: str
) -> None:
    monkeypatch.setenv(name, "hunter2")
    assert problems() == [f"there is no setting {name.upper()}: {remedy}"]
    # An app that installs us may make the settings without our words.
    with pytest.raises(ValidationError) as refusal:
        Settings()
    assert "hunter2" not in str(refusal.value)


def test_the_variables_of_our_other_programs_are_let_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("ANVIL", "CONTRACTS", "SERVICE_KEY", "TEST_WORKERS", "URL"):
        monkeypatch.setenv(f"TALLYSTICK_{name}", "x")
    monkeypatch.setenv("tallystick_pay_to", "0x12")
    assert read_settings().pay_to == "0x12"


def test_a_level_may_be_written_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLYSTICK_LOG_LEVEL", "warning")
    assert read_settings().log_level == "WARNING"


async def test_no_command_answers_a_wrong_setting_with_a_traceback(
    punctual: LocalChain, tmp_path: Path
) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("This is no database, and longer than any of its headers. " * 9)
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = str(other.getsockname()[1])
        wrong = {
            "LOG_LEVEL": ("LOUD", "TALLYSTICK_LOG_LEVEL should be"),
            "NETWORK": ("eip155:1", "use one of eip155:8453"),
            "RPC_URLS": (f"ftp://{PASSWORD}", "one of RPC_URLS is no address"),
            "PUBLIC_URL": ("shop.example.com", "PUBLIC_URL is no address"),
            "RELAYER_KEYS": ("", "TALLYSTICK_TAKE_PAYMENTS=false"),
            "DATABASE_URL": (f"sqlite+aiosqlite:///{notes}", "no SQLite database"),
            "PORT": (taken, "HOST and PORT cannot be listened on"),
            "HOST": ("nonesuch.invalid", "HOST and PORT cannot be listened on"),
        }

        async def serve(name: str, value: str) -> None:
            folder = tmp_path / secrets.token_hex(4)
            folder.mkdir()
            settings = settings_for(punctual, folder, **{name: value})
            ended = await run("serve", cwd=folder, **settings)
            require_refusal(ended, wrong[name][1])

        for name, (value, _) in wrong.items():
            await serve(name, value)
    level = {"LOG_LEVEL": "LOUD", "SECRET_KEY": SECRET, "RELAYER_KEYS": KEY}
    for ended in await all_of(
        *(run(one, cwd=tmp_path, **level) for one in ("migrate", "audit"))
    ):
        require_refusal(ended, "TALLYSTICK_LOG_LEVEL should be")
