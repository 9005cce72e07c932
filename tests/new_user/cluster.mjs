// The example of a cluster as its words say: a tab listens on one broker to what the command line sends through
// another, while a third is killed and comes back. SHARDCAST_BIN and NATS_SERVER name the programs.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { after, test } from "node:test";

import { BINARY } from "../stage/machine.mjs";
import { launch, root, run } from "./stage.mjs";

const MESSAGES = 30;

/** Starts the example; gives what it says until it stands, by lines. */
async function start() {
  const script = run("examples/cluster/run.sh", [], { SHARDCAST_BIN: BINARY });
  after(async () => {
    const ended = once(script, "exit");
    script.kill("SIGTERM");
    await ended;
  });
  const said = [];
  for await (const line of createInterface({ input: script.stdout })) {
    said.push(line.trim());
    if (line.startsWith("Their logs are in")) return said;
  }
  throw new Error(`it does not stand: ${said.join("\n")}`);
}

/** Runs the command line to its end. */
async function shardcast(...args) {
  const child = run(BINARY, args);
  child.stdout.resume();
  let wrong = "";
  child.stderr.on("data", (data) => (wrong += data));
  const [code] = await once(child, "exit");
  assert.equal(code, 0, `${args.join(" ")}: ${wrong}`);
}

test("a tab on one node hears what goes in at another, while a third is killed and comes back", { timeout: 90_000 }, async () => {
  const said = await start();
  const line = (begin) => {
    const found = said.find((of) => of.startsWith(begin));
    assert.ok(found, `it does not say ${begin}…`);
    return found;
  };
  const at = (port) => ["--url", `ws://127.0.0.1:${port}/ws`];
  await shardcast("create", ...at(8081), "orders");

  const files = createServer(async (request, response) => {
    response.setHeader("content-type", request.url.endsWith(".js") ? "text/javascript" : "text/html");
    response.end(request.url.endsWith(".js") ? await readFile(new URL(`.${request.url}`, root)) : "<!doctype html>");
  });
  files.listen(0, "127.0.0.1");
  await once(files, "listening");
  after(() => files.close());
  const page = await (await launch()).newPage();
  await page.goto(`http://127.0.0.1:${files.address().port}/`);
  await page.evaluate(async () => {
    const { connect } = await import("/clients/js/dist/shardcast.js");
    globalThis.seen = [];
    const shard = connect("http://127.0.0.1:8081");
    await shard.subscribe("orders", {
      onEvent: ({ seq, payload }) => globalThis.seen.push([seq, payload.n]),
      onGap: (gap) => globalThis.seen.push(gap),
    }).ready;
  });

  let again;
  for (let n = 1; n <= MESSAGES; n++) {
    await shardcast("pub", ...at(8083), "orders", JSON.stringify({ n }));
    if (n === MESSAGES / 3) {
      process.kill(Number(line("kill -KILL ").split(" ").at(-1)), "SIGKILL");
      await assert.rejects(fetch("http://127.0.0.1:8082/health"), "the second is gone");
    }
    if (n === (MESSAGES / 3) * 2) again = run("/bin/sh", ["-c", `exec env ${line("CLUSTER_URL=")}`]);
  }
  again.stderr.resume();
  await page.waitForFunction((all) => globalThis.seen.length >= all, MESSAGES);
  const wanted = Array.from({ length: MESSAGES }, (_, at) => [at + 1, at + 1]);
  assert.deepEqual(await page.evaluate(() => globalThis.seen), wanted);
  // The one that came back has all of it too.
  for (;;) {
    const ready = await fetch("http://127.0.0.1:8082/ready").catch(() => undefined);
    if (ready?.ok) break;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const { messages } = await (await fetch("http://127.0.0.1:8082/topics/orders/messages")).json();
  assert.deepEqual(messages.map(({ seq, message }) => [seq, message.payload.n]), wanted);
});
