"""Why a payment or a sign-in is refused, in the words of the protocol.

The codes are those of the x402 specification, version 2, section 9. Where the SDK
says something else for the same thing, ``spec_reason`` translates: facilitators and
clients speak both.
"""

from typing import Final

INSUFFICIENT_FUNDS: Final = "insufficient_funds"
VALID_AFTER: Final = "invalid_exact_evm_payload_authorization_valid_after"
VALID_BEFORE: Final = "invalid_exact_evm_payload_authorization_valid_before"
VALUE: Final = "invalid_exact_evm_payload_authorization_value"
SIGNATURE: Final = "invalid_exact_evm_payload_signature"
RECIPIENT_MISMATCH: Final = "invalid_exact_evm_payload_recipient_mismatch"
INVALID_NETWORK: Final = "invalid_network"
INVALID_PAYLOAD: Final = "invalid_payload"
INVALID_PAYMENT_REQUIREMENTS: Final = "invalid_payment_requirements"
INVALID_SCHEME: Final = "invalid_scheme"
UNSUPPORTED_SCHEME: Final = "unsupported_scheme"
INVALID_X402_VERSION: Final = "invalid_x402_version"
INVALID_TRANSACTION_STATE: Final = "invalid_transaction_state"
UNEXPECTED_VERIFY_ERROR: Final = "unexpected_verify_error"
UNEXPECTED_SETTLE_ERROR: Final = "unexpected_settle_error"

SPECIFICATION: Final = frozenset(
    {
        INSUFFICIENT_FUNDS,
        VALID_AFTER,
        VALID_BEFORE,
        VALUE,
        SIGNATURE,
        RECIPIENT_MISMATCH,
        INVALID_NETWORK,
        INVALID_PAYLOAD,
        INVALID_PAYMENT_REQUIREMENTS,
        INVALID_SCHEME,
        UNSUPPORTED_SCHEME,
        INVALID_X402_VERSION,
        INVALID_TRANSACTION_STATE,
        UNEXPECTED_VERIFY_ERROR,
        UNEXPECTED_SETTLE_ERROR,
    }
)

# Said by the SDK and by facilitators, without a word for it in the specification.
NONCE_ALREADY_USED: Final = "invalid_exact_evm_nonce_already_used"
SETTLEMENT_PENDING: Final = "settlement_pending"

# Of payments by Permit2, as the SDK's facilitators say them.
PERMIT2_SPENDER: Final = "invalid_permit2_spender"
PERMIT2_RECIPIENT: Final = "invalid_permit2_recipient_mismatch"
PERMIT2_DEADLINE: Final = "permit2_deadline_expired"
PERMIT2_NOT_YET_VALID: Final = "permit2_not_yet_valid"
PERMIT2_AMOUNT: Final = "permit2_amount_mismatch"
PERMIT2_TOKEN: Final = "permit2_token_mismatch"  # noqa: S105  # a reason code
PERMIT2_SIGNATURE: Final = "invalid_permit2_signature"
PERMIT2_ALLOWANCE: Final = "permit2_allowance_required"

OF_PERMIT2: Final = frozenset(
    {
        PERMIT2_SPENDER,
        PERMIT2_RECIPIENT,
        PERMIT2_DEADLINE,
        PERMIT2_NOT_YET_VALID,
        PERMIT2_AMOUNT,
        PERMIT2_TOKEN,
        PERMIT2_SIGNATURE,
        PERMIT2_ALLOWANCE,
    }
)

_OF_THE_SDK: Final = {
    "invalid_exact_evm_payload_authorization_value_mismatch": VALUE,
    "invalid_exact_evm_insufficient_balance": INSUFFICIENT_FUNDS,
    "network_mismatch": INVALID_NETWORK,
    "transaction_failed": INVALID_TRANSACTION_STATE,
    "invalid_exact_evm_transaction_simulation_failed": INVALID_TRANSACTION_STATE,
    "invalid_exact_evm_failed_to_verify_signature": SIGNATURE,
    "invalid_exact_evm_failed_to_get_network_config": INVALID_NETWORK,
    "permit2_insufficient_balance": INSUFFICIENT_FUNDS,
    "missing_eip712_domain": INVALID_PAYMENT_REQUIREMENTS,
    "invalid_exact_evm_token_name_mismatch": INVALID_PAYMENT_REQUIREMENTS,
    "invalid_exact_evm_token_version_mismatch": INVALID_PAYMENT_REQUIREMENTS,
}


def spec_reason(code: str) -> str:
    """The specification's word for a code of the SDK; any other code unchanged."""
    return _OF_THE_SDK.get(code, code)


# The codes of the sign-in-with-x extension, as the SDK has them.
SIWX_DOMAIN: Final = "invalid_siwx_domain_mismatch"
SIWX_URI: Final = "invalid_siwx_uri_mismatch"
SIWX_ISSUED_AT_IN_FUTURE: Final = "invalid_siwx_issued_at_in_future"
SIWX_EXPIRATION_TIME: Final = "invalid_siwx_expiration_time"
SIWX_EXPIRED: Final = "invalid_siwx_expired"
SIWX_NONCE: Final = "invalid_siwx_nonce"
SIWX_SIGNATURE: Final = "invalid_siwx_signature"
SIWX_CHAIN_ID: Final = "invalid_siwx_chain_id"
SIWX_UNSUPPORTED_CHAIN: Final = "invalid_siwx_unsupported_chain"
