"""Behind a proxy that ends TLS: addresses are those of PUBLIC_URL, and of nobody else."""

import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from eth_account.signers.local import LocalAccount
from x402.extensions.sign_in_with_x import (
    CreateSIWxClientExtensionOptions,
    create_siwx_client_extension,
)
from x402.http.clients import x402HttpxClient
from x402.mechanisms.evm.exact import ExactEvmScheme
from x402.mechanisms.evm.signers import EthAccountSigner

from tallystick.chain.local import LocalChain
from tallystick.demo.ports import free_port
from tests.api.payments import ANALYST, decode, funded, sign
from tests.doctor.mangling import Terminated, mangled
from tests.processes import Program, ServerProcess, run, serving
from tests.test_cli import settings_for
from x402 import x402Client

EVIL = {
    "X-Forwarded-Host": "evil.test",
    "X-Forwarded-Proto": "gopher",
    "X-Forwarded-Prefix": "/evil",
    "X-Forwarded-For": "203.0.113.9",
    "Forwarded": "host=evil.test;proto=gopher",
    "X-Original-Url": "https://evil.test/",
    "Host": "evil.test",
}
ASYNC = {"Prefer": "respond-async"}


def certify(folder: Path) -> tuple[Path, Path]:
    """A certificate for this machine, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    loopback = x509.IPAddress(ip_address("127.0.0.1"))
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), loopback]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(made.public_bytes(pem))
    secret = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(secret)
    return folder / "cert.pem", folder / "key.pem"


@dataclass
class Site:
    """A server behind a proxy; ``url`` is what clients know."""

    server: ServerProcess
    url: str
    certificate: Path
    folder: Path

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, verify=self.trust, timeout=60)

    def stock_client(self, wallet: LocalAccount, *, signs_in: bool) -> x402HttpxClient:
        payer = x402Client()
        payer.register("eip155:*", ExactEvmScheme(EthAccountSigner(wallet)))
        if signs_in:
            options = CreateSIWxClientExtensionOptions(signers=[wallet])
            payer.register_extension(create_siwx_client_extension(options))
        return x402HttpxClient(payer, base_url=self.url, timeout=60)


@asynccontextmanager
async def site(chain: LocalChain, folder: Path, prefix: str) -> AsyncIterator[Site]:
    port = free_port()
    tls = Terminated(port, *certify(folder), prefix=prefix)
    public_url = f"https://localhost:{port}{prefix}"
    settings = settings_for(chain, folder, PUBLIC_URL=public_url)
    async with (
        serving(folder, **settings) as server,
        mangled(server.url, tls=tls) as url,
    ):
        assert url == public_url
        yield Site(server, url, tls.certificate, folder)
    audit = await run("audit", cwd=folder, **settings)
    assert audit.code == 0, audit.said


@pytest.fixture(params=["", "/pay"], ids=["root", "prefix"])
async def proxied(
    punctual: LocalChain,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Site]:
    # The stock client makes its own connections, as httpx does by default.
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    async with site(punctual, tmp_path, request.param) as found:
        yield found


def urls_in(answer: httpx.Response) -> list[str]:
    """Every address of ours in a 402, in both versions."""
    offer, body = decode(answer.headers["PAYMENT-REQUIRED"]), answer.json()
    found = [offer["resource"]["url"], body["topup_url"]]
    found += [one["resource"] for one in body["accepts"]]
    sign_in = offer.get("extensions", {}).get("sign-in-with-x")
    return found + ([sign_in["info"]["uri"]] if sign_in else [])


async def test_stock_clients_pay_and_sign_in_through_the_proxy(
    proxied: Site, punctual: LocalChain
) -> None:
    wallet = await funded(punctual)
    path = proxied.url + ANALYST
    async with proxied.stock_client(wallet, signs_in=False) as client:
        paid = await client.get(path)
    assert paid.status_code == 200, paid.text
    assert decode(paid.headers["PAYMENT-RESPONSE"])["success"] is True
    async with proxied.stock_client(wallet, signs_in=True) as client:
        spent = await client.get(path)
    assert spent.status_code == 200, spent.text
    assert "PAYMENT-RESPONSE" not in spent.headers, "the sign-in sufficed"
    assert spent.headers["credits-remaining"] == "8"


async def test_every_address_is_the_public_one(
    proxied: Site, punctual: LocalChain
) -> None:
    async with proxied.client() as http:
        answer = await http.get(proxied.url + ANALYST)
        urls = urls_in(answer)
        assert len(urls) >= 4
        for url in urls:
            assert url.startswith(f"{proxied.url}/"), urls
        domain = decode(answer.headers["PAYMENT-REQUIRED"])["extensions"]
        host = proxied.url.removeprefix("https://").partition("/")[0]
        assert domain["sign-in-with-x"]["info"]["domain"] == host
        page = urljoin(proxied.url + ANALYST, answer.json()["type"])
        assert (await http.get(page)).status_code == 200
        refused = await http.get(proxied.url + "/api/credits")
        info = refused.json()["extensions"]["sign-in-with-x"]["info"]
        assert info["uri"] == f"{proxied.url}/api/credits"


async def test_the_location_of_a_pending_settlement_leads_there(
    proxied: Site, punctual: LocalChain
) -> None:
    """A path, as RFC 9110 (10.2.2) lets it be; resolved by the client, it is ours."""
    wallet = await funded(punctual)
    async with proxied.client() as http:
        called = proxied.url + ANALYST
        offer = decode((await http.get(called)).headers["PAYMENT-REQUIRED"])
        payment = sign(wallet, offer["accepts"][0])
        answer = await http.get(called, headers=payment.headers | ASYNC)
        assert answer.status_code == 202, answer.text
        location = urljoin(called, answer.headers["location"])
        assert location.startswith(f"{proxied.url}/api/credits/topups/top_")
        assert urljoin(called, answer.json()["location"]) == location
        assert (await http.get(location)).status_code == 200


async def test_what_strangers_say_of_our_address_is_not_believed(
    proxied: Site, punctual: LocalChain
) -> None:
    """Neither at the proxy nor past it, straight to the port we listen on."""
    wallet = await funded(punctual)
    for base in (proxied.url, proxied.server.url):
        async with httpx.AsyncClient(verify=proxied.trust, timeout=60) as http:
            plain = await http.get(base + ANALYST)
            told = await http.get(base + ANALYST, headers=EVIL)
            assert urls_in(told) == urls_in(plain)
            assert "evil" not in told.text
            entry = decode(told.headers["PAYMENT-REQUIRED"])["accepts"][0]
            headers = sign(wallet, entry).headers | ASYNC | EVIL
            answer = await http.get(base + ANALYST, headers=headers)
            assert "evil" not in answer.headers.get("location", "")
            assert "evil" not in answer.text


async def doctor(site: Site, **more: str) -> tuple[int, str]:
    """Its exit code and its words, where these variables say whom to trust."""
    trust = {name: os.environ[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")}
    settings = site.server.settings
    ended = await Program(
        ("doctor",), settings, site.folder, variables=trust | more
    ).end()
    return ended.code, ended.out


async def test_the_doctor_is_content_with_it(
    proxied: Site, punctual: LocalChain
) -> None:
    await punctual.mine()
    code, out = await doctor(proxied)
    assert code == 0, out
    assert out.endswith("0 problems, 1 warning.\n"), out
    assert "is reached from this machine only" in out
    code, out = await doctor(proxied, SSL_CERT_FILE="")
    assert code == 1
    assert "nobody answers there (ConnectError)" in out
    code, out = await doctor(proxied, SSL_CERT_FILE=os.devnull)
    assert code == 1
    assert "TLS is not set up (SSLError)" in out


async def test_a_browser_may_send_and_read_what_a_payment_needs(
    proxied: Site, punctual: LocalChain
) -> None:
    """W06: any origin, never with credentials, and no origin is given back."""
    sent = "payment-signature, x-payment, sign-in-with-x, idempotency-key"
    read = "payment-required payment-response x-payment-response content-disposition"
    origins = [
        *("null", "https://shop.example", "https://localhost.evil.test"),
        *("https://evillocalhost", "http://localhost:1", "https://xn--e1a.test"),
    ]
    async with proxied.client() as http:
        for origin in origins:
            asked: dict[str, Any] = {
                "Origin": origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": sent,
            }
            preflight = await http.options(
                proxied.url + "/api/credits/add", headers=asked
            )
            assert preflight.status_code == 200
            allowed = preflight.headers["access-control-allow-headers"].lower()
            assert set(sent.split(", ")) <= {one.strip() for one in allowed.split(",")}
            answer = await http.get(proxied.url + ANALYST, headers={"Origin": origin})
            exposed = answer.headers["access-control-expose-headers"].lower()
            assert set(read.split()) <= {one.strip() for one in exposed.split(",")}
            for one in (preflight, answer):
                assert one.headers["access-control-allow-origin"] == "*"
                assert "access-control-allow-credentials" not in one.headers
