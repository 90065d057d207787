// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {HostileWallet} from "./HostileWallet.sol";

/// @title A factory that means harm, should somebody have allowed it
/// @notice For the tests of whoever lets a signature name a call (ERC-6492): rehearse it, cap its gas, send nothing
/// that does not end in a payment.
contract HostileFactory {
    /// @notice A wallet in the mood that is asked for.
    function create(HostileWallet.Mood mood, bytes32 salt) external returns (address wallet) {
        HostileWallet made = new HostileWallet{salt: salt}();
        made.set(mood);
        return address(made);
    }

    /// @notice Where `create` puts the wallet (EIP-1014).
    function addressOf(bytes32 salt) external view returns (address) {
        bytes32 code = keccak256(type(HostileWallet).creationCode);
        return address(uint160(uint256(keccak256(abi.encodePacked(bytes1(0xff), address(this), salt, code)))));
    }

    /// @notice Never comes to an end.
    function burn() external pure {
        while (true) {}
    }

    /// @notice A megabyte for whoever called.
    function flood() external pure {
        assembly ("memory-safe") {
            return(0x00, 0x100000)
        }
    }

    /// @notice Deploys nothing and says so.
    function refuse() external pure {
        revert("HostileFactory: no");
    }
}
