// Pay for any URL with a stock x402 client: `node pay.mjs URL`.
//
// Prints one JSON line for each call: its status, what was signed for it, what became of
// the payment, the headers and the body. Ends with 1 if a call was refused.

import { parseArgs } from "node:util";
import { ExactEvmScheme } from "@x402/evm";
import {
  decodePaymentResponseHeader,
  wrapFetchWithPayment,
  x402Client,
} from "@x402/fetch";
import { privateKeyToAccount } from "viem/accounts";

const USAGE = `usage: pay.mjs URL [--key-env BUYER_KEY] [--max-usd USD]
               [--method GET] [--body JSON] [--repeat N]`;

function readArguments() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      "key-env": { type: "string", default: "BUYER_KEY" },
      "max-usd": { type: "string" },
      method: { type: "string", default: "GET" },
      body: { type: "string" },
      repeat: { type: "string", default: "1" },
      help: { type: "boolean" },
    },
  });
  if (positionals.length !== 1 || values.help) throw new Error(USAGE);
  return { ...values, url: positionals[0] };
}

// A client that signs USDC payments on any EVM chain; it needs no node.
function makePayer(privateKey, maxUsd) {
  const account = privateKeyToAccount(privateKey);
  const payer = new x402Client().register("eip155:*", new ExactEvmScheme(account));
  // The client's own cap is $1 a payment.
  if (maxUsd) payer.setSpendControls({ maxAmountPerPayment: `$${maxUsd}` });
  return payer;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

async function show(response, signed) {
  const payment = response.headers.get("payment-response");
  return {
    status: response.status,
    signed,
    payment: payment && decodePaymentResponseHeader(payment),
    headers: Object.fromEntries(response.headers),
    body: parsed(await response.text()),
  };
}

async function pay(options, privateKey) {
  const payer = makePayer(privateKey, options["max-usd"]);
  const fetchAndPay = wrapFetchWithPayment(fetch, payer);
  let signed = [];
  payer.onAfterPaymentCreation(async ({ selectedRequirements }) => {
    const { extra, ...chosen } = selectedRequirements;
    signed.push(chosen);
  });
  const headers = options.body ? { "Content-Type": "application/json" } : {};
  let isServed = true;
  for (let call = 0; call < Number(options.repeat); call++) {
    signed = [];
    let line;
    try {
      const { method, body } = options;
      const response = await fetchAndPay(options.url, { method, body, headers });
      line = await show(response, signed);
      isServed &&= response.ok;
    } catch (error) {
      line = { error: error.message };
      isServed = false;
    }
    console.log(JSON.stringify(line));
  }
  return isServed;
}

try {
  const options = readArguments();
  const privateKey = process.env[options["key-env"]];
  if (!privateKey)
    throw new Error(`Set ${options["key-env"]} to the private key of the wallet that pays.`);
  process.exitCode = (await pay(options, privateKey)) ? 0 : 1;
} catch (error) {
  console.error(error.message);
  process.exitCode = 2;
}
