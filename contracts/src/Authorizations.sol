// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC3009, IERC3009Cancel} from "@openzeppelin/contracts/interfaces/draft-IERC3009.sol";

import {Domain} from "./Domain.sol";
import {FiatERC20} from "./FiatERC20.sol";
import {IAuthorizations} from "./IAuthorizations.sol";
import {Signatures} from "./Signatures.sol";

/// @title EIP-3009: transfers by signature, each nonce once
abstract contract Authorizations is FiatERC20, Domain, IAuthorizations {
    /// @dev What the payer signs, in the order of the EIP-712 type; hashed as it lies in memory.
    struct Authorization {
        address from;
        address to;
        uint256 value;
        uint256 validAfter;
        uint256 validBefore;
        bytes32 nonce;
    }

    bytes32 public constant TRANSFER_WITH_AUTHORIZATION_TYPEHASH = keccak256(
        "TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
    );
    bytes32 public constant RECEIVE_WITH_AUTHORIZATION_TYPEHASH = keccak256(
        "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
    );
    bytes32 public constant CANCEL_AUTHORIZATION_TYPEHASH =
        keccak256("CancelAuthorization(address authorizer,bytes32 nonce)");

    /// @notice True for a nonce that was used and for one that was cancelled: the logs tell which.
    mapping(address authorizer => mapping(bytes32 nonce => bool)) public override authorizationState;

    /// @inheritdoc IERC3009
    function transferWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external {
        Authorization memory auth = Authorization(from, to, value, validAfter, validBefore, nonce);
        _capture(TRANSFER_WITH_AUTHORIZATION_TYPEHASH, auth, Signatures.join(v, r, s));
    }

    /// @inheritdoc IAuthorizations
    function transferWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes memory signature
    ) external {
        Authorization memory auth = Authorization(from, to, value, validAfter, validBefore, nonce);
        _capture(TRANSFER_WITH_AUTHORIZATION_TYPEHASH, auth, signature);
    }

    /// @inheritdoc IERC3009
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external {
        Authorization memory auth = Authorization(from, to, value, validAfter, validBefore, nonce);
        _receive(auth, Signatures.join(v, r, s));
    }

    /// @inheritdoc IAuthorizations
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes memory signature
    ) external {
        _receive(Authorization(from, to, value, validAfter, validBefore, nonce), signature);
    }

    /// @inheritdoc IERC3009Cancel
    function cancelAuthorization(address authorizer, bytes32 nonce, uint8 v, bytes32 r, bytes32 s) external {
        _cancel(authorizer, nonce, Signatures.join(v, r, s));
    }

    /// @inheritdoc IAuthorizations
    function cancelAuthorization(address authorizer, bytes32 nonce, bytes memory signature) external {
        _cancel(authorizer, nonce, signature);
    }

    /// @dev EIP-3009: `receive…` is for contracts that act on the payment, so only the payee may submit it.
    function _receive(Authorization memory auth, bytes memory signature) private {
        require(auth.to == msg.sender, "FiatTokenV2: caller must be the payee");
        _capture(RECEIVE_WITH_AUTHORIZATION_TYPEHASH, auth, signature);
    }

    /// @dev Clock, nonce, signature, then the effect; the log of the nonce directly before that of the money.
    function _capture(bytes32 typehash, Authorization memory auth, bytes memory signature)
        private
        whenNotPaused
        notBlacklisted(auth.from)
        notBlacklisted(auth.to)
    {
        // EIP-3009: both bounds are outside the window, and both are seconds whatever their high bits say.
        require(block.timestamp > auth.validAfter, "FiatTokenV2: authorization is not yet valid");
        require(block.timestamp < auth.validBefore, "FiatTokenV2: authorization is expired");
        _spend(auth.from, auth.nonce, keccak256(abi.encode(typehash, auth)), signature);
        emit AuthorizationUsed(auth.from, auth.nonce);
        _move(auth.from, auth.to, auth.value);
    }

    /// @dev EIP-3009 gives a cancellation no clock; a blocked account may still withdraw what it signed.
    function _cancel(address authorizer, bytes32 nonce, bytes memory signature) private whenNotPaused {
        _spend(authorizer, nonce, keccak256(abi.encode(CANCEL_AUTHORIZATION_TYPEHASH, authorizer, nonce)), signature);
        emit AuthorizationCanceled(authorizer, nonce);
    }

    function _spend(address authorizer, bytes32 nonce, bytes32 structHash, bytes memory signature) private {
        require(!authorizationState[authorizer][nonce], "FiatTokenV2: authorization is used or canceled");
        require(Signatures.isValid(authorizer, _digest(structHash), signature), "FiatTokenV2: invalid signature");
        authorizationState[authorizer][nonce] = true;
    }
}
