// A stock client of x402 version 2 calls a URL so many times and tells what it got.
// usage: BUYER_KEY=0x… [METHOD=permit2] node pay.mjs URL [TIMES]
import { ExactEvmScheme } from "@x402/evm";
import { decodePaymentResponseHeader, wrapFetchWithPayment, x402Client } from "@x402/fetch";
import { privateKeyToAccount } from "viem/accounts";

const [url, times = "1"] = process.argv.slice(2);
const account = privateKeyToAccount(process.env.BUYER_KEY);
const client = new x402Client().register("eip155:*", new ExactEvmScheme(account));
const method = process.env.METHOD;
if (method) {
  client.registerPolicy((_, offered) => offered.filter((one) => one.extra?.assetTransferMethod === method));
}
const pay = wrapFetchWithPayment(fetch, client);

for (let call = 0; call < Number(times); call++) {
  const answer = await pay(url);
  const result = answer.headers.get("PAYMENT-RESPONSE");
  console.log(
    JSON.stringify({
      status: answer.status,
      body: await answer.json(),
      charged: answer.headers.get("Credits-Charged"),
      remaining: answer.headers.get("Credits-Remaining"),
      payment: result && decodePaymentResponseHeader(result),
    }),
  );
}
