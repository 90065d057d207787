"""scripts/setup, with programs in place of Python and npm that note what they are told."""

import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.demo.running import CHECKOUT

_TOOLS = (
    *("bash", "basename", "cat", "chmod", "cp", "cut", "dirname", "flock", "mkdir"),
    *("mktemp", "rm", "sed", "sha256sum", "shasum", "sleep", "tail", "tr", "uname"),
)
_NOTE = 'printf "%s %s\\n" "$(basename "$0")" "$*" >>"$NOTES"\n'
_NODE = '#!/usr/bin/env bash\necho "${NODE_VERSION:-v22.1.0}"\n'
_NPM = f"""#!/usr/bin/env bash
{_NOTE}
[[ $1 != ci ]] || mkdir -p "$3/node_modules"
"""
_PYTHON = f"""#!/usr/bin/env bash
[[ $1 != -c ]] || exit "${{PYTHON_IS_OLD:-0}}"
[[ $1 != -V ]] || {{ echo Python 3.13.0; exit; }}
{_NOTE}
case "$*" in
*" venv "*)
    mkdir -p .venv/bin
    cp "$0" .venv/bin/python
    ;;
*" -e .")
    cp "$0" .venv/bin/tallystick
    ;;
*requirements-node.lock)
    cp "$NPM_OF_PYPI"/* .venv/bin
    ;;
*requirements.lock)
    echo "this is what pip says" >&2
    [[ -z ${{PIP_IS_SLOW:-}} ]] || {{ sleep 60 & wait; }}
    exit "${{PIP_EXIT_CODE:-0}}"
    ;;
esac
"""


