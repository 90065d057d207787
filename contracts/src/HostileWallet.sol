// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";

/// @title A payer that means harm: EIP-1271 answers as an attacker would give them
/// @notice For the tests of whoever asks a wallet whether it signed: cap the gas, cap the time, read 32 bytes, and
/// believe no answer longer than the call that gave it.
contract HostileWallet is IERC1271 {
    enum Mood {
        AcceptAll, // any bytes are a signature: one authorization, endless encodings
        Refuse,
        Revert,
        BurnGas, // never comes to an end
        Flood, // a right answer, followed by a megabyte of nothing
        Short, // the right four bytes without their padding
        OnlyInSimulation // accepts while nobody pays for the gas, refuses in a transaction
    }

    Mood public mood; // slot 0, for who plants it

    function set(Mood next) external {
        mood = next;
    }

    /// @inheritdoc IERC1271
    function isValidSignature(bytes32, bytes calldata) external view returns (bytes4) {
        bytes4 yes = IERC1271.isValidSignature.selector;
        Mood today = mood;
        if (today == Mood.Refuse) return 0xffffffff;
        if (today == Mood.Revert) revert("HostileWallet: no");
        if (today == Mood.OnlyInSimulation && tx.gasprice > 0) return 0xffffffff;
        while (today == Mood.BurnGas) {}
        if (today == Mood.AcceptAll || today == Mood.OnlyInSimulation) return yes;
        uint256 length = today == Mood.Flood ? 0x100000 : 4;
        assembly ("memory-safe") {
            mstore(0x00, yes)
            return(0x00, length)
        }
    }
}
