import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

test("the module has at most 5,000 bytes, gzipped, and needs nothing else", (t) => {
  const module = readFileSync(new URL("../dist/shardcast.js", import.meta.url));
  const bytes = gzipSync(module, { level: 9 }).length;
  t.diagnostic(`${bytes} bytes`);
  assert.ok(bytes <= 5000, `${bytes} bytes`);
  assert.doesNotMatch(module.toString(), /\bimport\b|\brequire\(/);
  const { dependencies } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url)));
  assert.equal(dependencies, undefined);
});
