"""From settings to the gate: built once, nothing opened or asked yet."""

from collections.abc import Callable
from functools import partial

from eth_account import Account

from tallystick.catalog.load import load_catalog
from tallystick.catalog.models import Catalog
from tallystick.catalog.pricing import credits_for_usdc
from tallystick.chain.rpc import Chain
from tallystick.config import Settings
from tallystick.identity.wallet_sign_in import WalletSignIn
from tallystick.kernel.clock import Clock
from tallystick.kernel.db import open_database
from tallystick.kernel.money import USDC_SCALE
from tallystick.kernel.seal import Seal
from tallystick.payments.desk import Desk
from tallystick.payments.exposure import Caps
from tallystick.payments.observing.matching import Rate
from tallystick.payments.rail import Rail, Relayer, Witness
from tallystick.payments.rules.gas import WEI, GasRules
from tallystick.payments.rules.paybacks import PaybackRules
from tallystick.payments.ways import Elsewhere
from tallystick.paywall.gate import Gate
from tallystick.safe_factories import factories_in
from tallystick.safe_settings import check_settings
from tallystick.x402.cdp_key import CdpKey
from tallystick.x402.facilitator import FacilitatorClient
from tallystick.x402.networks import NETWORKS
from tallystick.x402.siwe_message import origin_of
from tallystick.x402.wire import TokenDomain

_WITNESS_SECONDS = 2.0


def build_gate(
    settings: Settings, clock: Clock | None = None, *, api_prefix: str = ""
) -> Gate:
    """Everything that the settings describe; ``api_prefix`` is where we are mounted.

    Raises ``UnsafeSettings`` or ``InvalidCatalog``.
    """
    check_settings(settings)
    assert settings.secret_key is not None
    seal = Seal(settings.secret_key.get_secret_value().encode())
    db = open_database(settings.database_url, clock)
    rail = _rail(settings, db.clock)
    shelf = load_catalog(settings.catalog)
    origin = origin_of(settings.public_url)
    assert origin is not None, "the settings were checked"
    return Gate(
        db=db,
        rail=rail,
        seal=seal,
        sign_in=WalletSignIn(origin, rail.chain, seal, db.clock),
        catalog=lambda: shelf,
        public_url=settings.public_url,
        hold_seconds=settings.hold_seconds,
        api_prefix=api_prefix,
        wants_identifiers=settings.require_payment_identifier,
        is_discoverable=settings.declare_bazaar,
    )


def _rail(settings: Settings, clock: Clock) -> Rail:
    known = NETWORKS[settings.network].usdc
    contract = known.contract
    if settings.asset is not None:
        contract = bytes.fromhex(settings.asset.removeprefix("0x"))
    domain = TokenDomain(known.chain_id, contract, known.name, known.version)
    assert settings.pay_to is not None
    return Rail(
        chain=Chain(settings.rpc_urls, chain_id=known.chain_id, token=contract),
        domain=domain,
        pay_to=bytes.fromhex(settings.pay_to.removeprefix("0x")),
        relayers=_relayers(settings),
        factories=factories_in(settings),
        clock=clock,
        start_block=settings.start_block,
        offer_seconds=settings.offer_seconds,
        poll_seconds=settings.poll_seconds,
        takes_payments=settings.take_payments,
        dust_below=int(settings.dust_below.scaleb(USDC_SCALE)),
        gas=_gas_rules(settings),
        paybacks=PaybackRules(
            settings.payback_approval_above * 10**USDC_SCALE,
            settings.payback_most * 10**USDC_SCALE,
            settings.payback_per_day * 10**USDC_SCALE,
        ),
        float_key=_float_key(settings),
        caps=Caps(
            settings.exposure_per_customer * 10**USDC_SCALE,
            settings.exposure_floor * 10**USDC_SCALE,
            settings.exposure_percent,
        ),
        witness=_witness(settings, known.chain_id, contract),
        facilitator=_desk(settings, clock),
        elsewhere=None if settings.run_workers else Elsewhere(),
        serves_merchants=settings.act_as_facilitator,
        takes_permit2=settings.permit2,
    )


def _float_key(settings: Settings) -> Relayer | None:
    key = settings.payback_key
    return None if key is None else _relayer(key.get_secret_value(), deploys=False)


def _gas_rules(settings: Settings) -> GasRules:
    return GasRules(
        per_day=int(settings.gas_per_day * WEI),
        per_payer=int(settings.gas_per_payer * WEI),
        per_merchant=int(settings.gas_per_merchant * WEI),
        ether_dollars=settings.ether_dollars,
        percent=settings.gas_percent,
        floor=int(settings.gas_floor.scaleb(USDC_SCALE)),
    )


def _witness(settings: Settings, chain_id: int, token: bytes) -> Witness | None:
    if not settings.witness_rpc_urls:
        return None
    # Short, because other payments wait for the worker that asks.
    chain = Chain(
        settings.witness_rpc_urls,
        chain_id=chain_id,
        token=token,
        timeout_seconds=_WITNESS_SECONDS,
    )
    return Witness(chain, settings.witness_above * 10**USDC_SCALE)


_FALLBACK_SECONDS = 8.0
"""A facilitator's time, of the 25 that a payer waits; our own takes a few more."""


def _desk(settings: Settings, clock: Clock) -> Desk | None:
    if settings.facilitator_url is None:
        return None
    key_id, secret = (
        settings.facilitator_cdp_key_id,
        settings.facilitator_cdp_key_secret,
    )
    key = CdpKey(key_id, secret.get_secret_value()) if key_id and secret else None
    client = FacilitatorClient(settings.facilitator_url, clock, key=key)
    desk = Desk(client, settings.network, resource_url=settings.public_url)
    if settings.facilitator_fallback:
        desk.falls_back, desk.patience_seconds = True, _FALLBACK_SECONDS
    return desk


def _relayers(settings: Settings) -> tuple[Relayer, ...]:
    keys = [(one, False) for one in settings.relayer_keys]
    if settings.deployer_key is not None:
        keys.append((settings.deployer_key, True))
    return tuple(
        _relayer(one.get_secret_value(), deploys=deploys) for one, deploys in keys
    )


def _relayer(text: str, *, deploys: bool) -> Relayer:
    key = bytes.fromhex(text.removeprefix("0x"))
    address = bytes.fromhex(Account.from_key(key).address[2:])
    return Relayer(address, key, deploys)


def rate_of(catalog_now: Callable[[], Catalog]) -> Rate:
    """What USDC buys by the running catalog."""
    shelf = catalog_now()
    return Rate(shelf.version, partial(credits_for_usdc, shelf))
