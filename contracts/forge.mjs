// Runs the forge of this platform and hands its exit code on. The `forge` that npm links does not: it exits 0
// when tests fail (@foundry-rs/forge 1.7.1), so a red suite would look green.
import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const cpu = { x64: "amd64", arm64: "arm64" }[process.arch];
const binary = createRequire(import.meta.url).resolve(`@foundry-rs/forge-${process.platform}-${cpu}/bin/forge`);
const here = fileURLToPath(new URL(".", import.meta.url));
process.exit(spawnSync(binary, process.argv.slice(2), { cwd: here, stdio: "inherit" }).status ?? 1);
