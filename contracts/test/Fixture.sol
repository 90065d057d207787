// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Authorizations} from "../src/Authorizations.sol";
import {TestDollar} from "../src/TestDollar.sol";
import {Vm} from "./Vm.sol";

/// @notice A planted dollar on Base, a payer with a key and 1000 USDC, and the means to sign.
abstract contract Fixture {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    TestDollar internal constant dollar = TestDollar(0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913);
    uint256 internal constant NOW = 1_800_000_000;
    uint256 internal constant CURVE_ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141;

    uint256 internal constant payerKey = 0xA11CE;
    uint256 internal constant thiefKey = 0xBAD;
    address internal immutable payer = vm.addr(payerKey);
    address internal immutable thief = vm.addr(thiefKey);
    address internal constant issuer = address(0x155);
    address internal constant payee = address(0xF00D);

    function setUp() public virtual {
        vm.chainId(8453);
        vm.warp(NOW);
        vm.etch(address(dollar), type(TestDollar).runtimeCode);
        dollar.initialize("USD Coin", issuer);
        mint(payer, 1_000e6);
    }

    function mint(address to, uint256 amount) internal {
        vm.prank(issuer);
        dollar.mint(to, amount);
    }

    /// @dev One dollar from payer to payee, good now.
    function oneDollar() internal view returns (Authorizations.Authorization memory) {
        return Authorizations.Authorization(payer, payee, 1e6, 0, NOW + 60, keccak256("nonce"));
    }

    function digest(bytes32 structHash) internal view returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", dollar.DOMAIN_SEPARATOR(), structHash));
    }

    function transferDigest(Authorizations.Authorization memory auth) internal view returns (bytes32) {
        return digest(keccak256(abi.encode(dollar.TRANSFER_WITH_AUTHORIZATION_TYPEHASH(), auth)));
    }

    function cancelDigest(address authorizer, bytes32 nonce) internal view returns (bytes32) {
        return digest(keccak256(abi.encode(dollar.CANCEL_AUTHORIZATION_TYPEHASH(), authorizer, nonce)));
    }

    function sign(uint256 key, bytes32 hash) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, hash);
        return abi.encodePacked(r, s, v);
    }

    function signed(Authorizations.Authorization memory auth) internal view returns (bytes memory) {
        return sign(payerKey, transferDigest(auth));
    }

    function submit(Authorizations.Authorization memory a, bytes memory signature) internal {
        dollar.transferWithAuthorization(a.from, a.to, a.value, a.validAfter, a.validBefore, a.nonce, signature);
    }

    function refuse(Authorizations.Authorization memory auth, bytes memory signature, string memory reason) internal {
        vm.expectRevert(revertData(reason));
        submit(auth, signature);
    }

    function refused(string memory reason) internal {
        vm.expectRevert(revertData(reason));
    }

    function revertData(string memory reason) internal pure returns (bytes memory) {
        return abi.encodeWithSignature("Error(string)", reason);
    }

    function same(uint256 got, uint256 want) internal pure {
        require(got == want, "numbers differ");
    }

    function same(address got, address want) internal pure {
        require(got == want, "addresses differ");
    }

    function same(bytes32 got, bytes32 want) internal pure {
        require(got == want, "words differ");
    }

    function same(string memory got, string memory want) internal pure {
        require(keccak256(bytes(got)) == keccak256(bytes(want)), "texts differ");
    }
}
