// Compiles src/ into build/, one JSON file per contract that can stand alone.
//   node build.mjs           writes build/
//   node build.mjs --check   writes nothing; exits 1 unless build/ is exactly what src/ compiles to
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { settings, solc } from "./compiler.mjs";

const here = (path) => new URL(path, import.meta.url);
const list = (path, end) => readdirSync(here(path)).filter((name) => name.endsWith(end)).sort();

/** Compile every file of src/; source names are relative, so no path of this machine gets in. */
function compile() {
  const sources = {};
  for (const name of list("src/", ".sol")) {
    sources[`src/${name}`] = { content: readFileSync(here(`src/${name}`), "utf8") };
  }
  const outputSelection = {
    "*": { "*": ["abi", "evm.bytecode", "evm.deployedBytecode.object", "evm.deployedBytecode.immutableReferences"] },
  };
  const input = { language: "Solidity", sources, settings: { ...settings, outputSelection } };
  const read = (path) => ({ contents: readFileSync(here(`node_modules/${path}`), "utf8") });
  const output = JSON.parse(solc.compile(JSON.stringify(input), { import: read }));
  for (const fault of output.errors ?? []) console.error(fault.formattedMessage);
  if (output.errors?.length) throw new Error("src/ does not compile without errors and warnings");
  return output.contracts;
}

/** JSON with a line for each key and each entry of the ABI, so that a diff can be read. */
function print(artifact) {
  const lines = (entries) => entries.map((entry) => `  ${JSON.stringify(entry)}`).join(",\n");
  const value = (item) => (Array.isArray(item) ? `[\n${lines(item)}\n ]` : JSON.stringify(item));
  const pairs = Object.entries(artifact).map(([key, item]) => ` ${JSON.stringify(key)}: ${value(item)}`);
  return `{\n${pairs.join(",\n")}\n}\n`;
}

/** The text of each file of build/, by its name. */
function artifacts() {
  const files = {};
  for (const [source, contracts] of Object.entries(compile())) {
    for (const [name, { abi, evm }] of Object.entries(contracts)) {
      const standsAlone = source.startsWith("src/") && evm.bytecode.object && abi.length > 0;
      if (!standsAlone) continue;
      const artifact = {
        contractName: name,
        sourceName: source,
        compiler: { name: "solc", version: solc.version(), settings },
        abi,
        bytecode: `0x${evm.bytecode.object}`,
        deployedBytecode: `0x${evm.deployedBytecode.object}`,
        immutableReferences: evm.deployedBytecode.immutableReferences ?? {},
      };
      files[`${name}.json`] = print(artifact);
    }
  }
  return files;
}

/** The names of files in build/ that differ from what was compiled, are missing, or have no source. */
function stale(files) {
  const committed = {};
  for (const name of list("build/", "")) committed[name] = readFileSync(here(`build/${name}`), "utf8");
  const names = new Set([...Object.keys(files), ...Object.keys(committed)]);
  return [...names].filter((name) => files[name] !== committed[name]);
}

mkdirSync(here("build/"), { recursive: true });
const files = artifacts();
if (process.argv.includes("--check")) {
  const wrong = stale(files);
  for (const name of wrong) console.error(`build/${name} is not what src/ compiles to; run: npm run build`);
  if (!wrong.length) console.log(`build/ matches src/ (${Object.keys(files).length} contracts)`);
  process.exit(wrong.length ? 1 : 0);
}
for (const name of stale(files)) rmSync(here(`build/${name}`), { force: true });
for (const [name, text] of Object.entries(files)) writeFileSync(here(`build/${name}`), text);
console.log(`wrote ${Object.keys(files).map((name) => `build/${name}`).join(", ")}`);
