// One compiler and one set of settings, for the build and for forge.
import { createRequire } from "node:module";

export const solc = createRequire(import.meta.url)("solc");

export const settings = {
  evmVersion: "prague",
  optimizer: { enabled: true, runs: 200 },
  // Neither a hash of the sources nor the compiler's name in the bytecode: what remains is what the code does.
  metadata: { bytecodeHash: "none", appendCBOR: false },
};
