// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Authorizations} from "../src/Authorizations.sol";
import {SmartWallet} from "../src/SmartWallet.sol";
import {Fixture} from "./Fixture.sol";

/// @notice Three keys and a wallet pay, cancel, replay and forge at random. A model that knows nothing of the token
/// but EIP-3009's sentences foretells each outcome and keeps books of its own.
contract Actors is Fixture {
    uint256 public constant COUNT = 4;
    uint256 private constant NONCES = 6;

    address[COUNT] public accounts;
    mapping(address account => uint256) public booked;
    mapping(address account => mapping(bytes32 nonce => uint256)) public uses;
    uint256 public captured;

    Authorizations.Authorization private last;
    bytes private lastSignature;
    uint256 private clock = NOW;

    constructor() {
        for (uint256 i = 0; i < COUNT - 1; i++) {
            accounts[i] = vm.addr(key(i));
        }
        accounts[COUNT - 1] = address(new SmartWallet(vm.addr(key(COUNT - 1))));
    }

    function endow() external {
        for (uint256 i = 0; i < COUNT; i++) {
            mint(accounts[i], 100e6);
            booked[accounts[i]] = 100e6;
        }
    }

    /// @dev A signed payment, sometimes early, late or too large; few nonces, so they collide.
    function pay(uint256 who, uint256 to, uint256 value, uint256 nonce, uint256 from, uint256 until) external {
        who %= COUNT;
        last = Authorizations.Authorization(
            accounts[who],
            accounts[to % COUNT],
            value % 120e6,
            clock - 10 + from % 12,
            clock - 1 + until % 12,
            bytes32(nonce % NONCES)
        );
        lastSignature = sign(key(who), transferDigest(last));
        attempt(true);
    }

    /// @dev The same bytes again, perhaps later.
    function replay() external {
        attempt(last.from != address(0));
    }

    /// @dev The last payment redirected, under its old signature or another actor's.
    function forge(uint256 forger, uint256 to, uint256 value, uint256 nonce) external {
        if (last.from == address(0)) return;
        Authorizations.Authorization memory honest = last;
        bytes memory signature = lastSignature;
        forger %= COUNT;
        (last.to, last.value, last.nonce) = (accounts[to % COUNT], value % 120e6, bytes32(nonce % NONCES));
        bool changed = keccak256(abi.encode(last)) != keccak256(abi.encode(honest));
        bool byAnother = accounts[forger] != last.from;
        if (byAnother) lastSignature = sign(key(forger), transferDigest(last));
        attempt(!changed && !byAnother);
        (last, lastSignature) = (honest, signature);
    }

    function cancel(uint256 who, uint256 nonce, uint256 signer) external {
        (who, signer) = (who % COUNT, signer % COUNT);
        bytes32 word = bytes32(nonce % NONCES);
        bytes memory signature = sign(key(signer), cancelDigest(accounts[who], word));
        bool foretold = who == signer && uses[accounts[who]][word] == 0;
        (bool ok,) = address(dollar)
            .call(abi.encodeWithSignature("cancelAuthorization(address,bytes32,bytes)", accounts[who], word, signature));
        require(ok == foretold, "a cancellation went otherwise than foretold");
        if (ok) uses[accounts[who]][word]++;
    }

    function wait(uint256 time) external {
        clock += time % 8;
        vm.warp(clock);
    }

    function attempt(bool genuine) private {
        bool foretold = genuine && last.validAfter < clock && clock < last.validBefore
            && uses[last.from][last.nonce] == 0 && last.value <= booked[last.from];
        (bool ok,) = address(dollar)
            .call(
                abi.encodeWithSignature(
                    "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)",
                    last.from,
                    last.to,
                    last.value,
                    last.validAfter,
                    last.validBefore,
                    last.nonce,
                    lastSignature
                )
            );
        require(ok == foretold, "a payment went otherwise than foretold");
        if (!ok) return;
        captured++;
        uses[last.from][last.nonce]++;
        booked[last.from] -= last.value;
        booked[last.to] += last.value;
    }

    function key(uint256 actor) private pure returns (uint256) {
        return 0xAC708 + actor;
    }
}