@dataclass
class Machine:
    """A machine with a checkout, and with these programs only."""

    checkout: Path
    programs: Path

    @property
    def notes(self) -> Path:
        return self.programs / "notes"

    def has(self, name: str, words: str) -> None:
        program = self.programs / name
        program.write_text(words)
        program.chmod(0o755)

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            arguments or (str(self.checkout / "scripts" / "setup"),),
            env={
                "PATH": str(self.programs),
                "HOME": str(self.programs),
                "NOTES": str(self.notes),
                "NPM_OF_PYPI": str(self.programs / "wheel"),
                **environment,
            },
            cwd=self.programs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def setup(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        """Exit code, what it said, and what it told the programs since the last time."""
        self.notes.write_text("")
        running = self.start(*arguments, **environment)
        out, words = running.communicate(timeout=60)
        assert out == "", "stdout belongs to the caller"
        return running.returncode, words, self.notes.read_text()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    checkout, programs = tmp_path / "a checkout", tmp_path / "bin"
    for folder in ("scripts", "contracts", "examples/clients"):
        (checkout / folder).mkdir(parents=True)
    shutil.copy(CHECKOUT / "scripts" / "setup", checkout / "scripts")
    for name in (
        *("requirements.lock", "requirements-node.lock", "pyproject.toml"),
        *("contracts/package-lock.json", "examples/clients/package-lock.json"),
    ):
        (checkout / name).write_text(name)
    (programs / "wheel").mkdir(parents=True)
    for tool in ("env", *_TOOLS):
        found = shutil.which(tool)
        if found:
            (programs / tool).symlink_to(found)
    made = Machine(checkout, programs)
    made.has("wheel/node", _NODE)
    made.has("wheel/npm", _NPM)
    made.has("python3.11", _PYTHON)
    made.has("node", _NODE)
    made.has("npm", _NPM)
    return made


def test_a_first_run_installs_everything_and_a_second_one_nothing(
    machine: Machine,
) -> None:
    code, words, notes = machine.setup()
    assert code == 0, words
    assert "Making .venv with Python 3.13.0" in words
    assert [line.split()[:3] for line in notes.splitlines()] == [
        ["python3.11", "-m", "venv"],
        *[["python", "-m", "pip"]] * 3,
        ["npm", "ci", "--prefix"],
        ["npm", "ci", "--prefix"],
    ]
    assert "--require-hashes" in notes
    assert notes.count("--omit=dev --ignore-scripts") == 2

    began = time.monotonic()
    assert machine.setup() == (0, "", "")
    assert time.monotonic() - began < 2


def test_the_demo_is_set_up_and_started_from_anywhere_with_its_options(
    machine: Machine,
) -> None:
    shutil.copy(CHECKOUT / "scripts" / "demo", machine.checkout / "scripts")
    demo = str(machine.checkout / "scripts" / "demo")
    code, words, notes = machine.setup(demo, "--json", "two words")
    assert code == 0, words
    assert notes.endswith("tallystick demo --json two words\n")
    assert machine.setup(demo)[2] == "tallystick demo\n"


def test_a_changed_lock_is_installed_into_the_same_venv(machine: Machine) -> None:
    machine.setup()
    (machine.checkout / "requirements.lock").write_text("another")
    _, words, notes = machine.setup()
    assert "Making .venv" not in words
    assert "-r requirements.lock" in notes
    assert "npm" not in notes


def test_a_checkout_that_was_moved_gets_a_new_venv(machine: Machine) -> None:
    machine.setup()
    machine.checkout = machine.checkout.rename(machine.checkout.parent / "elsewhere")
    code, _, notes = machine.setup()
    assert code == 0
    assert "-m venv --clear .venv" in notes


def test_a_venv_of_somebodys_own_is_added_to_and_not_cleared(
    machine: Machine,
) -> None:
    mine = machine.checkout / ".venv" / "bin" / "mine"
    mine.parent.mkdir(parents=True)
    mine.write_text("precious")
    shutil.copy(machine.programs / "python3.11", mine.parent / "python")
    code, _, notes = machine.setup()
    assert code == 0
    assert mine.exists()
    assert "-m venv" not in notes


def test_a_failed_installation_is_shown_and_tried_again(machine: Machine) -> None:
    code, words, _ = machine.setup(PIP_EXIT_CODE="1")
    assert code == 1
    assert "this is what pip says" in words
    code, words, notes = machine.setup()
    assert code == 0
    assert "-r requirements.lock" in notes
    assert "this is what pip says" not in words


def test_without_a_python_it_says_what_to_do(machine: Machine) -> None:
    code, words, _ = machine.setup(PYTHON_IS_OLD="1")
    assert code == 1
    assert "no Python 3.11 or newer" in words
    assert "apt install python3" in words
    assert not (machine.checkout / ".venv").exists()


@pytest.mark.parametrize("lacks", ["npm", "a new node"])
def test_without_npm_both_come_from_pypi(machine: Machine, lacks: str) -> None:
    if lacks == "npm":
        (machine.programs / "npm").unlink()
    else:
        machine.has("node", "#!/usr/bin/env bash\necho v18.19.0\n")
    code, words, notes = machine.setup()
    assert code == 0, words
    assert "--require-hashes -r requirements-node.lock" in notes
    assert notes.count("npm ci") == 2
    assert machine.setup() == (0, "", "")


def test_a_developers_packages_serve_the_demo_as_well(machine: Machine) -> None:
    script = machine.programs / "tests"
    script.write_text(
        f'cd "{machine.checkout}" && source scripts/setup && setup_python\n'
        'setup_npm contracts "$@"\n'
    )
    bash = shutil.which("bash")
    assert bash
    assert "npm ci" in machine.setup(bash, str(script))[2]
    notes = machine.setup(bash, str(script), "--include=dev")[2]
    assert "--include=dev" in notes
    assert "npm" not in machine.setup(bash, str(script))[2]


def test_an_interrupt_ends_what_is_being_installed(machine: Machine) -> None:
    running = machine.start(PIP_IS_SLOW="1")
    assert running.stderr
    while "requirements.lock" not in (
        machine.notes.read_text() if machine.notes.exists() else ""
    ):
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGINT)
    _, words = running.communicate(timeout=10)
    assert running.returncode == 130
    assert "stopped" in words
    home = f"HOME={machine.programs}".encode()
    for _ in range(100):
        if not any(home in _environment(one) for one in Path("/proc").glob("[0-9]*")):
            return
        time.sleep(0.02)
    raise AssertionError("something is still being installed")


def _environment(folder: Path) -> bytes:
    try:
        return (folder / "environ").read_bytes()
    except OSError:
        return b""
