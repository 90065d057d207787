// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Authorizations} from "../src/Authorizations.sol";
import {HostileFactory} from "../src/HostileFactory.sol";
import {HostileWallet} from "../src/HostileWallet.sol";
import {Multicall} from "../src/Multicall.sol";
import {SmartWallet} from "../src/SmartWallet.sol";
import {WalletFactory} from "../src/WalletFactory.sol";
import {Fixture} from "./Fixture.sol";

/// @notice Wallets that are deployed with their first payment.
contract FactoriesTest is Fixture {
    WalletFactory private factory;
    Multicall private together;

    function setUp() public override {
        super.setUp();
        factory = new WalletFactory();
        together = new Multicall();
    }

    function testFuzz_WalletsComeWhereTheyWereForetold(address owner, bytes32 salt) public {
        address expected = factory.addressOf(owner, salt);
        same(expected.code.length, 0);
        same(factory.create(owner, salt), expected);
        require(expected.code.length > 0, "no wallet");
        same(factory.create(owner, salt), expected);
        if (owner != address(0)) same(SmartWallet(payable(expected)).owner(), owner);
    }

    function test_AHostileWalletIsInItsMood() public {
        HostileFactory hostile = new HostileFactory();
        address wallet = hostile.create(HostileWallet.Mood.Refuse, "salt");
        same(wallet, hostile.addressOf("salt"));
        same(HostileWallet(wallet).isValidSignature("", ""), bytes4(0xffffffff));
    }

    function test_AWalletPaysInTheCallThatDeploysIt() public {
        Authorizations.Authorization memory auth = oneDollar();
        auth.from = factory.addressOf(payer, "salt");
        mint(auth.from, 1e6);
        Multicall.Result[] memory results = together.aggregate3(calls(auth, signed(auth)));
        require(results[0].success && results[1].success, "a call failed");
        same(dollar.balanceOf(payee), 1e6);
    }

    function test_WithoutThePaymentThereIsNoWallet() public {
        Authorizations.Authorization memory auth = oneDollar();
        auth.from = factory.addressOf(payer, "salt");
        Multicall.Call3[] memory made = calls(auth, signed(auth));
        refused("Multicall3: call failed");
        together.aggregate3(made);
        same(auth.from.code.length, 0);
    }

    function calls(Authorizations.Authorization memory auth, bytes memory signature)
        private
        view
        returns (Multicall.Call3[] memory made)
    {
        made = new Multicall.Call3[](2);
        made[0] = Multicall.Call3(address(factory), true, abi.encodeCall(factory.create, (payer, "salt")));
        bytes memory pay = abi.encodeWithSignature(
            "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)",
            auth.from,
            auth.to,
            auth.value,
            auth.validAfter,
            auth.validBefore,
            auth.nonce,
            signature
        );
        made[1] = Multicall.Call3(address(dollar), false, pay);
    }
}
