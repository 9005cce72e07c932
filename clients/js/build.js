// Builds dist/ from src/: one minified module and its types. With --check it builds
// beside it and fails where the committed files are not what the source builds.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build as bundle } from "esbuild";
import { minify } from "terser";

const here = dirname(fileURLToPath(import.meta.url));
const dist = join(here, "dist");

async function build(into) {
  const { outputFiles } = await bundle({
    absWorkingDir: here,
    entryPoints: ["src/index.ts"],
    bundle: true,
    write: false,
    format: "esm",
    target: "es2022",
    minify: true,
    // Names that end in _ are between the files of src/, and nobody else's.
    mangleProps: /[^_]_$/,
  });
  const { code } = await minify(outputFiles[0].text, {
    module: true,
    compress: { passes: 4, ecma: 2022, unsafe: true, unsafe_arrows: true, pure_getters: true },
  });
  mkdirSync(into, { recursive: true });
  writeFileSync(join(into, "shardcast.js"), code + "\n");
  const tsc = join(here, "node_modules/typescript/bin/tsc");
  execFileSync(process.execPath, [tsc, "--emitDeclarationOnly", "--outDir", into], { cwd: here, stdio: "inherit" });
  // Nothing outside leads to these.
  for (const name of ["http", "socket", "stream", "subscriptions"]) rmSync(join(into, `${name}.d.ts`));
}

if (process.argv[2] === "--check") {
  const fresh = mkdtempSync(join(tmpdir(), "shardcast-js-"));
  try {
    await build(fresh);
    const names = [...new Set([...readdirSync(fresh), ...readdirSync(dist)])];
    const read = (file) => { try { return readFileSync(file, "utf8"); } catch { return undefined; } };
    const stale = names.filter((name) => read(join(fresh, name)) !== read(join(dist, name)));
    if (stale.length) {
      console.error(`dist/ is not what src/ builds (npm run build): ${stale.join(", ")}`);
      process.exitCode = 1;
    }
  } finally {
    rmSync(fresh, { recursive: true });
  }
} else {
  rmSync(dist, { recursive: true, force: true });
  await build(dist);
}
