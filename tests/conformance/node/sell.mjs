// A stock seller of x402 version 2, whose payments a facilitator settles.
// usage: FACILITATOR_KEY=… node sell.mjs FACILITATOR_URL PAY_TO
// It says its own URL, then serves until it is killed.
import { createServer } from "node:http";
import {
  HTTPFacilitatorClient,
  x402HTTPResourceServer,
  x402ResourceServer,
} from "@x402/core/server";
import { ExactEvmScheme } from "@x402/evm/exact/server";

const [facilitator, payTo] = process.argv.slice(2);
const network = "eip155:84532";
const own = { Authorization: `Bearer ${process.env.FACILITATOR_KEY}` };
const client = new HTTPFacilitatorClient({
  url: facilitator,
  createAuthHeaders: async () => ({ verify: own, settle: own, supported: own }),
});
const core = new x402ResourceServer(client).register(network, new ExactEvmScheme());
const seller = new x402HTTPResourceServer(core, {
  "GET /weather": { accepts: { scheme: "exact", network, payTo, price: "$0.01" } },
});
await seller.initialize();

const asked = (request) => ({
  path: "/weather",
  method: request.method,
  paymentHeader: request.headers["payment-signature"],
  adapter: {
    getHeader: (name) => request.headers[name.toLowerCase()],
    getMethod: () => request.method,
    getPath: () => "/weather",
    getUrl: () => `http://${request.headers.host}/weather`,
    getAcceptHeader: () => "application/json",
    getUserAgent: () => "stock",
  },
});

function tell(response, { status, headers, body }) {
  response.writeHead(status, { "Content-Type": "application/json", ...headers });
  response.end(JSON.stringify(body ?? {}));
}

const http = createServer(async (request, response) => {
  const context = asked(request);
  const admitted = await seller.processHTTPRequest(context);
  if (admitted.type !== "payment-verified") return tell(response, admitted.response);
  const settled = await seller.processSettlement(
    admitted.paymentPayload,
    admitted.paymentRequirements,
    admitted.declaredExtensions,
    { request: context },
  );
  if (!settled.success) return tell(response, settled.response);
  tell(response, { status: 200, headers: settled.headers, body: { weather: "fine" } });
});
http.listen(0, "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${http.address().port}/weather`);
});
