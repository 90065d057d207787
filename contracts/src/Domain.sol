// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

/// @title The EIP-712 domain, worked out on each call
/// @notice Nothing is remembered but the name, and that in storage: runtime code planted at an address has no
/// constructor behind it, hence no cached separator and no immutable to be wrong. A fork changes the chain id and
/// with it the domain, so a signature stays on the chain that it was made for.
abstract contract Domain {
    string private _title;

    /// @notice The `version` of the EIP-712 domain.
    function version() public pure returns (string memory) {
        return "2";
    }

    /// @dev EIP-712: over the name, the version, the chain id and this contract.
    function _domainSeparator() internal view returns (bytes32) {
        return MessageHashUtils.toDomainSeparator({
            fields: hex"0f", // EIP-5267: name, version, chainId, verifyingContract; no salt
            name: _title,
            version: version(),
            chainId: block.chainid,
            verifyingContract: address(this),
            salt: 0
        });
    }

    function _domainName() internal view returns (string memory) {
        return _title;
    }

    function _setDomainName(string memory title) internal {
        _title = title;
    }

    /// @dev What is signed (EIP-712): 0x1901, the separator, the hash of the struct.
    function _digest(bytes32 structHash) internal view returns (bytes32) {
        return MessageHashUtils.toTypedDataHash(_domainSeparator(), structHash);
    }
}
