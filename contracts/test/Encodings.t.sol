// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Authorizations} from "../src/Authorizations.sol";
import {Fixture} from "./Fixture.sol";

/// @notice One signature, one spelling: whoever respells a valid signature is refused.
contract EncodingsTest is Fixture {
    /// @dev Nothing moved and the nonce is still the payer's to use.
    function assertUntouched() private view {
        same(dollar.balanceOf(payer), 1_000e6);
        same(dollar.balanceOf(payee), 0);
        require(!dollar.authorizationState(payer, oneDollar().nonce), "the nonce is used");
    }

    /// @dev ecrecover answers 0 for nonsense, and nonsense must not speak for the zero address.
    function test_NonsenseSpeaksForTheZeroAddress() public {
        Authorizations.Authorization memory auth = oneDollar();
        auth.from = address(0);
        auth.value = 0;
        refuse(auth, abi.encodePacked(uint256(0), uint256(1), uint8(27)), "ECRecover: invalid signature");
    }

    /// @dev The twin (n - s) of a valid signature recovers to the same key and would be a second encoding.
    function test_HighS() public {
        Authorizations.Authorization memory auth = oneDollar();
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(payerKey, transferDigest(auth));
        (v, s) = (v == 27 ? 28 : 27, bytes32(CURVE_ORDER - uint256(s)));
        refuse(auth, abi.encodePacked(r, s, v), "ECRecover: invalid signature 's' value");
        refused("ECRecover: invalid signature 's' value");
        dollar.transferWithAuthorization(payer, payee, 1e6, 0, NOW + 60, auth.nonce, v, r, s);
        assertUntouched();
    }

    function testFuzz_UncommonV(uint8 v) public {
        vm.assume(v != 27 && v != 28);
        Authorizations.Authorization memory auth = oneDollar();
        (, bytes32 r, bytes32 s) = vm.sign(payerKey, transferDigest(auth));
        refuse(auth, abi.encodePacked(r, s, v), "ECRecover: invalid signature 'v' value");
        assertUntouched();
    }

    /// @dev Neither EIP-2098's 64 bytes nor a tail of rubbish are another way to write a signature.
    function testFuzz_UncommonLength(bytes memory signature) public {
        vm.assume(signature.length != 65);
        refuse(oneDollar(), signature, "ECRecover: invalid signature length");
        Authorizations.Authorization memory auth = oneDollar();
        refuse(auth, bytes.concat(signed(auth), hex"00"), "ECRecover: invalid signature length");
        assertUntouched();
    }
}
