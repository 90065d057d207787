// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Authorizations} from "../src/Authorizations.sol";
import {Fixture} from "./Fixture.sol";
import {Vm} from "./Vm.sol";

/// @notice What EIP-3009 promises to the honest.
contract AuthorizationsTest is Fixture {
    bytes32 private constant USED = keccak256("AuthorizationUsed(address,bytes32)");
    bytes32 private constant CANCELED = keccak256("AuthorizationCanceled(address,bytes32)");
    bytes32 private constant TRANSFER = keccak256("Transfer(address,address,uint256)");

    function split(bytes memory signature) private pure returns (uint8 v, bytes32 r, bytes32 s) {
        assembly {
            r := mload(add(signature, 0x20))
            s := mload(add(signature, 0x40))
            v := byte(0, mload(add(signature, 0x60)))
        }
    }

    function paid(uint256 value) private view {
        same(dollar.balanceOf(payer), 1_000e6 - value);
        same(dollar.balanceOf(payee), value);
    }

    function test_AnybodySubmitsTheBytesForm() public {
        Authorizations.Authorization memory auth = oneDollar();
        submit(auth, signed(auth));
        paid(1e6);
        require(dollar.authorizationState(payer, auth.nonce), "the nonce is not used");
    }

    function test_AnybodySubmitsTheSplitForm() public {
        Authorizations.Authorization memory auth = oneDollar();
        (uint8 v, bytes32 r, bytes32 s) = split(signed(auth));
        dollar.transferWithAuthorization(payer, payee, 1e6, 0, NOW + 60, auth.nonce, v, r, s);
        paid(1e6);
    }

    function test_LogOfTheNonceThenLogOfTheMoney() public {
        Authorizations.Authorization memory auth = oneDollar();
        bytes memory signature = signed(auth);
        vm.recordLogs();
        submit(auth, signature);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        same(logs.length, 2);
        same(logs[0].topics[0], USED);
        same(logs[0].topics[1], bytes32(uint256(uint160(payer))));
        same(logs[0].topics[2], auth.nonce);
        same(logs[0].data.length, 0);
        same(logs[1].topics[0], TRANSFER);
        same(logs[1].topics[1], bytes32(uint256(uint160(payer))));
        same(logs[1].topics[2], bytes32(uint256(uint160(payee))));
        same(abi.decode(logs[1].data, (uint256)), 1e6);
    }

    function test_PayeeReceivesInBothForms() public {
        Authorizations.Authorization memory auth = oneDollar();
        bytes32 hash = digest(keccak256(abi.encode(dollar.RECEIVE_WITH_AUTHORIZATION_TYPEHASH(), auth)));
        vm.prank(payee);
        dollar.receiveWithAuthorization(payer, payee, 1e6, 0, NOW + 60, auth.nonce, sign(payerKey, hash));
        paid(1e6);

        auth.nonce = keccak256("another");
        hash = digest(keccak256(abi.encode(dollar.RECEIVE_WITH_AUTHORIZATION_TYPEHASH(), auth)));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(payerKey, hash);
        vm.prank(payee);
        dollar.receiveWithAuthorization(payer, payee, 1e6, 0, NOW + 60, auth.nonce, v, r, s);
        paid(2e6);
    }

    function test_CancellationUsesTheNonceUpAndMovesNothing() public {
        Authorizations.Authorization memory auth = oneDollar();
        bytes memory cancellation = sign(payerKey, cancelDigest(payer, auth.nonce));
        vm.recordLogs();
        dollar.cancelAuthorization(payer, auth.nonce, cancellation);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        same(logs.length, 1);
        same(logs[0].topics[0], CANCELED);
        same(logs[0].topics[1], bytes32(uint256(uint160(payer))));
        same(logs[0].topics[2], auth.nonce);
        require(dollar.authorizationState(payer, auth.nonce), "the nonce is not used up");
        refuse(auth, signed(auth), "FiatTokenV2: authorization is used or canceled");
        paid(0);
    }

    function test_CancellationInTheSplitForm() public {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(payerKey, cancelDigest(payer, "n"));
        dollar.cancelAuthorization(payer, "n", v, r, s);
        require(dollar.authorizationState(payer, "n"), "the nonce is not used up");
        refused("FiatTokenV2: authorization is used or canceled");
        dollar.cancelAuthorization(payer, "n", v, r, s);
    }

    function test_NoncesComeInAnyOrderAndBelongToTheirPayer() public {
        Authorizations.Authorization memory auth = oneDollar();
        for (uint256 i = 9; i > 0; i -= 3) {
            auth.nonce = bytes32(i);
            submit(auth, signed(auth));
        }
        paid(3e6);
        require(!dollar.authorizationState(payee, bytes32(uint256(9))), "a nonce leaked to another payer");
    }

    function test_ZeroAndSelfArePaymentsToo() public {
        Authorizations.Authorization memory auth = oneDollar();
        auth.value = 0;
        submit(auth, signed(auth));
        auth.value = 1e6;
        auth.to = payer;
        auth.nonce = "self";
        submit(auth, signed(auth));
        paid(0);
    }

    /// @dev EIP-3009: validAfter < now < validBefore, both strictly.
    function testFuzz_WindowExcludesItsBounds(uint256 validAfter, uint256 validBefore) public {
        Authorizations.Authorization memory auth = oneDollar();
        (auth.validAfter, auth.validBefore) = (validAfter, validBefore);
        bytes memory signature = signed(auth);
        if (validAfter >= NOW) refused("FiatTokenV2: authorization is not yet valid");
        else if (validBefore <= NOW) refused("FiatTokenV2: authorization is expired");
        submit(auth, signature);
        same(dollar.balanceOf(payee), validAfter < NOW && NOW < validBefore ? 1e6 : 0);
    }

    function test_WindowAtItsEdges() public {
        testFuzz_WindowExcludesItsBounds(NOW, NOW + 60);
        testFuzz_WindowExcludesItsBounds(0, NOW);
        testFuzz_WindowExcludesItsBounds(NOW - 1, NOW + 1);
    }

    /// @dev Where OpenZeppelin's draft sees bit 47 on both sides it compares block numbers; seconds are meant.
    function test_HighBitsAreDatesFarAwayNotBlockNumbers() public {
        uint256 flag = 1 << 47;
        testFuzz_WindowExcludesItsBounds(flag, flag + 1_000_000);
        testFuzz_WindowExcludesItsBounds(type(uint256).max, type(uint256).max);
        testFuzz_WindowExcludesItsBounds(0, flag);
    }
}
