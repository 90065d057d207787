// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Authorizations} from "../src/Authorizations.sol";
import {HostileWallet} from "../src/HostileWallet.sol";
import {SmartWallet} from "../src/SmartWallet.sol";
import {Fixture} from "./Fixture.sol";

/// @notice A payer with code answers by EIP-1271 and in no other way.
contract ContractPayersTest is Fixture {
    string private constant INVALID = "FiatTokenV2: invalid signature";
    SmartWallet private wallet;
    HostileWallet private hostile;

    function setUp() public override {
        super.setUp();
        wallet = new SmartWallet(payer);
        hostile = new HostileWallet();
        mint(address(wallet), 10e6);
        mint(address(hostile), 10e6);
    }

    function fromContract(address from) private view returns (Authorizations.Authorization memory auth) {
        auth = oneDollar();
        auth.from = from;
    }

    function test_WalletPaysByItsOwnersSignature() public {
        Authorizations.Authorization memory auth = fromContract(address(wallet));
        submit(auth, signed(auth));
        same(dollar.balanceOf(address(wallet)), 9e6);
        same(dollar.balanceOf(payee), 1e6);
    }

    /// @dev As in the real dollar, `v, r, s` is only another way to hand over 65 bytes.
    function test_WalletPaysInTheSplitForm() public {
        Authorizations.Authorization memory auth = fromContract(address(wallet));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(payerKey, transferDigest(auth));
        dollar.transferWithAuthorization(address(wallet), payee, 1e6, 0, NOW + 60, auth.nonce, v, r, s);
        same(dollar.balanceOf(payee), 1e6);
    }

    function test_WalletCancels() public {
        dollar.cancelAuthorization(address(wallet), "n", sign(payerKey, cancelDigest(address(wallet), "n")));
        require(dollar.authorizationState(address(wallet), "n"), "the nonce is not used up");
    }

    function test_ThiefSignsForTheWallet() public {
        Authorizations.Authorization memory auth = fromContract(address(wallet));
        refuse(auth, sign(thiefKey, transferDigest(auth)), INVALID);
    }

    function test_OneOwnersSignatureForTheOtherWallet() public {
        SmartWallet twin = new SmartWallet(payer);
        mint(address(twin), 10e6);
        Authorizations.Authorization memory auth = fromContract(address(wallet));
        bytes memory signature = signed(auth);
        auth.from = address(twin);
        refuse(auth, signature, INVALID);
    }

    function test_MalformedSignatureIsTheWalletsToJudge() public {
        refuse(fromContract(address(wallet)), hex"1234", INVALID);
    }

    /// @dev EIP-7702: the key of a delegated account still recovers, but the delegate is asked, and it says no.
    function test_DelegatedAccountPaysByItsKeyAgainstItsDelegate() public {
        Authorizations.Authorization memory auth = oneDollar();
        bytes memory signature = signed(auth);
        vm.etch(payer, abi.encodePacked(hex"ef0100", address(hostile)));
        HostileWallet(payer).set(HostileWallet.Mood.Refuse);
        refuse(auth, signature, INVALID);
        same(dollar.balanceOf(payee), 0);
        HostileWallet(payer).set(HostileWallet.Mood.AcceptAll);
        submit(auth, "not a signature");
        same(dollar.balanceOf(payee), 1e6);
    }

    /// @dev EIP-7702 to code that knows no EIP-1271: nothing is accepted, not even the account's own key.
    function test_DelegateWithoutAnAnswer() public {
        Authorizations.Authorization memory auth = oneDollar();
        bytes memory signature = signed(auth);
        vm.etch(payer, abi.encodePacked(hex"ef0100", address(dollar)));
        refuse(auth, signature, INVALID);
    }

    function test_DelegatedAccountPaysThroughItsDelegate() public {
        vm.signAndAttachDelegation(address(new SmartWallet(thief)), payerKey);
        Authorizations.Authorization memory auth = oneDollar();
        submit(auth, signed(auth));
        require(payer.code.length == 23, "the account is not delegated");
        same(dollar.balanceOf(payee), 1e6);
    }

    function test_WrongAnswers() public {
        Authorizations.Authorization memory auth = fromContract(address(hostile));
        HostileWallet.Mood[3] memory moods =
            [HostileWallet.Mood.Refuse, HostileWallet.Mood.Revert, HostileWallet.Mood.Short];
        for (uint256 i = 0; i < moods.length; i++) {
            hostile.set(moods[i]);
            refuse(auth, "", INVALID);
        }
        same(dollar.balanceOf(payee), 0);
    }

    /// @dev The wallet may accept anything; its nonce still works once.
    function testFuzz_OneAuthorizationInManyEncodings(bytes memory one, bytes memory two) public {
        Authorizations.Authorization memory auth = fromContract(address(hostile));
        submit(auth, one);
        refuse(auth, two, "FiatTokenV2: authorization is used or canceled");
        same(dollar.balanceOf(payee), 1e6);
    }

    function test_AcceptsInSimulationRefusesInTransaction() public {
        hostile.set(HostileWallet.Mood.OnlyInSimulation);
        Authorizations.Authorization memory auth = fromContract(address(hostile));
        vm.txGasPrice(0);
        same(uint32(hostile.isValidSignature(0, "")), 0x1626ba7e);
        vm.txGasPrice(1);
        refuse(auth, "", INVALID);
    }

    /// @dev A megabyte of answer costs the wallet its memory, and the token only the first word.
    function test_FloodedAnswer() public {
        hostile.set(HostileWallet.Mood.Flood);
        submit(fromContract(address(hostile)), "");
        same(dollar.balanceOf(payee), 1e6);
    }

    /// @dev The 1/64 of the gas that a call keeps back suffices for nothing but to fail, and nothing moves.
    function test_EndlessAnswerEndsWithTheGas() public {
        hostile.set(HostileWallet.Mood.BurnGas);
        Authorizations.Authorization memory a = fromContract(address(hostile));
        bytes memory call = abi.encodeWithSignature(
            "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)",
            a.from,
            a.to,
            a.value,
            a.validAfter,
            a.validBefore,
            a.nonce,
            ""
        );
        (bool ok,) = address(dollar).call{gas: 300_000}(call);
        require(!ok && !dollar.authorizationState(a.from, a.nonce), "an endless answer paid");
    }
}
