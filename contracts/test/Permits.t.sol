// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SmartWallet} from "../src/SmartWallet.sol";
import {Fixture} from "./Fixture.sol";

/// @notice EIP-2612.
contract PermitsTest is Fixture {
    address private constant spender = address(0x5BE2D);

    function permitDigest(address holder, uint256 value, uint256 nonce, uint256 deadline)
        private
        view
        returns (bytes32)
    {
        return digest(keccak256(abi.encode(dollar.PERMIT_TYPEHASH(), holder, spender, value, nonce, deadline)));
    }

    function test_PermitInBothForms() public {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(payerKey, permitDigest(payer, 5e6, 0, NOW));
        dollar.permit(payer, spender, 5e6, NOW, v, r, s);
        same(dollar.allowance(payer, spender), 5e6);
        dollar.permit(payer, spender, 7e6, NOW, sign(payerKey, permitDigest(payer, 7e6, 1, NOW)));
        same(dollar.allowance(payer, spender), 7e6);
        same(dollar.nonces(payer), 2);
    }

    function test_WalletPermits() public {
        SmartWallet wallet = new SmartWallet(payer);
        dollar.permit(address(wallet), spender, 1, NOW, sign(payerKey, permitDigest(address(wallet), 1, 0, NOW)));
        same(dollar.allowance(address(wallet), spender), 1);
    }

    function test_Replay() public {
        bytes memory signature = sign(payerKey, permitDigest(payer, 5e6, 0, NOW));
        dollar.permit(payer, spender, 5e6, NOW, signature);
        refused("EIP2612: invalid signature");
        dollar.permit(payer, spender, 5e6, NOW, signature);
    }

    function test_NonceSkipped() public {
        bytes memory signature = sign(payerKey, permitDigest(payer, 5e6, 1, NOW));
        refused("EIP2612: invalid signature");
        dollar.permit(payer, spender, 5e6, NOW, signature);
        same(dollar.nonces(payer), 0);
    }

    function test_SignedByAnother() public {
        bytes memory signature = sign(thiefKey, permitDigest(payer, 5e6, 0, NOW));
        refused("EIP2612: invalid signature");
        dollar.permit(payer, spender, 5e6, NOW, signature);
    }

    function test_TooLate() public {
        bytes memory signature = sign(payerKey, permitDigest(payer, 5e6, 0, NOW - 1));
        refused("FiatTokenV2: permit is expired");
        dollar.permit(payer, spender, 5e6, NOW - 1, signature);
    }

    function testFuzz_ValueChanged(uint256 signedValue, uint256 value) public {
        vm.assume(signedValue != value);
        bytes memory signature = sign(payerKey, permitDigest(payer, signedValue, 0, NOW));
        refused("EIP2612: invalid signature");
        dollar.permit(payer, spender, value, NOW, signature);
    }
}
