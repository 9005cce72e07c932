// What the README says is so.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { promisify } from "node:util";
import { serve } from "./server.js";

const read = (name) => readFileSync(new URL(`../${name}`, import.meta.url), "utf8");
const readme = read("README.md");

for (const flags of [["--experimental-websocket"], ["--no-experimental-websocket"]])
  test(`its example runs with ${flags}`, async (t) => {
    const broker = await serve(t);
    await broker.topic("orders");
    const [, example] = readme.match(/```js\n(.*?)```/s);
    const program = example
      .replace('"shardcast"', JSON.stringify(new URL("../dist/shardcast.js", import.meta.url)))
      .replace("ws://localhost:8080/ws", broker.ws);
    const run = promisify(execFile)(process.execPath, [...flags, "--input-type=module", "--eval", program], { timeout: 10_000 });
    const [first, ...rest] = (await run).stdout.trim().split("\n");
    assert.match(first, /^message 1, to [01] subscriber$/);
    assert.deepEqual(rest, ["orders 1 paid"]);
  });

test("it has every option", () => {
  const optional = (file, name) => {
    const [, body] = read(file).match(new RegExp(`interface ${name}\\b.*?\\{(.*?)\\n\\}`, "s"));
    return [...body.matchAll(/^ {4}(\w+)\?:/gm)].map(([, option]) => option);
  };
  const all = [
    ...optional("dist/client.d.ts", "ConnectOptions"),
    ...optional("dist/client.d.ts", "PublishOptions"),
    ...optional("dist/subscription.d.ts", "SubscribeOptions"),
  ];
  assert.ok(all.length > 20);
  for (const option of all) assert.ok(readme.includes(`| \`${option}\` |`), option);
});
