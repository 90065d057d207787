// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

import {Authorizations} from "./Authorizations.sol";
import {Permits} from "./Permits.sol";

/// @title The test dollar
/// @notice Behaves as USDC does on the calls that a payment makes, on a chain of one's own. To be planted, not
/// deployed: put its runtime code at USDC's address, then send `initialize` once.
/// @dev Not USDC and not a copy of it: no proxy, no minter allowances, no upgrades, no value.
contract TestDollar is Authorizations, Permits {
    event Mint(address indexed minter, address indexed to, uint256 amount);

    /// @notice Names the token and its owner; works once.
    /// @param title The `name` of the EIP-712 domain: `USD Coin` on Base, `USDC` on Base Sepolia.
    function initialize(string calldata title, address newOwner) external {
        require(owner == address(0), "FiatToken: contract is already initialized");
        require(newOwner != address(0), "FiatToken: new owner is the zero address");
        _setDomainName(title);
        _setOwner(newOwner);
    }

    /// @inheritdoc ERC20
    function name() public view override returns (string memory) {
        return _domainName();
    }

    /// @notice Makes dollars out of nothing.
    function mint(address to, uint256 amount) external onlyOwner whenNotPaused notBlacklisted(to) returns (bool) {
        require(to != address(0), "FiatToken: mint to the zero address");
        require(amount > 0, "FiatToken: mint amount not greater than 0");
        emit Mint(msg.sender, to, amount);
        _mint(to, amount);
        return true;
    }
}
