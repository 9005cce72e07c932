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

async function open(path, through = port) {
  const page = await browser.newPage();
  page.faults = [];
  page.on("pageerror", (error) => page.faults.push(error));
  await page.goto(`${site}${path}&url=${encodeURIComponent(`ws://127.0.0.1:${through}/ws`)}`);
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

test("a price board stays fresh on a slow line, and its log has every price", { timeout: 60_000 }, async () => {
  const python = process.env.PYTHON ?? "python3";
  const url = `ws://127.0.0.1:${port}/ws`;
  // A third of what is published, at some 190 bytes a price: 100 of 300 a second.
  const line = run(python, ["tests/new_user/slow_line.py", String(port), "19000"]);
  const [slow] = (await once(line.stdout, "data")).toString().split("\n");

  const log = run(python, ["examples/price-board/audit.py", "prices.gold", "--url", url]);
  let written = "";
  log.stdout.on("data", (data) => { written += data; });
  log.stderr.pipe(process.stderr);

  const board = await open("/examples/price-board/?", slow);
  const everything = await open("/examples/price-board/?all", slow);
  for (const page of [board, everything]) await page.getByText("open").waitFor();
  const market = run(python, ["examples/price-board/prices.py", "--url", url, "--count", "3000"]);
  market.stderr.pipe(process.stderr);
  const ended = once(market, "exit");

  // Whatever is the newest now is there, or a newer one, within a bound.
  const newest = async () => {
    const { topics } = await (await fetch(`http://127.0.0.1:${port}/stats`)).json();
    const prices = Object.entries(topics).filter(([topic]) => topic.startsWith("prices."));
    return prices.map(([topic, { seq }]) => [topic.slice("prices.".length), seq]);
  };
  const shows = async (page, prices, within) => {
    await page.waitForFunction((wanted) => {
      const rows = [...document.querySelectorAll("#prices tr")].map(({ cells }) => [cells[0].textContent, Number(cells[2].textContent)]);
      const shown = new Map(rows);
      return wanted.every(([name, seq]) => shown.get(name) >= seq);
    }, prices, { timeout: within });
  };
  await board.locator("#prices tr").nth(11).waitFor({ timeout: 20_000 });
  for (let look = 0; look < 5; look += 1) await shows(board, await newest(), 4_000);
  const [code] = await ended;
  assert.equal(code, 0);
  const last = await newest();
  await shows(board, last, 4_000);

  const figures = await board.evaluate(() => ({
    skipped: [...document.querySelectorAll("#prices tr")].reduce((sum, { cells }) => sum + Number(cells[3].textContent), 0),
    lost: document.getElementById("lost").textContent,
  }));
  assert.ok(figures.skipped > 500, `${figures.skipped} skipped: the line was not slow`);
  assert.equal(figures.lost, "", "what was skipped is no loss");
  // Who asks for everything on such a line is told what it lost.
  await everything.waitForFunction(() => /^\d+ lost\.$/.test(document.getElementById("lost").textContent), null, { timeout: 20_000 });

  const [, gold] = last.find(([name]) => name === "gold");
  const lines = () => written.trim().split("\n").map((text) => JSON.parse(text));
  while (!written.endsWith("\n") || lines().at(-1).seq < gold) await once(log.stdout, "data");
  assert.deepEqual(lines().map(({ seq }) => seq), Array.from({ length: gold }, (_, index) => index + 1));
  for (const page of [board, everything]) assert.deepEqual(page.faults, []);
});
