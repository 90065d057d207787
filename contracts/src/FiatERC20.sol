// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

import {Controls} from "./Controls.sol";

/// @title EIP-20 under the issuer's controls, refusing in the real dollar's words
/// @notice Clients read the reason of a revert to tell the payer what is wrong, so the reasons are strings, not
/// OpenZeppelin's custom errors (which remain in the ABI and are never reached).
abstract contract FiatERC20 is ERC20("", ""), Controls {
    /// @inheritdoc ERC20
    function symbol() public pure override returns (string memory) {
        return "USDC";
    }

    /// @inheritdoc ERC20
    function decimals() public pure override returns (uint8) {
        return 6;
    }

    /// @inheritdoc ERC20
    function transfer(address to, uint256 value)
        public
        override
        whenNotPaused
        notBlacklisted(msg.sender)
        notBlacklisted(to)
        returns (bool)
    {
        _move(msg.sender, to, value);
        return true;
    }

    /// @inheritdoc ERC20
    /// @dev An allowance of 2**256 - 1 shrinks like any other, as the real dollar's does.
    function transferFrom(address from, address to, uint256 value)
        public
        override
        whenNotPaused
        notBlacklisted(msg.sender)
        notBlacklisted(from)
        notBlacklisted(to)
        returns (bool)
    {
        uint256 allowed = allowance(from, msg.sender);
        require(value <= allowed, "ERC20: transfer amount exceeds allowance");
        _move(from, to, value);
        _approve(from, msg.sender, allowed - value, false);
        return true;
    }

    /// @inheritdoc ERC20
    function approve(address spender, uint256 value)
        public
        override
        whenNotPaused
        notBlacklisted(msg.sender)
        notBlacklisted(spender)
        returns (bool)
    {
        _allow(msg.sender, spender, value);
        return true;
    }

    /// @dev The one way out of a balance. EIP-20: zero moves like any other amount and logs a Transfer.
    function _move(address from, address to, uint256 value) internal {
        require(from != address(0), "ERC20: transfer from the zero address");
        require(to != address(0), "ERC20: transfer to the zero address");
        require(value <= balanceOf(from), "ERC20: transfer amount exceeds balance");
        _update(from, to, value);
    }

    function _allow(address holder, address spender, uint256 value) internal {
        require(holder != address(0), "ERC20: approve from the zero address");
        require(spender != address(0), "ERC20: approve to the zero address");
        _approve(holder, spender, value);
    }
}
