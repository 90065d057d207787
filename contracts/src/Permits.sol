// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";

import {Domain} from "./Domain.sol";
import {FiatERC20} from "./FiatERC20.sol";
import {Signatures} from "./Signatures.sol";

/// @title EIP-2612: approvals by signature, nonces in order
abstract contract Permits is FiatERC20, Domain, IERC20Permit {
    bytes32 public constant PERMIT_TYPEHASH =
        keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");

    /// @notice The nonce that the holder's next permit must carry.
    mapping(address holder => uint256) public override nonces;

    /// @inheritdoc IERC20Permit
    function DOMAIN_SEPARATOR() external view returns (bytes32) {
        return _domainSeparator();
    }

    /// @inheritdoc IERC20Permit
    function permit(address holder, address spender, uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        external
    {
        _permit(holder, spender, value, deadline, Signatures.join(v, r, s));
    }

    /// @notice The same for a holder that is a contract (EIP-1271).
    function permit(address holder, address spender, uint256 value, uint256 deadline, bytes memory signature) external {
        _permit(holder, spender, value, deadline, signature);
    }

    /// @dev EIP-2612: the deadline itself is still in time.
    function _permit(address holder, address spender, uint256 value, uint256 deadline, bytes memory signature)
        private
        whenNotPaused
        notBlacklisted(holder)
        notBlacklisted(spender)
    {
        require(block.timestamp <= deadline, "FiatTokenV2: permit is expired");
        bytes32 structHash = keccak256(abi.encode(PERMIT_TYPEHASH, holder, spender, value, nonces[holder]++, deadline));
        require(Signatures.isValid(holder, _digest(structHash), signature), "EIP2612: invalid signature");
        _allow(holder, spender, value);
    }
}
