// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SmartWallet} from "./SmartWallet.sol";

/// @title A factory of wallets at addresses that are known before the wallets are there
/// @notice What ERC-6492 is for: a wallet is paid into, signs, and is deployed with its first payment.
contract WalletFactory {
    /// @notice The owner's wallet with this salt, deployed unless it is there.
    function create(address owner, bytes32 salt) external returns (address wallet) {
        wallet = addressOf(owner, salt);
        if (wallet.code.length == 0) new SmartWallet{salt: salt}(owner);
    }

    /// @notice Where that wallet is, or will be (EIP-1014).
    function addressOf(address owner, bytes32 salt) public view returns (address) {
        bytes32 code = keccak256(abi.encodePacked(type(SmartWallet).creationCode, abi.encode(owner)));
        return address(uint160(uint256(keccak256(abi.encodePacked(bytes1(0xff), address(this), salt, code)))));
    }
}
