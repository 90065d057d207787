// A browser and its wallet, as far as the page asks for them: run its script, press its
// buttons, tell what it asked and showed. Arguments: the page, the account, the answer.
import { readFileSync } from "node:fs";

const [page, account, answer] = process.argv.slice(2);
const script = /<script>([\s\S]*)<\/script>/.exec(readFileSync(page, "utf8"))[1];
const elements = {};
const document = {
  getElementById: (id) => (elements[id] ??= { hidden: true, textContent: "" }),
};
const asked = [];
const answers = {
  eth_requestAccounts: [account.toUpperCase().replace("0X", "0x")],
  eth_chainId: "0x1",
  wallet_switchEthereumChain: null,
  eth_signTypedData_v4: answer,
  eth_sendTransaction: "0x" + "ab".repeat(32),
};
const request = async ({ method, params }) => {
  asked.push({ method, params });
  if (!(method in answers)) throw new Error("no such method: " + method);
  return answers[method];
};
const window = { ethereum: account === "none" ? undefined : { request } };
new Function("document", "window", script)(document, window);
await elements.sign.onclick();
if (!elements.send.hidden) await elements.send.onclick();
console.log(JSON.stringify({ asked, told: elements.told.textContent,
  line: elements.line?.textContent ?? "" }));
