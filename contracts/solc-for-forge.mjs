#!/usr/bin/env node
// What forge asks of a compiler, answered by the one from npm: nothing is downloaded, nothing native is needed.
import { readFileSync } from "node:fs";
import { solc } from "./compiler.mjs";

if (process.argv.includes("--version")) {
  console.log(`solc, the solidity compiler commandline interface\nVersion: ${solc.version()}`);
} else if (process.argv.includes("--standard-json")) {
  process.stdout.write(solc.compile(readFileSync(0, "utf8")));
} else {
  console.error("only --version and --standard-json");
  process.exit(2);
}
