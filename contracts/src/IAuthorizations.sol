// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC3009, IERC3009Cancel} from "@openzeppelin/contracts/interfaces/draft-IERC3009.sol";

/// @title Transfers that the payer signs and anybody may submit
/// @notice EIP-3009 as written (signature as `v, r, s`), plus the forms that take the signature as `bytes`, which
/// is what a contract payer needs: an EIP-1271 signature has any length.
/// @dev `validAfter` and `validBefore` are seconds of the block clock and nothing else (EIP-3009). OpenZeppelin's
/// draft reads bit 47 of the pair as "these are block numbers"; here such a value is merely a date far away.
interface IAuthorizations is IERC3009, IERC3009Cancel {
    /// @notice Moves `value` from `from` to `to`; anybody may submit it.
    /// @param validAfter The first second at which it is still too early.
    /// @param validBefore The first second at which it is too late.
    /// @param nonce 32 bytes chosen by the payer; in no order, each usable once per payer.
    /// @param signature 65 bytes `r, s, v` of an externally owned payer, or whatever a contract payer accepts.
    function transferWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes memory signature
    ) external;

    /// @notice The same, but only the payee may submit it, so nobody can take the call out of its context.
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes memory signature
    ) external;

    /// @notice Uses the nonce up without moving anything; anybody may submit it.
    function cancelAuthorization(address authorizer, bytes32 nonce, bytes memory signature) external;
}
