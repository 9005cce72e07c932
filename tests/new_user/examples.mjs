// The pages of examples/, in a real browser against the real server. SHARDCAST_BIN names it, PYTHON an interpreter
// that has the Python client.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { once } from "node:events";
import { after, test } from "node:test";

import { launch, root, run, serve } from "./stage.mjs";

const { port } = await serve();
const browser = await launch();
const server = createServer(async (request, response) => {
  const path = request.url.split("?")[0].replace(/\/$/, "/index.html");
  try {
    const file = await readFile(new URL(`.${path}`, root));
    response.setHeader("content-type", path.endsWith(".js") ? "text/javascript" : "text/html");
    response.end(file);
  } catch {
    response.writeHead(404).end();
  }
});
server.listen(0, "127.0.0.1");
await once(server, "listening");
after(() => server.close());
const site = `http://127.0.0.1:${server.address().port}`;

async function open(path) {
  const page = await browser.newPage();
  page.faults = [];
  page.on("pageerror", (error) => page.faults.push(error));
  await page.goto(`${site}${path}&url=${encodeURIComponent(`ws://127.0.0.1:${port}/ws`)}`);
  return page;
}

test("people talk, and see who is here", { timeout: 40_000 }, async () => {
  const ada = await open("/examples/chat/?name=ada");
  await ada.getByText("open").waitFor();
  await ada.fill("#text", "anybody there?");
  await ada.click("button");
  await ada.getByText("anybody there?").waitFor();
  const grace = await open("/examples/chat/?name=grace");
  // What was said before she came.
  await grace.getByText("anybody there?").waitFor();
  await grace.fill("#text", "<img src=x onerror='document.title=1'>");
  await grace.keyboard.press("Enter");
  await ada.getByText("<img src=x").waitFor();
  for (const page of [ada, grace]) {
    await page.waitForFunction(() => document.getElementById("here").textContent === "ada, grace");
    assert.equal(await page.title(), "Chat");
    assert.deepEqual(page.faults, []);
  }
  await grace.goto("about:blank");
  await ada.waitForFunction(() => document.getElementById("here").textContent === "ada", null, { timeout: 25_000 });
});

test("orders of a Python service come to a page", { timeout: 40_000 }, async () => {
  const page = await open("/examples/order-feed/?");
  await page.getByText("live").waitFor();
  const service = run(process.env.PYTHON ?? "python3", [
    "examples/order-feed/orders.py", "--url", `ws://127.0.0.1:${port}/ws`, "--count", "5",
  ]);
  service.stderr.pipe(process.stderr);
  service.stdout.resume();
  await page.locator("#orders tr").first().waitFor({ timeout: 20_000 });
  const [code] = await once(service, "exit");
  assert.equal(code, 0);
  assert.equal(await page.locator("#gaps").textContent(), "");
  assert.deepEqual(page.faults, []);
});
