"""Pay for any URL with a stock x402 client: ``pay.py URL``.

Prints one JSON line for each call: its status, what was signed for it, what became of
the payment, the headers and the body. Ends with 1 if a call was refused.
"""

import argparse
import asyncio
import json
import os
import sys

import httpx
from eth_account import Account
from x402.http.clients import x402HttpxClient
from x402.http.clients.httpx import PaymentError
from x402.http.utils import decode_payment_response_header
from x402.mechanisms.evm.exact import ExactEvmScheme
from x402.mechanisms.evm.signers import EthAccountSigner

from x402 import x402Client

# A paid answer waits until the payment is in a block; httpx gives up after 5 seconds.
TIMEOUT_SECONDS = 60


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Pay for any URL with x402.")
    parser.add_argument("url")
    parser.add_argument(
        "--key-env",
        default="BUYER_KEY",
        metavar="NAME",
        help="the environment variable that holds the wallet's private key",
    )
    parser.add_argument(
        "--max-usd",
        metavar="USD",
        help="the most that one payment may cost (the client's own cap is 1)",
    )
    parser.add_argument("--method", default="GET")
    parser.add_argument("--body", metavar="JSON", help="sent as application/json")
    parser.add_argument("--repeat", type=int, default=1, metavar="N")
    return parser.parse_args()


def make_payer(private_key: str, max_usd: str | None) -> x402Client:
    """A client that signs USDC payments on any EVM chain; it needs no node."""
    payer = x402Client()
    signer = EthAccountSigner(Account.from_key(private_key))
    payer.register("eip155:*", ExactEvmScheme(signer))
    if max_usd is not None:
        payer.set_spend_controls({"max_amount_per_payment": f"${max_usd}"})
    return payer


def show(response: httpx.Response, signed: list[dict[str, str]]) -> dict[str, object]:
    """What one call came to."""
    payment = response.headers.get("payment-response")
    try:
        body = response.json()
    except ValueError:
        body = response.text
    if payment is not None:
        payment = decode_payment_response_header(payment).model_dump(
            by_alias=True, exclude_none=True
        )
    return {
        "status": response.status_code,
        "signed": signed,
        "payment": payment,
        "headers": dict(response.headers),
        "body": body,
    }


async def pay(arguments: argparse.Namespace, private_key: str) -> bool:
    """Make the calls; whether all of them were served."""
    signed: list[dict[str, str]] = []
    payer = make_payer(private_key, arguments.max_usd)

    async def remember(context: object) -> None:
        chosen = context.selected_requirements
        signed.append(chosen.model_dump(by_alias=True, exclude={"extra"}))

    payer.on_after_payment_creation(remember)
    headers = {} if arguments.body is None else {"Content-Type": "application/json"}
    is_served = True
    async with x402HttpxClient(payer, timeout=TIMEOUT_SECONDS) as client:
        for _ in range(arguments.repeat):
            signed.clear()
            try:
                response = await client.request(
                    arguments.method,
                    arguments.url,
                    content=arguments.body,
                    headers=headers,
                )
                line = show(response, signed)
                is_served = is_served and response.is_success
            except (PaymentError, httpx.HTTPError) as error:
                line = {"error": str(error) or type(error).__name__}
                is_served = False
            print(json.dumps(line), flush=True)
    return is_served


def main() -> None:
    """Run from the command line."""
    arguments = read_arguments()
    private_key = os.environ.get(arguments.key_env)
    if not private_key:
        sys.exit(f"Set {arguments.key_env} to the private key of the wallet that pays.")
    sys.exit(0 if asyncio.run(pay(arguments, private_key)) else 1)


if __name__ == "__main__":
    main()
