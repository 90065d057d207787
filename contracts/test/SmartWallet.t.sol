// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SmartWallet} from "../src/SmartWallet.sol";
import {Fixture} from "./Fixture.sol";

/// @notice The wallet by itself: EIP-1271 and execute.
contract SmartWalletTest is Fixture {
    bytes4 private constant YES = 0x1626ba7e;
    bytes4 private constant NO = 0xffffffff;
    SmartWallet private wallet;

    function setUp() public override {
        super.setUp();
        wallet = new SmartWallet(payer);
    }

    function testFuzz_OnlyTheOwnersSignatureCounts(bytes32 hash, bytes32 other) public view {
        vm.assume(hash != other);
        same(wallet.owner(), payer);
        same(wallet.isValidSignature(hash, sign(payerKey, hash)), YES);
        same(wallet.isValidSignature(other, sign(payerKey, hash)), NO);
        same(wallet.isValidSignature(hash, sign(thiefKey, hash)), NO);
    }

    function testFuzz_RubbishIsNotASignature(bytes32 hash, bytes memory rubbish) public view {
        same(wallet.isValidSignature(hash, rubbish), NO);
    }

    /// @dev ecrecover's 0 must not make an ownerless wallet everybody's.
    function test_PlantedWithoutAnOwner() public {
        vm.etch(address(0x1234), type(SmartWallet).runtimeCode);
        SmartWallet orphan = SmartWallet(payable(address(0x1234)));
        same(orphan.owner(), address(0x1234));
        same(orphan.isValidSignature("hash", ""), NO);
        same(orphan.isValidSignature("hash", abi.encodePacked(uint256(0), uint256(1), uint8(27))), NO);
        vm.store(address(orphan), 0, bytes32(uint256(uint160(payer))));
        same(orphan.isValidSignature("hash", sign(payerKey, "hash")), YES);
    }

    function test_OwnerExecutes() public {
        mint(address(wallet), 3);
        vm.prank(payer);
        bytes memory answer = wallet.execute(address(dollar), 0, abi.encodeCall(dollar.transfer, (payee, 2)));
        require(abi.decode(answer, (bool)), "no answer");
        same(dollar.balanceOf(payee), 2);
    }

    function test_ValueGoesAlong() public {
        (bool ok,) = address(wallet).call{value: 5}("");
        require(ok, "the wallet takes no ether");
        vm.prank(payer);
        wallet.execute(payee, 5, "");
        same(payee.balance, 5);
    }

    function test_RefusalsComeThroughWordForWord() public {
        vm.prank(payer);
        refused("ERC20: transfer amount exceeds balance");
        wallet.execute(address(dollar), 0, abi.encodeCall(dollar.transfer, (payee, 1)));
    }

    function test_ThiefExecutes() public {
        mint(address(wallet), 3);
        vm.prank(thief);
        refused("SmartWallet: caller is not the owner");
        wallet.execute(address(dollar), 0, abi.encodeCall(dollar.transfer, (thief, 3)));
    }
}
