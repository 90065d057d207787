"""Each error has one code, a status and a remedy."""

import pytest

from tallystick.kernel.errors import Conflict, TallystickError, known_errors


def test_the_code_is_the_class_name() -> None:
    class RoofLeaksBadly(Conflict):
        """It rains in."""

    try:
        assert RoofLeaksBadly.code == "roof_leaks_badly"
        assert RoofLeaksBadly("wet").status == 409
        assert known_errors()["roof_leaks_badly"] is RoofLeaksBadly
    finally:
        _forget("roof_leaks_badly")


def test_two_classes_cannot_share_a_code() -> None:
    def declare(where: str) -> type[TallystickError]:
        return type("DoorStuck", (Conflict,), {"__module__": where})

    try:
        declare("one")
        declare("one")  # the same class again: a module that is loaded twice
        with pytest.raises(TypeError, match="door_stuck"):
            declare("another")
    finally:
        _forget("door_stuck")


def test_an_error_carries_what_the_caller_is_told() -> None:
    error = Conflict("taken", state="captured")
    assert (str(error), error.detail) == ("taken", "taken")
    assert error.members == {"state": "captured"}


def _forget(code: str) -> None:
    from tallystick.kernel import errors

    del errors._REGISTRY[code]
