// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The issuer's hand on the token: pause everything, block one account
/// @notice The real dollar spreads these powers over several roles; here one owner holds them all.
abstract contract Controls {
    /// @notice Who may mint, pause and block.
    address public owner;

    /// @notice Whether every movement is stopped.
    bool public paused;

    mapping(address account => bool) private _blacklisted;

    event OwnershipTransferred(address previousOwner, address newOwner);
    event Pause();
    event Unpause();
    event Blacklisted(address indexed _account);
    event UnBlacklisted(address indexed _account);

    modifier onlyOwner() {
        require(msg.sender == owner, "Ownable: caller is not the owner");
        _;
    }

    modifier whenNotPaused() {
        require(!paused, "Pausable: paused");
        _;
    }

    modifier notBlacklisted(address account) {
        require(!_blacklisted[account], "Blacklistable: account is blacklisted");
        _;
    }

    /// @notice Whether `account` can neither send nor receive.
    function isBlacklisted(address account) external view returns (bool) {
        return _blacklisted[account];
    }

    /// @notice Stops every movement, every approval and every cancellation.
    function pause() external onlyOwner {
        paused = true;
        emit Pause();
    }

    function unpause() external onlyOwner {
        paused = false;
        emit Unpause();
    }

    function blacklist(address account) external onlyOwner {
        _blacklisted[account] = true;
        emit Blacklisted(account);
    }

    function unBlacklist(address account) external onlyOwner {
        _blacklisted[account] = false;
        emit UnBlacklisted(account);
    }

    function _setOwner(address newOwner) internal {
        emit OwnershipTransferred(owner, newOwner);
        owner = newOwner;
    }
}
