// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Authorizations} from "../src/Authorizations.sol";
import {Fixture} from "./Fixture.sol";
import {Vm} from "./Vm.sol";

/// @notice The issuer's powers, and EIP-20's ordinary refusals, in the words that clients know.
contract ControlsTest is Fixture {
    string private constant PAUSED = "Pausable: paused";
    string private constant BLOCKED = "Blacklistable: account is blacklisted";
    string private constant NOT_OWNER = "Ownable: caller is not the owner";

    function block_(address account) private {
        vm.prank(issuer);
        dollar.blacklist(account);
    }

    /// @dev Every door, with the same refusal behind it.
    function allRefuse(string memory reason) private {
        Authorizations.Authorization memory auth = oneDollar();
        refuse(auth, signed(auth), reason);
        vm.prank(payer);
        refused(reason);
        dollar.transfer(payee, 1);
        vm.prank(payer);
        refused(reason);
        dollar.approve(payee, 1);
        vm.prank(thief);
        refused(reason);
        dollar.transferFrom(payer, payee, 0);
        refused(reason);
        dollar.permit(payer, payee, 1, NOW, "");
    }

    function test_PauseStopsEverything() public {
        vm.prank(issuer);
        dollar.pause();
        allRefuse(PAUSED);
        refused(PAUSED);
        dollar.cancelAuthorization(payer, "n", "");
        vm.prank(issuer);
        refused(PAUSED);
        dollar.mint(payer, 1);

        vm.prank(issuer);
        dollar.unpause();
        Authorizations.Authorization memory auth = oneDollar();
        submit(auth, signed(auth));
        same(dollar.balanceOf(payee), 1e6);
    }

    function test_BlockedPayer() public {
        block_(payer);
        allRefuse(BLOCKED);
        vm.prank(issuer);
        refused(BLOCKED);
        dollar.mint(payer, 1);
        // What it signed it may still withdraw.
        dollar.cancelAuthorization(payer, "n", sign(payerKey, cancelDigest(payer, "n")));
    }

    function test_BlockedPayee() public {
        block_(payee);
        allRefuse(BLOCKED);
        vm.prank(issuer);
        dollar.unBlacklist(payee);
        Authorizations.Authorization memory auth = oneDollar();
        submit(auth, signed(auth));
        same(dollar.balanceOf(payee), 1e6);
    }

    function test_BlockedSpender() public {
        block_(thief);
        vm.prank(thief);
        refused(BLOCKED);
        dollar.transferFrom(payer, payee, 0);
    }

    function test_ThiefPlaysTheIssuer() public {
        bytes[5] memory calls = [
            abi.encodeCall(dollar.pause, ()),
            abi.encodeCall(dollar.unpause, ()),
            abi.encodeCall(dollar.blacklist, (payer)),
            abi.encodeCall(dollar.unBlacklist, (thief)),
            abi.encodeCall(dollar.mint, (thief, 1e12))
        ];
        for (uint256 i = 0; i < calls.length; i++) {
            vm.prank(thief);
            (bool ok, bytes memory reason) = address(dollar).call(calls[i]);
            require(!ok, "the thief got through");
            same(keccak256(reason), keccak256(revertData(NOT_OWNER)));
        }
    }

    function test_PowersLeaveTraces() public {
        vm.recordLogs();
        block_(payer);
        require(dollar.isBlacklisted(payer), "not blocked");
        vm.prank(issuer);
        dollar.unBlacklist(payer);
        require(!dollar.isBlacklisted(payer), "still blocked");
        vm.prank(issuer);
        dollar.pause();
        require(dollar.paused(), "not paused");
        vm.prank(issuer);
        dollar.unpause();
        Vm.Log[] memory logs = vm.getRecordedLogs();
        same(logs.length, 4);
        same(logs[0].topics[0], keccak256("Blacklisted(address)"));
        same(logs[1].topics[0], keccak256("UnBlacklisted(address)"));
        same(logs[2].topics[0], keccak256("Pause()"));
        same(logs[3].topics[0], keccak256("Unpause()"));
    }

    function test_MintRefusals() public {
        vm.prank(issuer);
        refused("FiatToken: mint to the zero address");
        dollar.mint(address(0), 1);
        vm.prank(issuer);
        refused("FiatToken: mint amount not greater than 0");
        dollar.mint(payer, 0);
    }
}
