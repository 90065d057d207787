"""``tallystick doctor``: what is wrong with this installation, and what to do."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Annotated

import typer
from eth_account import Account
from pydantic import SecretStr
from rich.console import Console
from rich.status import Status
from rich.text import Text

from tallystick.catalog.load import load_catalog
from tallystick.catalog.models import Catalog
from tallystick.command_output import print_json
from tallystick.config import Settings, UnreadableSettings, read_settings
from tallystick.doctor.addresses import (
    examine_asset,
    examine_deployer,
    examine_float,
    examine_pay_to,
    examine_permit2,
    examine_relayers,
)
from tallystick.doctor.findings import Examination, Finding, Verdict
from tallystick.doctor.nodes import Token, examine_nodes
from tallystick.doctor.offers import Expected
from tallystick.doctor.server import Visit, examine_public_url, examine_server
from tallystick.doctor.storage import examine_books, examine_database
from tallystick.idle_settings import idle_settings
from tallystick.kernel.errors import TallystickError
from tallystick.safe_settings import UnsafeSettings, check_settings, is_web_address
from tallystick.x402.keccak import checksum_address, read_address
from tallystick.x402.networks import BASE, NETWORKS
from tallystick.x402.wire import TokenDomain

_STYLES = {
    Verdict.OK: "green",
    Verdict.WARNING: "bold yellow",
    Verdict.PROBLEM: "bold red",
}


def doctor(
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object; tell it on stderr.")
    ] = False,
    url: Annotated[
        str | None,
        typer.Option(help="Ask the server here; PUBLIC_URL unless it is given."),
    ] = None,
    no_server: Annotated[
        bool, typer.Option("--no-server", help="Ask no running server.")
    ] = False,
) -> None:
    """Look at settings, database, nodes, addresses and the 402; exit 1 on a problem."""
    if url is not None and not is_web_address(url):
        raise typer.BadParameter("--url is no address: write https://api.example.com")
    console = Console(stderr=as_json, highlight=False)
    # On a terminal it shows what is being asked; elsewhere it shows nothing.
    with console.status("looking") as status:
        exam = Examination(_teller(console), _looker(status))
        asyncio.run(_examine(exam, None if no_server else url or ""))
    _conclude(console, exam)
    if as_json:
        print_json(exam.document())
    raise typer.Exit(1 if exam.count(Verdict.PROBLEM) else 0)


def _teller(console: Console) -> Callable[[Finding], None]:
    def tell(finding: Finding) -> None:
        line = Text(f"{finding.verdict:<8}", style=_STYLES[finding.verdict])
        line.append(f"{finding.check:<15} ", style="bold")
        line.append(finding.said, style="")
        # An address that is broken over two lines cannot be copied.
        console.print(line, soft_wrap=True)
        if finding.next_step:
            told = Text(f"{'':<8}{'':<15} → {finding.next_step}")
            console.print(told, soft_wrap=True)

    return tell


def _conclude(console: Console, exam: Examination) -> None:
    problems, warnings = exam.count(Verdict.PROBLEM), exam.count(Verdict.WARNING)
    if problems + warnings == 0:
        console.print(Text("Everything is well.", style="bold green"))
        return
    style = _STYLES[Verdict.PROBLEM if problems else Verdict.WARNING]
    found = [_counted(problems, "problem"), _counted(warnings, "warning")]
    console.print(Text(", ".join(found) + ".", style=style))


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


async def _examine(exam: Examination, server: str | None) -> None:
    """``server`` is where to ask one, empty for PUBLIC_URL, None to ask none."""
    exam.looking("the settings")
    try:
        settings = read_settings()
    except UnreadableSettings as error:
        exam.refused("settings", error.problems)
        return
    is_safe = _examine_settings(exam, settings)
    catalog = _examine_catalog(exam, settings)
    has_books = await examine_database(exam, settings.database_url)
    domain = _domain(settings)
    if domain is not None and all(map(is_web_address, settings.rpc_urls)):
        await _examine_chain(exam, settings, domain)
    if is_safe and has_books:
        await examine_books(exam, settings)
    is_test = settings.network != BASE.caip2
    examine_public_url(exam, settings.public_url, is_test=is_test)
    if server is not None:
        visit = Visit(
            base=(server or settings.public_url).rstrip("/"),
            takes_payments=settings.take_payments,
            catalog=catalog,
            expected=_expected(settings, domain),
        )
        await examine_server(exam, visit)


def _examine_settings(exam: Examination, settings: Settings) -> bool:
    try:
        check_settings(settings, is_serving=True)
    except UnsafeSettings as error:
        exam.refused("settings", error.problems)
        return False
    exam.ok("settings", f"{settings.network}, paid to {settings.pay_to}")
    exam.noted("settings", idle_settings(settings))
    return True


def _examine_catalog(exam: Examination, settings: Settings) -> Catalog | None:
    exam.looking("the catalog")
    try:
        catalog = load_catalog(settings.catalog)
    except TallystickError as error:
        step = error.next_step or "Correct it and ask again."
        exam.problem("catalog", error.detail, step)
        return None
    exam.ok("catalog", f"{catalog.about.name}, version {catalog.version}")
    return catalog


async def _examine_chain(
    exam: Examination, settings: Settings, domain: TokenDomain
) -> None:
    pay_to, relayers = _address(settings.pay_to), _addresses(settings.relayer_keys)
    is_test = settings.network != BASE.caip2
    token = Token(domain.chain_id, domain.contract, pay_to, is_test)
    async with examine_nodes(exam, settings.rpc_urls, token) as chain:
        if chain is None:
            said = "token, payee and relayers were not looked at: no node is of use"
            exam.warn("chain", said, "Mend the nodes and ask again.")
            return
        await examine_asset(exam, chain, domain)
        if pay_to is not None:
            await examine_pay_to(exam, chain, pay_to, relayers)
        if relayers:
            await examine_relayers(exam, chain, relayers)
        if settings.permit2:
            await examine_permit2(exam, chain)
        for deployer in _addresses([settings.deployer_key]):
            await examine_deployer(exam, chain, deployer)
        for one in _addresses([settings.payback_key]):
            await examine_float(exam, chain, one)


def _domain(settings: Settings) -> TokenDomain | None:
    """The token that the settings mean; None where they mean none."""
    known = NETWORKS.get(settings.network)
    asset = _address(settings.asset)
    if known is None or (settings.asset is not None and asset is None):
        return None
    usdc = known.usdc
    return TokenDomain(known.chain_id, asset or usdc.contract, usdc.name, usdc.version)


def _expected(settings: Settings, domain: TokenDomain | None) -> Expected | None:
    pay_to = _address(settings.pay_to)
    if domain is None or pay_to is None:
        return None
    return Expected(
        caip2=domain.network,
        v1_name=NETWORKS[domain.network].v1_name,
        asset=checksum_address(domain.contract),
        pay_to=checksum_address(pay_to),
        domain={"name": domain.name, "version": domain.version},
        url=settings.public_url,
    )


def _address(text: str | None) -> bytes | None:
    try:
        return read_address(text)
    except ValueError:
        return None


def _addresses(keys: Iterable[SecretStr | None]) -> list[bytes]:
    """Those of the keys that are keys; the others are a problem of the settings."""
    found = []
    for one in filter(None, keys):
        with suppress(ValueError):
            found.append(read_address(Account.from_key(one.get_secret_value()).address))
    return found


def _looker(status: Status) -> Callable[[str], None]:
    return lambda what: status.update(f"looking at {what}")
