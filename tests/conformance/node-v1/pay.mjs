// A stock client of x402 version 1, with its default cap of $0.10, calls a URL so many
// times and tells what it got.
// usage: BUYER_KEY=0x… node pay.mjs URL [TIMES]
import { createWalletClient, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { baseSepolia } from "viem/chains";
import { decodeXPaymentResponse, wrapFetchWithPayment } from "x402-fetch";

const [url, times = "1"] = process.argv.slice(2);
const wallet = createWalletClient({
  account: privateKeyToAccount(process.env.BUYER_KEY),
  chain: baseSepolia,
  // Paying is signing only; nobody listens there.
  transport: http("http://127.0.0.1:1"),
});
const pay = wrapFetchWithPayment(fetch, wallet);

for (let call = 0; call < Number(times); call++) {
  const answer = await pay(url);
  const result = answer.headers.get("X-PAYMENT-RESPONSE");
  console.log(
    JSON.stringify({
      status: answer.status,
      body: await answer.json(),
      charged: answer.headers.get("Credits-Charged"),
      remaining: answer.headers.get("Credits-Remaining"),
      payment: result && decodeXPaymentResponse(result),
    }),
  );
}
