import typing

import pytest
from x402.extensions.sign_in_with_x import types as siwx_types
from x402.mechanisms.evm import constants

from tallystick.x402 import reasons

SAME_IN_BOTH = {
    constants.ERR_INVALID_SIGNATURE: reasons.SIGNATURE,
    constants.ERR_RECIPIENT_MISMATCH: reasons.RECIPIENT_MISMATCH,
    constants.ERR_VALID_BEFORE_EXPIRED: reasons.VALID_BEFORE,
    constants.ERR_VALID_AFTER_FUTURE: reasons.VALID_AFTER,
    constants.ERR_UNSUPPORTED_SCHEME: reasons.UNSUPPORTED_SCHEME,
}
OTHER_IN_THE_SDK = {
    constants.ERR_AUTHORIZATION_VALUE_MISMATCH: reasons.VALUE,
    constants.ERR_INSUFFICIENT_BALANCE: reasons.INSUFFICIENT_FUNDS,
    constants.ERR_NETWORK_MISMATCH: reasons.INVALID_NETWORK,
    constants.ERR_TRANSACTION_FAILED: reasons.INVALID_TRANSACTION_STATE,
    constants.ERR_TRANSACTION_SIMULATION_FAILED: reasons.INVALID_TRANSACTION_STATE,
    constants.ERR_FAILED_TO_VERIFY_SIGNATURE: reasons.SIGNATURE,
    constants.ERR_FAILED_TO_GET_NETWORK_CONFIG: reasons.INVALID_NETWORK,
    constants.ERR_MISSING_EIP712_DOMAIN: reasons.INVALID_PAYMENT_REQUIREMENTS,
    constants.ERR_TOKEN_NAME_MISMATCH: reasons.INVALID_PAYMENT_REQUIREMENTS,
    constants.ERR_TOKEN_VERSION_MISMATCH: reasons.INVALID_PAYMENT_REQUIREMENTS,
}


@pytest.mark.parametrize(("sdk", "ours"), SAME_IN_BOTH.items())
def test_shared_codes_are_spelled_alike(sdk: str, ours: str) -> None:
    assert sdk == ours
    assert reasons.spec_reason(sdk) == ours


@pytest.mark.parametrize(("sdk", "ours"), OTHER_IN_THE_SDK.items())
def test_codes_of_the_sdk_become_those_of_the_specification(
    sdk: str, ours: str
) -> None:
    assert reasons.spec_reason(sdk) == ours
    assert ours in reasons.SPECIFICATION
    assert sdk not in reasons.SPECIFICATION


def test_codes_without_a_word_in_the_specification_stay() -> None:
    assert constants.ERR_NONCE_ALREADY_USED == reasons.NONCE_ALREADY_USED
    assert constants.ERR_SETTLEMENT_PENDING == reasons.SETTLEMENT_PENDING
    assert reasons.spec_reason("settlement_pending") == "settlement_pending"


def test_codes_of_sign_ins_are_the_sdks() -> None:
    ours = {value for name, value in vars(reasons).items() if name.startswith("SIWX_")}
    known = typing.get_args(siwx_types.SIWxValidationCode)
    known += typing.get_args(siwx_types.SIWxVerifyCode)
    assert ours <= set(known)
