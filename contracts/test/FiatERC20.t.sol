// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Fixture} from "./Fixture.sol";
import {Vm} from "./Vm.sol";

/// @notice EIP-20, with the real dollar's refusals.
contract FiatERC20Test is Fixture {
    function testFuzz_Transfer(uint256 value) public {
        bool enough = value <= 1_000e6;
        vm.prank(payer);
        if (!enough) refused("ERC20: transfer amount exceeds balance");
        bool ok = dollar.transfer(payee, value);
        require(ok == enough, "no answer");
        same(dollar.balanceOf(payee), enough ? value : 0);
        same(dollar.totalSupply(), 1_000e6);
    }

    function testFuzz_AllowanceShrinksEvenFromInfinity(uint256 allowed, uint256 value) public {
        value %= 1_000e6 + 1;
        vm.prank(payer);
        require(dollar.approve(thief, allowed), "no answer");
        vm.prank(thief);
        if (value > allowed) refused("ERC20: transfer amount exceeds allowance");
        dollar.transferFrom(payer, payee, value);
        same(dollar.allowance(payer, thief), value > allowed ? allowed : allowed - value);
        same(dollar.balanceOf(payee), value > allowed ? 0 : value);
    }

    function test_AllowanceWithoutABalance() public {
        vm.prank(payer);
        dollar.approve(thief, type(uint256).max);
        vm.prank(thief);
        refused("ERC20: transfer amount exceeds balance");
        dollar.transferFrom(payer, thief, 1_000e6 + 1);
    }

    function test_ZeroAddresses() public {
        vm.prank(payer);
        refused("ERC20: transfer to the zero address");
        dollar.transfer(address(0), 1);
        vm.prank(payer);
        refused("ERC20: approve to the zero address");
        dollar.approve(address(0), 1);
        vm.prank(address(0));
        refused("ERC20: transfer from the zero address");
        dollar.transfer(payee, 0);
        vm.prank(address(0));
        refused("ERC20: approve from the zero address");
        dollar.approve(payee, 1);
    }

    /// @dev A transfer out of an allowance logs the money and not the allowance.
    function test_LogsOfMintAndTransferFrom() public {
        vm.recordLogs();
        mint(payer, 1);
        vm.prank(payer);
        dollar.approve(thief, 5);
        vm.prank(thief);
        dollar.transferFrom(payer, payee, 5);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        same(logs.length, 4);
        same(logs[0].topics[0], keccak256("Mint(address,address,uint256)"));
        same(logs[1].topics[0], keccak256("Transfer(address,address,uint256)"));
        same(logs[2].topics[0], keccak256("Approval(address,address,uint256)"));
        same(logs[3].topics[0], keccak256("Transfer(address,address,uint256)"));
    }
}
