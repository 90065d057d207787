// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Actors} from "./Actors.sol";
import {Fixture} from "./Fixture.sol";

/// @notice What stays true whatever the actors do.
contract InvariantsTest is Fixture {
    Actors private actors;

    /// @dev forge calls the functions of these contracts, and no others.
    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(actors);
    }

    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    function targetSelectors() external view returns (FuzzSelector[] memory targets) {
        bytes4[] memory acts = new bytes4[](5);
        (acts[0], acts[1], acts[2]) = (Actors.pay.selector, Actors.replay.selector, Actors.forge.selector);
        (acts[3], acts[4]) = (Actors.cancel.selector, Actors.wait.selector);
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(actors), acts);
    }

    function setUp() public override {
        super.setUp();
        vm.prank(payer);
        dollar.transfer(payee, 1_000e6);
        actors = new Actors();
        actors.endow();
    }

    /// @dev Each act does what the invariants count on: were nothing ever paid, they would hold as well.
    function test_TheActorsCanAct() public {
        actors.pay(0, 1, 1e6, 0, 0, 11);
        same(actors.captured(), 1);
        same(dollar.balanceOf(actors.accounts(1)), 101e6);
        actors.replay();
        actors.forge(0, 2, 2e6, 1);
        actors.forge(2, 2, 1e6, 1);
        same(actors.captured(), 1);
        actors.cancel(3, 1, 3);
        same(actors.uses(actors.accounts(3), bytes32(uint256(1))), 1);
        actors.wait(5);
        actors.pay(3, 0, 1e6, 2, 0, 11);
        same(actors.captured(), 2);
    }

    function invariant_NoDollarIsMadeOrLost() public view {
        uint256 sum = dollar.balanceOf(payee);
        for (uint256 i = 0; i < actors.COUNT(); i++) {
            sum += dollar.balanceOf(actors.accounts(i));
        }
        same(sum, dollar.totalSupply());
    }

    /// @dev The books know only payments that their payers signed.
    function invariant_BalancesAreWhatWasSigned() public view {
        for (uint256 i = 0; i < actors.COUNT(); i++) {
            same(dollar.balanceOf(actors.accounts(i)), actors.booked(actors.accounts(i)));
        }
    }

    function invariant_ANonceIsUsedAtMostOnceAndTheTokenSaysSo() public view {
        for (uint256 i = 0; i < actors.COUNT(); i++) {
            address account = actors.accounts(i);
            for (uint256 n = 0; n < 6; n++) {
                uint256 uses = actors.uses(account, bytes32(n));
                require(uses <= 1, "used twice");
                require(dollar.authorizationState(account, bytes32(n)) == (uses == 1), "the token says otherwise");
            }
        }
    }
}
