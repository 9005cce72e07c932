// Builds dist/ from src/: one minified module and its types. With --check it builds
// beside it and fails where the committed files are not what the source builds.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { buildSync } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const dist = join(here, "dist");

function build(into) {
  buildSync({
    absWorkingDir: here,
    entryPoints: ["src/index.ts"],
    outfile: join(into, "shardcast.js"),
    bundle: true,
    format: "esm",
    target: "es2022",
    minify: true,
    // Names that end in _ are between the files of src/, and nobody else's.
    mangleProps: /[^_]_$/,
    legalComments: "none",
  });
  const tsc = join(here, "node_modules/typescript/bin/tsc");
  execFileSync(process.execPath, [tsc, "--emitDeclarationOnly", "--outDir", into], { cwd: here, stdio: "inherit" });
}

if (process.argv[2] === "--check") {
  const fresh = mkdtempSync(join(tmpdir(), "shardcast-js-"));
  try {
    build(fresh);
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
  build(dist);
}
