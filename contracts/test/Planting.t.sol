// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ExactProxy} from "../src/ExactProxy.sol";
import {HostileWallet} from "../src/HostileWallet.sol";
import {Permit2} from "../src/Permit2.sol";
import {SmartWallet} from "../src/SmartWallet.sol";
import {TestDollar} from "../src/TestDollar.sol";
import {Fixture} from "./Fixture.sol";

/// @notice The committed output is the code under test, and planted it has the domains of the real dollars.
contract PlantingTest is Fixture {
    TestDollar private constant sepolia = TestDollar(0x036CbD53842c5426634e7929541eC2318f3dCF7e);

    function committed(string memory name) private view returns (bytes memory) {
        string memory json = vm.readFile(string.concat("build/", name, ".json"));
        return vm.parseJsonBytes(json, ".deployedBytecode");
    }

    function test_CommittedOutputIsTheCodeUnderTest() public view {
        same(keccak256(committed("TestDollar")), keccak256(type(TestDollar).runtimeCode));
        same(keccak256(committed("SmartWallet")), keccak256(type(SmartWallet).runtimeCode));
        same(keccak256(committed("HostileWallet")), keccak256(type(HostileWallet).runtimeCode));
        same(keccak256(committed("Permit2")), keccak256(type(Permit2).runtimeCode));
        same(keccak256(committed("ExactProxy")), keccak256(type(ExactProxy).runtimeCode));
    }

    function test_DomainOnBaseIsTheRealOne() public view {
        same(dollar.name(), "USD Coin");
        same(dollar.DOMAIN_SEPARATOR(), 0x02fa7265e7c5d81118673727957699e4d68f74cd74b7db77da710fe8a2c7834f);
    }

    function test_DomainOnBaseSepoliaIsTheRealOne() public {
        vm.chainId(84532);
        vm.etch(address(sepolia), committed("TestDollar"));
        sepolia.initialize("USDC", issuer);
        same(sepolia.name(), "USDC");
        same(sepolia.DOMAIN_SEPARATOR(), 0x71f17a3b2ff373b803d70a5a07c046c1a2bc8e89c09ef722fcb047abe94c9818);
    }

    function test_DomainFollowsTheChainId() public {
        bytes32 before = dollar.DOMAIN_SEPARATOR();
        vm.chainId(84532);
        require(dollar.DOMAIN_SEPARATOR() != before, "a fork shares the domain");
    }

    function test_Metadata() public view {
        same(dollar.symbol(), "USDC");
        same(dollar.version(), "2");
        same(dollar.decimals(), 6);
        same(dollar.owner(), issuer);
    }

    /// @dev The hashes as the EIPs print them.
    function test_TypeHashesAreTheEIPs() public view {
        same(
            dollar.TRANSFER_WITH_AUTHORIZATION_TYPEHASH(),
            0x7c7c6cdb67a18743f49ec6fa9b35f50d52ed05cbed4cc592e13b44501c1a2267
        );
        same(
            dollar.RECEIVE_WITH_AUTHORIZATION_TYPEHASH(),
            0xd099cc98ef71107a616c4f0f941f04c322d8e254fe26b3c6668db87aae413de8
        );
        same(dollar.CANCEL_AUTHORIZATION_TYPEHASH(), 0x158b0a9edf7a828aad02f63cd515c68ef2f50ba807396f6d12842833a1597429);
        same(dollar.PERMIT_TYPEHASH(), 0x6e71edae12b1b97f4d1f60370fef10105fa2faae0126114a169c64845d6126c9);
    }

    function test_TakeoverBySecondInitialize() public {
        refused("FiatToken: contract is already initialized");
        vm.prank(thief);
        dollar.initialize("USD Coin", thief);
    }

    function test_InitializeNeedsAnOwner() public {
        TestDollar fresh = new TestDollar();
        refused("FiatToken: new owner is the zero address");
        fresh.initialize("USDC", address(0));
    }
}
