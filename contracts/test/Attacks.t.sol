// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Authorizations} from "../src/Authorizations.sol";
import {TestDollar} from "../src/TestDollar.sol";
import {Fixture} from "./Fixture.sol";

/// @notice What EIP-3009 promises against the others; each test is named for what the attacker tries.
contract AttacksTest is Fixture {
    string private constant INVALID = "FiatTokenV2: invalid signature";

    /// @dev Nothing moved and the nonce is still the payer's to use.
    function assertUntouched() private view {
        same(dollar.balanceOf(payer), 1_000e6);
        same(dollar.balanceOf(payee), 0);
        require(!dollar.authorizationState(payer, oneDollar().nonce), "the nonce is used");
    }

    function test_Replay() public {
        Authorizations.Authorization memory auth = oneDollar();
        bytes memory signature = signed(auth);
        submit(auth, signature);
        refuse(auth, signature, "FiatTokenV2: authorization is used or canceled");
        same(dollar.balanceOf(payee), 1e6);
    }

    /// @dev A fresh signature does not free a used nonce, whatever it is for.
    function testFuzz_NonceReusedForAnotherPayment(address to, uint96 value) public {
        vm.assume(to != address(0));
        Authorizations.Authorization memory auth = oneDollar();
        submit(auth, signed(auth));
        auth.to = to;
        auth.value = value;
        refuse(auth, signed(auth), "FiatTokenV2: authorization is used or canceled");
    }

    /// @dev Every field is under the signature.
    function testFuzz_FieldChanged(uint256 field, uint256 change) public {
        Authorizations.Authorization memory auth = oneDollar();
        bytes memory signature = signed(auth);
        vm.assume(change != 0);
        field %= 4;
        if (field == 0) auth.to = address(uint160(auth.to) ^ uint160(change | 1));
        if (field == 1) auth.value ^= change;
        if (field == 2) auth.validAfter = 1 + change % (NOW - 1);
        if (field == 3) auth.nonce ^= bytes32(change);
        refuse(auth, signature, INVALID);
        assertUntouched();
    }

    function testFuzz_WindowStretched(uint32 longer) public {
        Authorizations.Authorization memory auth = oneDollar();
        bytes memory signature = signed(auth);
        auth.validBefore += 1 + uint256(longer);
        refuse(auth, signature, INVALID);
        assertUntouched();
    }

    function testFuzz_SignedByAnother(uint256 key) public {
        key = 1 + key % (CURVE_ORDER - 1);
        vm.assume(key != payerKey);
        Authorizations.Authorization memory auth = oneDollar();
        refuse(auth, sign(key, transferDigest(auth)), INVALID);
        assertUntouched();
    }

    function test_SignatureForAnotherPayer() public {
        Authorizations.Authorization memory auth = oneDollar();
        bytes memory signature = signed(auth);
        auth.from = thief;
        refuse(auth, signature, INVALID);
    }

    function test_SignatureFromAnotherChain() public {
        Authorizations.Authorization memory auth = oneDollar();
        bytes memory signature = signed(auth);
        vm.chainId(84532);
        refuse(auth, signature, INVALID);
    }

    function test_SignatureForAnotherToken() public {
        Authorizations.Authorization memory auth = oneDollar();
        bytes memory signature = signed(auth);
        TestDollar other = new TestDollar();
        other.initialize("USD Coin", issuer);
        refused(INVALID);
        other.transferWithAuthorization(payer, payee, 1e6, 0, NOW + 60, auth.nonce, signature);
    }

    function test_TransferSubmittedAsReceipt() public {
        Authorizations.Authorization memory auth = oneDollar();
        bytes memory signature = signed(auth);
        refused(INVALID);
        vm.prank(payee);
        dollar.receiveWithAuthorization(payer, payee, 1e6, 0, NOW + 60, auth.nonce, signature);
        assertUntouched();
    }

    function test_ReceiptTakenOutOfThePayeesHands() public {
        Authorizations.Authorization memory auth = oneDollar();
        bytes32 hash = digest(keccak256(abi.encode(dollar.RECEIVE_WITH_AUTHORIZATION_TYPEHASH(), auth)));
        bytes memory signature = sign(payerKey, hash);
        refused("FiatTokenV2: caller must be the payee");
        vm.prank(thief);
        dollar.receiveWithAuthorization(payer, payee, 1e6, 0, NOW + 60, auth.nonce, signature);
        refuse(auth, signature, INVALID);
        assertUntouched();
    }

    function test_CancelledByAnother() public {
        bytes32 nonce = oneDollar().nonce;
        bytes memory signature = sign(thiefKey, cancelDigest(payer, nonce));
        refused(INVALID);
        dollar.cancelAuthorization(payer, nonce, signature);
        assertUntouched();
    }

    /// @dev The nonce survives a payment that the balance did not cover: all or nothing.
    function test_MoreThanTheBalance() public {
        Authorizations.Authorization memory auth = oneDollar();
        auth.value = 1_000e6 + 1;
        refuse(auth, signed(auth), "ERC20: transfer amount exceeds balance");
        assertUntouched();
    }

    function test_MoneyBurnedAtTheZeroAddress() public {
        Authorizations.Authorization memory auth = oneDollar();
        auth.to = address(0);
        refuse(auth, signed(auth), "ERC20: transfer to the zero address");
        assertUntouched();
    }
}
