// A new user's first day, as the README tells it: a server, the console, a page with the JavaScript client, a
// publisher in Python, curl on the event stream, and a restart of the server in the middle. Nothing may be lost, and
// nothing doubled. SHARDCAST_BIN names the server, PYTHON an interpreter that has the Python client.
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { after, test } from "node:test";

import { launch, root, run, serve } from "./stage.mjs";

const COUNT = 400;
const RESTART_AT = 150;

/** The page of a user, on a server of their own. */
async function pages() {
  const client = await readFile(new URL("clients/js/dist/shardcast.js", root));
  const site = createServer((request, response) => {
    const isClient = request.url === "/shardcast.js";
    response.setHeader("content-type", isClient ? "text/javascript" : "text/html");
    response.end(isClient ? client : "<!doctype html><title>orders</title>");
  });
  site.listen(0, "127.0.0.1");
  await once(site, "listening");
  after(() => site.close());
  return `http://127.0.0.1:${site.address().port}/`;
}

test("a first day", { timeout: 90_000 }, async () => {
  let { server, port } = await serve();
  const base = `http://127.0.0.1:${port}`;
  const browser = await launch();

  const page = await browser.newPage();
  await page.goto(await pages());
  await page.evaluate(async (url) => {
    const { connect } = await import("/shardcast.js");
    window.got = [];
    window.states = [];
    const shard = connect(url, { onState: (state) => window.states.push(state) });
    const subscription = shard.subscribe("orders", {
      last: 1000,
      onEvent: ({ payload }) => window.got.push(payload.number),
    });
    await subscription.ready;
  }, `ws://127.0.0.1:${port}/ws`);

  const curl = run("curl", ["-sN", `${base}/topics/orders/events?last=1000`]);
  let stream = "";
  curl.stdout.on("data", (data) => { stream += data; });

  const consolePage = await browser.newPage();
  const faults = [];
  consolePage.on("pageerror", (error) => faults.push(error));
  await consolePage.goto(`${base}/console`);

  const publisher = run(process.env.PYTHON ?? "python3", [
    new URL("publish.py", import.meta.url).pathname, `ws://127.0.0.1:${port}/ws`, String(COUNT),
  ]);
  publisher.stderr.pipe(process.stderr);
  let published = 0;
  let restarted;
  const restart = async () => {
    const ended = once(server, "exit");
    server.kill("SIGTERM");
    const [code] = await ended;
    assert.equal(code, 0, "a server that is asked to end does so");
    ({ server } = await serve(port));
  };
  for await (const line of createInterface({ input: publisher.stdout })) {
    published = Number(line);
    if (published === RESTART_AT) {
      restarted = restart();
    }
  }
  await restarted;
  assert.equal(published, COUNT, "the publisher has heard of every message");

  await page.waitForFunction((count) => window.got.includes(count), COUNT, { timeout: 20_000 });
  const { got, states } = await page.evaluate(() => ({ got: window.got, states: window.states }));
  const all = Array.from({ length: COUNT }, (_, index) => index + 1);
  assert.deepEqual(got, all, "each message once, in order");
  assert.ok(states.filter((state) => state === "open").length >= 2, `${states}`);

  // What curl has seen is whole up to the restart, and tells of it.
  const events = stream.split("\n").filter((line) => line.startsWith("data: {\"type\":\"event\""));
  const numbers = events.map((line) => JSON.parse(line.slice(6)).message.payload.number);
  assert.ok(numbers.length >= RESTART_AT, `${numbers.length}`);
  assert.deepEqual(numbers, all.slice(0, numbers.length));
  assert.match(stream, /\nevent: shutting_down\n/);

  // The console has come back by itself, and shows the topic.
  await consolePage.getByRole("link", { name: "Topics" }).first().click();
  await consolePage.getByRole("link", { name: "orders" }).first().waitFor({ timeout: 20_000 });
  assert.deepEqual(faults, []);
});
