// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ExactProxy} from "../src/ExactProxy.sol";
import {Permit2} from "../src/Permit2.sol";
import {SmartWallet} from "../src/SmartWallet.sol";
import {TestDollar} from "../src/TestDollar.sol";
import {Fixture} from "./Fixture.sol";

/// @notice Payments by Permit2: once, to whom was signed, of the token and by the spender that was signed.
contract Permit2Test is Fixture {
    Permit2 private constant permit2 = Permit2(0x000000000022D473030F116dDEE9F6B43aC78BA3);
    ExactProxy private constant proxy = ExactProxy(0x402085c248EeA27D92E8b30b2C58ed07f9E20001);

    function setUp() public override {
        super.setUp();
        vm.etch(address(permit2), type(Permit2).runtimeCode);
        vm.etch(address(proxy), type(ExactProxy).runtimeCode);
        vm.prank(payer);
        dollar.approve(address(permit2), type(uint256).max);
    }

    function permit(uint256 nonce) private view returns (Permit2.PermitTransferFrom memory) {
        return Permit2.PermitTransferFrom(Permit2.TokenPermissions(address(dollar), 1e6), nonce, block.timestamp + 60);
    }

    function toPayee() private pure returns (ExactProxy.Witness memory) {
        return ExactProxy.Witness(payee, 0);
    }

    /// @dev As a wallet hashes it: the whole type, each struct by itself.
    function permitDigest(Permit2.PermitTransferFrom memory p, address spender, ExactProxy.Witness memory w)
        private
        view
        returns (bytes32)
    {
        bytes32 typeHash = keccak256(
            "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,Witness witness)TokenPermissions(address token,uint256 amount)Witness(address to,uint256 validAfter)"
        );
        bytes32 permitted = keccak256(
            abi.encode(
                keccak256("TokenPermissions(address token,uint256 amount)"), p.permitted.token, p.permitted.amount
            )
        );
        bytes32 witness = keccak256(abi.encode(keccak256("Witness(address to,uint256 validAfter)"), w.to, w.validAfter));
        bytes32 structHash = keccak256(abi.encode(typeHash, permitted, spender, p.nonce, p.deadline, witness));
        return keccak256(abi.encodePacked(hex"1901", permit2.DOMAIN_SEPARATOR(), structHash));
    }

    function signedBy(uint256 key, Permit2.PermitTransferFrom memory p) private view returns (bytes memory) {
        return sign(key, permitDigest(p, address(proxy), toPayee()));
    }

    function fails(bytes4 why) private {
        vm.expectRevert(abi.encodeWithSelector(why));
    }

    /// @dev As the real one has them on Base.
    function test_TheDomainIsTheRealOne() public view {
        bytes32 typeHash = 0x8cad95687ba82c2ce50e74f7b754645e5117c3a5bec8151c0726d5857980a866;
        bytes32 name = 0x9ac997416e8ff9d2ff6bebeb7149f65cdae5e32e2b90440b566bb3044041d36a;
        same(permit2.DOMAIN_SEPARATOR(), keccak256(abi.encode(typeHash, name, uint256(8453), address(permit2))));
    }

    function testFuzz_APaymentMovesWhatWasSigned(uint256 nonce) public {
        Permit2.PermitTransferFrom memory p = permit(nonce);
        proxy.settle(p, payer, toPayee(), signedBy(payerKey, p));
        same(dollar.balanceOf(payee), 1e6);
        same(permit2.nonceBitmap(payer, nonce >> 8), 1 << (nonce % 256));
    }

    function testFuzz_ASecondTimeItIsRefused(uint256 nonce) public {
        Permit2.PermitTransferFrom memory p = permit(nonce);
        bytes memory signature = signedBy(payerKey, p);
        proxy.settle(p, payer, toPayee(), signature);
        fails(Permit2.InvalidNonce.selector);
        proxy.settle(p, payer, toPayee(), signature);
    }

    function testFuzz_AnInvalidatedNonceMovesNothing(uint256 nonce) public {
        Permit2.PermitTransferFrom memory p = permit(nonce);
        bytes memory signature = signedBy(payerKey, p);
        vm.prank(payer);
        permit2.invalidateUnorderedNonces(nonce >> 8, 1 << (nonce % 256));
        fails(Permit2.InvalidNonce.selector);
        proxy.settle(p, payer, toPayee(), signature);
    }

    function test_NeighboursOfANonceStayGood() public {
        vm.prank(payer);
        permit2.invalidateUnorderedNonces(0, 1 << 7);
        Permit2.PermitTransferFrom memory p = permit(6);
        proxy.settle(p, payer, toPayee(), signedBy(payerKey, p));
        same(permit2.nonceBitmap(payer, 0), (1 << 7) | (1 << 6));
    }

    function test_AnotherPayeeIsNotWhatWasSigned() public {
        Permit2.PermitTransferFrom memory p = permit(1);
        bytes memory signature = signedBy(payerKey, p);
        fails(Permit2.InvalidSigner.selector);
        proxy.settle(p, payer, ExactProxy.Witness(thief, 0), signature);
    }

    function test_AnotherSpenderMovesNothing() public {
        Permit2.PermitTransferFrom memory p = permit(1);
        bytes memory signature = signedBy(payerKey, p);
        ExactProxy other = new ExactProxy();
        fails(Permit2.InvalidSigner.selector);
        other.settle(p, payer, toPayee(), signature);
    }

    function test_AnotherTokenMovesNothing() public {
        Permit2.PermitTransferFrom memory p = permit(1);
        bytes memory signature = signedBy(payerKey, p);
        TestDollar other = new TestDollar();
        p.permitted.token = address(other);
        fails(Permit2.InvalidSigner.selector);
        proxy.settle(p, payer, toPayee(), signature);
    }

    function test_AThiefsSignatureMovesNothing() public {
        Permit2.PermitTransferFrom memory p = permit(1);
        bytes memory signature = signedBy(thiefKey, p);
        fails(Permit2.InvalidSigner.selector);
        proxy.settle(p, payer, toPayee(), signature);
    }

    function test_AnotherChainsSignatureMovesNothing() public {
        Permit2.PermitTransferFrom memory p = permit(1);
        bytes memory signature = signedBy(payerKey, p);
        vm.chainId(84532);
        fails(Permit2.InvalidSigner.selector);
        proxy.settle(p, payer, toPayee(), signature);
    }

    function test_TheDeadlineItselfIsInTime() public {
        Permit2.PermitTransferFrom memory p = permit(1);
        bytes memory signature = signedBy(payerKey, p);
        vm.warp(p.deadline);
        proxy.settle(p, payer, toPayee(), signature);
        same(dollar.balanceOf(payee), 1e6);
    }

    function test_AfterTheDeadlineNothingMoves() public {
        Permit2.PermitTransferFrom memory p = permit(1);
        bytes memory signature = signedBy(payerKey, p);
        vm.warp(p.deadline + 1);
        vm.expectRevert(abi.encodeWithSelector(Permit2.SignatureExpired.selector, p.deadline));
        proxy.settle(p, payer, toPayee(), signature);
    }

    function test_TooEarlyNothingMoves() public {
        Permit2.PermitTransferFrom memory p = permit(1);
        ExactProxy.Witness memory later = ExactProxy.Witness(payee, block.timestamp + 1);
        bytes memory signature = sign(payerKey, permitDigest(p, address(proxy), later));
        fails(ExactProxy.PaymentTooEarly.selector);
        proxy.settle(p, payer, later, signature);
        vm.warp(block.timestamp + 1);
        proxy.settle(p, payer, later, signature);
        same(dollar.balanceOf(payee), 1e6);
    }

    function test_WithoutAnApprovalTheTokensReasonIsHidden() public {
        vm.prank(payer);
        dollar.approve(address(permit2), 0);
        Permit2.PermitTransferFrom memory p = permit(1);
        bytes memory signature = signedBy(payerKey, p);
        refused("TRANSFER_FROM_FAILED");
        proxy.settle(p, payer, toPayee(), signature);
        same(permit2.nonceBitmap(payer, 0), 0);
    }

    function test_NobodyPaysNothingToNobody() public {
        Permit2.PermitTransferFrom memory p = permit(1);
        fails(ExactProxy.InvalidOwner.selector);
        proxy.settle(p, address(0), toPayee(), "");
        fails(ExactProxy.InvalidDestination.selector);
        proxy.settle(p, payer, ExactProxy.Witness(address(0), 0), "");
        p.permitted.amount = 0;
        fails(ExactProxy.InvalidAmount.selector);
        proxy.settle(p, payer, toPayee(), "");
    }

    function test_MoreThanWasPermittedIsRefused() public {
        Permit2.PermitTransferFrom memory p = permit(1);
        Permit2.SignatureTransferDetails memory more = Permit2.SignatureTransferDetails(payee, 1e6 + 1);
        vm.expectRevert(abi.encodeWithSelector(Permit2.InvalidAmount.selector, 1e6));
        permit2.permitWitnessTransferFrom(p, more, payer, "", "", "");
    }

    function test_ACompactSignatureIsTaken() public {
        Permit2.PermitTransferFrom memory p = permit(1);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(payerKey, permitDigest(p, address(proxy), toPayee()));
        bytes32 vs = bytes32((uint256(v - 27) << 255) | uint256(s));
        proxy.settle(p, payer, toPayee(), abi.encodePacked(r, vs));
        same(dollar.balanceOf(payee), 1e6);
        p = permit(2);
        fails(Permit2.InvalidSignatureLength.selector);
        proxy.settle(p, payer, toPayee(), "short");
    }

    function test_AContractPayerAnswersForItself() public {
        address wallet = address(new SmartWallet(payer));
        mint(wallet, 1e6);
        bytes memory approval = abi.encodeCall(dollar.approve, (address(permit2), 1e6));
        vm.prank(payer);
        SmartWallet(payable(wallet)).execute(address(dollar), 0, approval);
        Permit2.PermitTransferFrom memory p = permit(1);
        bytes memory stolen = signedBy(thiefKey, p);
        fails(Permit2.InvalidContractSignature.selector);
        proxy.settle(p, wallet, toPayee(), stolen);
        proxy.settle(p, wallet, toPayee(), signedBy(payerKey, p));
        same(dollar.balanceOf(payee), 1e6);
    }

    function test_AnApprovalMayComeWithThePayment() public {
        vm.prank(payer);
        dollar.approve(address(permit2), 0);
        Permit2.PermitTransferFrom memory p = permit(1);
        bytes32 structHash =
            keccak256(abi.encode(dollar.PERMIT_TYPEHASH(), payer, address(permit2), 1e6, 0, p.deadline));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(payerKey, digest(structHash));
        ExactProxy.EIP2612Permit memory approval = ExactProxy.EIP2612Permit(1e6, p.deadline, r, s, v);
        bytes memory signature = signedBy(payerKey, p);
        proxy.settleWithPermit(approval, p, payer, toPayee(), signature);
        same(dollar.balanceOf(payee), 1e6);
        approval.value = 2e6;
        fails(ExactProxy.Permit2612AmountMismatch.selector);
        proxy.settleWithPermit(approval, p, payer, toPayee(), signature);
    }
}
