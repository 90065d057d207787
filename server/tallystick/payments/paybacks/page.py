"""The page on which the seller's wallet signs for a payback; a file, asked of nobody.

It holds what is to be signed and nothing secret. It loads nothing, and sends nothing but
to the wallet that the browser has: what was signed is shown, for the command line.
"""

import html
import json
from string import Template
from typing import Any

from tallystick.chain.settlement import settlement_call
from tallystick.kernel.ids import encode_id
from tallystick.kernel.money import format_usdc
from tallystick.payments.models.paybacks import Payback
from tallystick.payments.paybacks.terms import authorization_of, typed_data
from tallystick.x402.keccak import checksum_address
from tallystick.x402.wire import TokenDomain

_V_R_S_BYTES = 96
_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Pay back $usdc</title>
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 44rem; margin: 3rem auto; padding: 0 1rem }
dt { font-weight: 600 } dd { margin: 0 0 .5rem; overflow-wrap: anywhere }
button { font: inherit; padding: .5rem 1rem; margin-right: .5rem }
pre { white-space: pre-wrap; overflow-wrap: anywhere; padding: 1rem;
 border: 1px solid; border-radius: .5rem }
</style>
</head>
<body>
<h1>Pay back $usdc</h1>
<dl>
<dt>To the wallet that paid</dt><dd>$to</dd>
<dt>From</dt><dd>$sender</dd>
<dt>Payback</dt><dd>$name</dd>
<dt>Why</dt><dd>$reason</dd>
</dl>
<p>Signing moves nothing by itself. Whoever has the signature can move just this money,
to just this wallet, once.</p>
<p><button id="sign">Sign</button><button id="send" hidden>Send it myself</button></p>
<p id="told" role="status"></p>
<pre id="line" hidden></pre>
<script>
"use strict";
const asked = $asked;
const show = (id, text) => {
  const found = document.getElementById(id);
  found.textContent = text;
  found.hidden = false;
};
const ask = (method, params = []) => {
  if (!window.ethereum) throw new Error(
    "No wallet is in this page. Some give none to files: let yours reach file URLs,"
    + " or open the page from a server on this machine.");
  return window.ethereum.request({ method, params });
};
const wallet = async () => {
  const accounts = await ask("eth_requestAccounts");
  const wanted = asked.request.message.from.toLowerCase();
  if (!accounts.some((one) => one.toLowerCase() === wanted))
    throw new Error("Choose " + asked.request.message.from + " in your wallet.");
  if (Number(await ask("eth_chainId")) !== asked.request.domain.chainId)
    await ask("wallet_switchEthereumChain", [
      { chainId: "0x" + asked.request.domain.chainId.toString(16) }]);
};
const trying = (work) => async () => {
  try { await work(); } catch (error) { show("told", error.message || String(error)); }
};
let signature = "";
document.getElementById("sign").onclick = trying(async () => {
  await wallet();
  const from = asked.request.message.from;
  signature = await ask("eth_signTypedData_v4", [from, JSON.stringify(asked.request)]);
  show("told", "Signed. Hand it to the server, which sends it:");
  show("line", "tallystick payback sign " + asked.name + " " + signature);
  document.getElementById("send").hidden = signature.length !== 132;
});
document.getElementById("send").onclick = trying(async () => {
  await wallet();
  const [r, s, v] = [[2, 66], [66, 130], [130, 132]].map((at) => signature.slice(...at));
  const mark = parseInt(v, 16) < 27 ? parseInt(v, 16) + 27 : parseInt(v, 16);
  const data = asked.call + mark.toString(16).padStart(64, "0") + r + s;
  const from = asked.request.message.from;
  const to = asked.request.domain.verifyingContract;
  const sent = await ask("eth_sendTransaction", [{ from, to, data }]);
  show("told", "Sent as " + sent + ". The server sees it once its block is final.");
});
</script>
</body>
</html>
""")


def signing_page(domain: TokenDomain, payback: Payback) -> str:
    """The page for a payback that was handed out."""
    terms = authorization_of(payback)
    name = encode_id("pbk", payback.id)
    whole = settlement_call(terms, bytes(65))
    asked = {
        "name": name,
        "request": typed_data(domain, terms),
        "call": f"0x{whole[:-_V_R_S_BYTES].hex()}",
    }
    told = {
        "usdc": format_usdc(payback.usdc),
        "to": checksum_address(terms.pay_to),
        "sender": checksum_address(terms.payer),
        "name": name,
        "reason": payback.reason,
    }
    escaped = {key: html.escape(value) for key, value in told.items()}
    return _PAGE.substitute(escaped, asked=_in_script(asked))


def _in_script(document: dict[str, Any]) -> str:
    """JSON that cannot end the script that it stands in."""
    return json.dumps(document).replace("<", "\\u003c")
