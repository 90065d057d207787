// A server that is not Python and sells one route through Tallystick:
// GET /fortunes?count=3 costs half a credit a fortune (see catalog.toml).
//
// Two questions are all there is to it: may this request be served, and how did it go.
// No dependencies; Node 18.3 or later.

import { createHash } from "node:crypto";
import { createServer } from "node:http";

const TALLYSTICK = process.env.TALLYSTICK_URL ?? "http://127.0.0.1:8402";
const KEY = process.env.TALLYSTICK_SERVICE_KEY;
const PORT = Number(process.env.PORT ?? 8403);
const FORTUNES = ["You will pay and go on.", "A notch is cut.", "Both halves match."];

async function ask(verb, question) {
  const answer = await fetch(`${TALLYSTICK}/api/paywall/${verb}`, {
    method: "POST",
    headers: { authorization: `Bearer ${KEY}`, "content-type": "application/json" },
    body: JSON.stringify(question),
    signal: AbortSignal.timeout(60_000), // a payment may take a while to settle
  });
  const told = await answer.json();
  if (!answer.ok) throw new Error(`${verb}: ${told.code}: ${told.detail}`);
  return told;
}

// Serves the request with what `work` returns for the quantity that was priced.
async function sell(feature, request, response, work) {
  const body = Buffer.concat(await request.toArray());
  const verdict = await ask("authorize", {
    feature,
    method: request.method,
    url: address() + request.url, // exactly as it came: a payment is bound to it
    headers: request.headersDistinct,
    body_sha256: createHash("sha256").update(body).digest("hex"),
  });
  if (verdict.verdict === "answer") {
    response.writeHead(verdict.status, verdict.headers);
    response.end(Buffer.from(verdict.body_base64, "base64"));
    return;
  }
  const { admission } = verdict;
  let result;
  try {
    result = Buffer.from(JSON.stringify(await work(verdict.quantity, body)));
  } catch (error) {
    const failed = await ask("complete", { admission, outcome: "failed" });
    response.writeHead(500, failed.headers).end(`${error.message}\n`);
    return;
  }
  const headers = { "content-type": "application/json" };
  // Charged before the first byte leaves. With `answer`, a copy of a request whose
  // answer got lost is given the same one again.
  const answer = { status: 200, headers, body_base64: result.toString("base64") };
  const charged = await ask("complete", { admission, outcome: "served", answer });
  response.writeHead(200, { ...headers, ...charged.headers }).end(result);
}

async function tellFortunes(count) {
  if (count === 13) throw new Error("Thirteen brings bad luck. Nothing was charged.");
  return Array.from({ length: count }, () => ({
    fortune: FORTUNES[Math.floor(Math.random() * FORTUNES.length)],
    lucky: Math.floor(Math.random() * 1e9),
  }));
}

const server = createServer((request, response) => {
  const url = new URL(request.url, "http://localhost");
  if (url.pathname !== "/fortunes") {
    response.writeHead(404).end("There is only /fortunes?count=3.\n");
    return;
  }
  if (request.method !== "GET") {
    response.writeHead(405, { allow: "GET" }).end();
    return;
  }
  // As many as were priced: who reads the address again may read another number.
  sell("fortune", request, response, tellFortunes).catch((error) => {
    console.error(error.message);
    // Not charged, or not known to be: then nothing may leave.
    if (!response.headersSent) response.writeHead(503, { "retry-after": "1" });
    response.end();
  });
});
const address = () => process.env.SELF_URL ?? `http://127.0.0.1:${server.address().port}`;
server.listen(PORT, "127.0.0.1", () => console.log(`fortunes at ${address()}`));
