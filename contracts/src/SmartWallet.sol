// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// @title A wallet that is a contract: one key owns it
/// @notice Planted without a constructor (or delegated to by EIP-7702) it has no owner in storage and answers to
/// the key of its own address, which only a delegated account has.
/// @dev The owner signs the bare digest. That is safe for EIP-3009 and EIP-2612, whose structs name the payer; a
/// wallet for real money binds the digest to itself as well.
contract SmartWallet is IERC1271 {
    address private _owner; // slot 0, for who plants it

    constructor(address newOwner) {
        _owner = newOwner;
    }

    receive() external payable {}

    /// @notice Whose signature counts.
    function owner() public view returns (address) {
        return _owner == address(0) ? address(this) : _owner;
    }

    /// @notice EIP-1271: 0x1626ba7e for the owner's signature, anything else for every other.
    function isValidSignature(bytes32 hash, bytes calldata signature) external view returns (bytes4) {
        (address recovered,,) = ECDSA.tryRecoverCalldata(hash, signature);
        return recovered == owner() ? IERC1271.isValidSignature.selector : bytes4(0xffffffff);
    }

    /// @notice Calls `target` as the wallet and hands back its answer, or its revert.
    function execute(address target, uint256 value, bytes calldata data) external payable returns (bytes memory) {
        require(msg.sender == owner(), "SmartWallet: caller is not the owner");
        (bool ok, bytes memory answer) = target.call{value: value}(data);
        if (!ok) {
            assembly ("memory-safe") {
                revert(add(answer, 0x20), mload(answer))
            }
        }
        return answer;
    }
}
