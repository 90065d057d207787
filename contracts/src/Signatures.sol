// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";

/// @title Who signed this digest?
/// @notice An account with code answers for itself (EIP-1271); one without code answers with its key (EIP-2 form).
library Signatures {
    /// @notice Whether `signature` is `signer`'s over `digest`; a malformed key signature reverts with the reason.
    /// @dev Code decides, and decides alone: an account delegated by EIP-7702 has code, so its own key counts for
    /// nothing unless its delegate says so. There is no second try.
    function isValid(address signer, bytes32 digest, bytes memory signature) internal view returns (bool) {
        if (signer.code.length > 0) {
            return SignatureChecker.isValidERC1271SignatureNow(signer, digest, signature);
        }
        (address recovered, ECDSA.RecoverError fault,) = ECDSA.tryRecover(digest, signature);
        require(fault != ECDSA.RecoverError.InvalidSignatureLength, "ECRecover: invalid signature length");
        // EIP-2: of the two signatures (s and n - s) that the curve offers, only the lower is one.
        require(fault != ECDSA.RecoverError.InvalidSignatureS, "ECRecover: invalid signature 's' value");
        uint8 v = uint8(signature[64]);
        require(v == 27 || v == 28, "ECRecover: invalid signature 'v' value");
        require(fault != ECDSA.RecoverError.InvalidSignature, "ECRecover: invalid signature");
        return recovered == signer;
    }

    /// @notice The 65 bytes that stand for `v, r, s`.
    function join(uint8 v, bytes32 r, bytes32 s) internal pure returns (bytes memory) {
        return abi.encodePacked(r, s, v);
    }
}
