// Builds dist/, which is committed and compiled into the binary.

import { readFileSync, writeFileSync, existsSync } from "node:fs";
import { gunzipSync, gzipSync, constants } from "node:zlib";
import { build } from "esbuild";

process.chdir(import.meta.dirname);

// uPlot's licence asks that its notice goes wherever it goes; minifying takes comments away.
const notice = `/*! Contains uPlot.\n\n${readFileSync("node_modules/uplot/LICENSE", "utf8").trim()}\n*/`;

const bundled = await build({
  entryPoints: { console: "src/main.ts", "console-style": "src/style.css" },
  outdir: "dist",
  bundle: true,
  minify: true,
  format: "iife",
  target: ["chrome123", "firefox120", "safari17.5"],
  charset: "utf8",
  legalComments: "none",
  banner: { js: notice, css: notice },
  write: false,
});

const files = bundled.outputFiles.map(({ path, contents }) => [
  path.replace(/.*\//, "").replace("console-style", "console"),
  Buffer.from(contents),
]);
for (const name of ["index.html", "icon.svg"]) files.push([name, readFileSync(`src/${name}`)]);

for (const [name, content] of files) {
  writeFileSync(`dist/${name}`, content);
  // Versions of zlib differ in what they make of the same bytes: one that is right stays.
  const packed = `dist/${name}.gz`;
  if (existsSync(packed) && gunzipSync(readFileSync(packed)).equals(content)) continue;
  writeFileSync(packed, gzipSync(content, { level: constants.Z_BEST_COMPRESSION }));
}
for (const [name, content] of files) {
  console.log(name.padEnd(12), content.length, gzipSync(content, { level: 9 }).length);
}
