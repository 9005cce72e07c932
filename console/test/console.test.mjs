// Every flow of the console, in a real browser, against the real broker.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { Broker, Browser, folder, until } from "./stage.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

let browser;
const brokers = [];

before(async () => {
  browser = await Browser.start();
});

after(async () => {
  await browser.end();
  for (const broker of brokers) await broker.end();
});

async function start(settings) {
  const broker = await Broker.start(settings);
  brokers.push(broker);
  return broker;
}

async function close(page) {
  assert.deepEqual(page.complaints, []);
  await page.context().close();
}

const shows = (page, text) => page.getByText(text).first().waitFor();
const tile = (page, label) => page.locator(".tile", { hasText: label }).locator(".figure");
const pill = (page) => page.locator(".top .pill");

describe("without keys", () => {
  let broker;

  before(async () => {
    broker = await start({ SUBSCRIBER_QUEUE_SIZE: "10", API_KEYS: "unused-secret" });
    await broker.create("orders", "prices");
    broker.subscribe("orders", "reader");
    await until("the reader", async () => (await (await broker.call("GET", "/health")).json()).subscribers === 1);
  });

  test("the overview shows what happens", async () => {
    const page = await browser.open(broker);
    await shows(page, "up for");
    assert.equal(await pill(page).textContent(), "Live");
    const feeding = setInterval(() => void broker.publish("orders", 1, 2, 3), 100);
    await until("a rate", async () => /^[1-9]\d*\/s$/.test(await tile(page, "Messages in").textContent()));
    await until("a latency", async () => /s$/.test(await tile(page, "Delivery, median").textContent()));
    clearInterval(feeding);
    assert.equal(await tile(page, "Topics").textContent(), "2");
    const words = await page.locator(".plot [role=img]").first().getAttribute("aria-label");
    assert.match(words, /^Throughput, now: in .+\/s, out .+\/s$/);
    assert.equal(await page.locator(".plot canvas").count(), 4);
    // Something is drawn on it.
    const isDrawn = await page.locator(".plot canvas").first().evaluate((canvas) => {
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      return data.some((value, i) => i % 4 === 3 && value > 0);
    });
    assert.ok(isDrawn);
    await close(page);
  });

  test("topics are created, found, sorted and deleted", async () => {
    const page = await browser.open(broker, "topics");
    await page.getByRole("link", { name: "orders" }).waitFor();
    for (const name of ["new one", "prices"]) {
      await page.getByLabel("New topic").fill(name);
      await page.getByRole("button", { name: "Create" }).click();
    }
    await shows(page, "topic already exists");
    await shows(page, "Topic new one created.");
    await page.getByLabel("New topic").fill("a*");
    await page.getByRole("button", { name: "Create" }).click();
    await shows(page, "allowed");

    const names = () => page.locator("tbody th").allTextContents();
    const byName = page.getByRole("button", { name: "Topic", exact: true });
    await byName.click();
    assert.deepEqual(await names(), ["new one", "orders", "prices"]);
    await byName.click();
    assert.deepEqual(await names(), ["prices", "orders", "new one"]);
    assert.equal(await page.locator("th[aria-sort]").getAttribute("aria-sort"), "descending");
    await page.getByLabel("Search").fill("NEW");
    assert.deepEqual(await names(), ["new one"]);

    const remove = page.getByRole("button", { name: "Delete topic new one" });
    await remove.click();
    const dialog = page.getByRole("dialog");
    assert.equal(await page.evaluate(() => document.activeElement.textContent), "Cancel");
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "detached" });
    assert.equal((await broker.call("GET", "/topics/new%20one")).status, 200);
    await remove.click();
    await dialog.getByRole("button", { name: "Delete topic" }).click();
    await shows(page, "Topic new one deleted.");
    assert.equal((await broker.call("GET", "/topics/new%20one")).status, 404);
    await shows(page, "No topic has that in its name.");
    await close(page);
  });

  test("a tail shows events as they were sent, waits and goes on", async () => {
    await broker.create("tailed");
    await broker.call("POST", "/topics/tailed/messages", '{"payload":{"n":12345678901234567890,"e":1.50e2,"t":"a\\u00e9","l":[],"o":{"x":null}}}');
    const page = await browser.open(broker, "topics/tailed");
    const first = page.locator(".events pre").first();
    await first.waitFor();
    assert.equal(
      await first.textContent(),
      '{\n  "n": 12345678901234567890,\n  "e": 1.50e2,\n  "t": "a\\u00e9",\n  "l": [],\n  "o": {\n    "x": null\n  }\n}',
    );
    await page.getByLabel("compact").check();
    await until("one line", async () => !(await first.textContent()).includes("\n"));

    await page.getByLabel("Payload").fill("{broken");
    await page.getByRole("button", { name: "Publish" }).click();
    await shows(page, "This is not JSON");
    await page.getByLabel("send as a text").check();
    await page.getByLabel("Payload").press("Control+Enter");
    await shows(page, "Published as #2, to 1 subscriber.");
    await until("its event", async () => (await first.textContent()) === '"{broken"');

    await page.getByRole("button", { name: "Pause" }).click();
    await broker.publish("tailed", "later");
    await shows(page, "1 since the pause");
    assert.equal(await first.textContent(), '"{broken"');
    await page.getByRole("button", { name: "Pause" }).click();
    await until("what came meanwhile", async () => (await first.textContent()) === '"later"');

    await page.getByLabel("Filter").fill("broken");
    await until("one event", async () => (await page.locator(".events li").count()) === 1);
    await page.getByLabel("Filter").fill("");

    for (let batch = 0; batch < 7; batch += 1) {
      await broker.publish("tailed", ...Array.from({ length: 100 }, (_, i) => batch * 100 + i));
      await new Promise((done) => setTimeout(done, 100));
    }
    await until("the last", async () => (await first.textContent()) === "699");
    assert.ok((await page.locator(".events li").count()) <= 500);

    await page.getByRole("button", { name: "Stop" }).click();
    await until("no subscriber", async () => (await (await broker.call("GET", "/topics/tailed")).json()).subscribers === 0);
    await page.getByRole("button", { name: "Start" }).click();
    await until("a subscriber", async () => (await (await broker.call("GET", "/topics/tailed")).json()).subscribers === 1);
    await broker.call("DELETE", "/topics/tailed");
    await shows(page, "The topic was deleted.");
    await close(page);
  });

  test("a long payload is cut, and shown when asked for", async () => {
    await broker.create("long");
    await broker.publish("long", "x".repeat(20_000));
    const page = await browser.open(broker, "topics/long");
    const code = page.locator(".events code");
    await code.waitFor();
    assert.equal((await code.textContent()).length, 3000);
    await page.getByRole("button", { name: /more characters: show/ }).click();
    assert.equal((await code.textContent()).length, 20_002);
    await close(page);
  });

  test("whatever a name or a payload holds, it stays text", async () => {
    const hit = "<img src=x onerror=window.hit=1 ";
    const hostile = [hit, "__proto__", "constructor", "a/b?c#d%20 &amp;", "x/messages", " two  blanks ", "\u202eredro"];
    await broker.create(...hostile, "..");
    await broker.publish(hit, { [hit]: `${hit}></script><script>window.hit=1</script>` }, `"'><svg onload=window.hit=1>`);
    broker.subscribe(hit, '<b onclick="window.hit=1">client</b>');
    const page = await browser.open(broker, "topics");
    await page.getByLabel("Search").fill("");
    for (const name of hostile) {
      await page.getByLabel("Search").fill(name.trim());
      await page.locator("tbody a", { has: page.locator("bdi") }).first().waitFor();
      assert.ok((await page.locator("tbody a").allTextContents()).includes(name), name);
      await page.locator("tbody tr", { has: page.locator("a", { hasText: name.trim() }) }).locator("a").first().click();
      await until("its heading", async () => (await page.locator("h1").textContent()) === name);
      await until("its figures", async () => (await page.locator(".fact dd").last().textContent()).length === 16);
      await page.goto(`${broker.url}/console#/topics`);
    }
    await page.goto(`${broker.url}/console#/topics/${encodeURIComponent(hit)}`);
    await page.locator(".events pre").nth(1).waitFor();
    await page.getByRole("link", { name: '<b onclick="window.hit=1">client</b>' }).click();
    await page.getByRole("link", { name: hit.trim() }).waitFor();
    await page.getByRole("button", { name: "Disconnect" }).click();
    await page.getByRole("dialog").waitFor();
    await page.keyboard.press("Escape");
    await page.goto(`${broker.url}/console#/connections`);
    await shows(page, "<b onclick");
    assert.equal(await page.evaluate(() => window.hit), undefined);
    assert.equal(await page.locator("img[src=x], svg[onload], b[onclick]").count(), 0);
    // What a browser cannot ask for, it says.
    await page.goto(`${broker.url}/console#/topics/..`);
    await shows(page, "A browser cannot name the topic");
    await close(page);
  });

  test("the slow are on top, with what they lost, and can be disconnected", async () => {
    const broker = await start({ SUBSCRIBER_QUEUE_SIZE: "50", WRITE_WAIT_SEC: "120" });
    await broker.create("busy");
    broker.subscribe("busy", "quick");
    broker.subscribe("busy", "slow", true);
    const figures = async () => (await broker.call("GET", "/topics/busy")).json();
    await until("both", async () => (await figures()).subscribers === 2);
    await until("a loss", async () => {
      await broker.publish("busy", ...Array(10).fill("x".repeat(20_000)));
      return (await figures()).dropped > 20;
    });
    const page = await browser.open(broker, "connections");
    const top = page.locator("section", { hasText: "Most lagging" }).locator("tbody tr").first();
    await until("the slow one on top", async () => (await top.locator("th").textContent()) === "slow");
    await page.getByLabel("Order").selectOption("dropped");
    await until("its losses", async () => (await top.locator(".bad").count()) === 2);
    assert.equal(await top.locator("th").textContent(), "slow");
    await top.getByRole("button", { name: "Disconnect slow" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Disconnect" }).click();
    await shows(page, "slow disconnected.");
    const ended = page.locator("section", { hasText: "Ended" }).locator("tbody tr", { hasText: "slow" }).first();
    await ended.waitFor();
    assert.match(await ended.textContent(), /1008/);
    await close(page);
  });

  test("a broker that does not allow its own origin is shown, and says why it takes nothing", async () => {
    const broker = await start({ ALLOWED_ORIGINS: "https://app.example" });
    await broker.create("orders");
    const page = await browser.open(broker, "topics/orders");
    await until("its figures", async () => (await page.locator(".fact dd").last().textContent()).length === 16);
    await shows(page, `Where ALLOWED_ORIGINS is set, it must have ${broker.url}.`);
    await page.getByRole("button", { name: "Publish" }).click();
    await shows(page, `origin ${broker.url} is not allowed`);
    await close(page);
  });

  test("settings are shown, and of secrets only that they are set", async () => {
    const page = await browser.open(broker, "settings");
    const row = (name) => page.locator("tbody tr", { hasText: name }).first();
    await row("API_KEYS").waitFor();
    assert.match(await row("API_KEYS").textContent(), /setenvironment$/);
    assert.match(await row("SUBSCRIBER_QUEUE_SIZE").textContent(), /10default 100environment$/);
    assert.ok(!(await page.content()).includes("unused-secret"));
    await page.getByLabel("only those").check();
    assert.ok((await page.locator("tbody tr").count()) < 8);
    await page.getByLabel("Search").fill("nothing has this");
    assert.equal(await page.locator("tbody tr").count(), 0);
    await close(page);
  });

  test("nobody is asked while the tab is hidden", async () => {
    const page = await browser.open(broker, "topics");
    await page.getByRole("link", { name: "orders" }).waitFor();
    const hide = (isHidden) =>
      page.evaluate((isHidden) => {
        Object.defineProperty(document, "hidden", { get: () => isHidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
      }, isHidden);
    await hide(true);
    await page.waitForTimeout(500);
    let asked = 0;
    page.on("request", () => (asked += 1));
    await page.waitForTimeout(4500);
    assert.equal(asked, 0);
    await hide(false);
    await until("a request", () => asked > 0, 3000);
    await close(page);
  });

  test("100,000 topics do not freeze it", async () => {
    const page = await browser.open(broker);
    const of = { messages: 7, subscribers: 1, dropped: 0, bytes_in: 9, bytes_out: 9, seq: 7 };
    const topics = Object.fromEntries(Array.from({ length: 100_000 }, (_, i) => [`topic.${i}`, { ...of, messages: i }]));
    const body = JSON.stringify({ topics, totals: {} });
    await page.route("**/stats", (route) => route.fulfill({ body, contentType: "application/json" }));
    await page.evaluate(() => {
      window.longest = 0;
      new PerformanceObserver((list) => {
        for (const task of list.getEntries()) window.longest = Math.max(window.longest, task.duration);
      }).observe({ type: "longtask" });
      location.hash = "#/topics";
    });
    await shows(page, "of 100,000");
    assert.equal(await page.locator("tbody tr").count(), 50);
    await page.getByRole("button", { name: "Messages", exact: true }).click();
    assert.equal(await page.locator("tbody th").first().textContent(), "topic.99999");
    await page.getByRole("button", { name: "Last" }).click();
    await shows(page, "99,951–100,000 of 100,000");
    await page.getByLabel("Search").fill("topic.4242");
    await shows(page, "1–11 of 11");
    const longest = await page.evaluate(() => window.longest);
    assert.ok(longest < 1500, `${longest} ms in one go`);
    console.log(`longest task with 100,000 topics: ${Math.round(longest)} ms`);
    await close(page);
  });

  test("it can be used by keyboard, in both themes, and on a telephone", async () => {
    for (const [colorScheme, width] of [["light", 1280], ["dark", 1280], ["light", 390], ["dark", 390]]) {
      const page = await browser.open(broker, "", { colorScheme, viewport: { width, height: 844 }, reducedMotion: "reduce" });
      await shows(page, "up for");
      for (const place of ["", "topics", "topics/orders", "connections", "settings"]) {
        await page.goto(`${broker.url}/console#/${place}`);
        await page.waitForTimeout(700);
        const where = `${place || "overview"}, ${colorScheme}, ${width}`;
        const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
        assert.ok(over <= 0, `${where}: ${over} pixels too wide`);
        await page.evaluate(AXE);
        const { violations } = await page.evaluate(() => window.axe.run());
        const told = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).slice(0, 3)}`);
        assert.deepEqual(told, [], where);
      }
      await close(page);
    }
    const page = await browser.open(broker);
    await shows(page, "up for");
    const focused = () => page.evaluate(() => document.activeElement.textContent);
    await page.keyboard.press("Tab");
    assert.equal(await focused(), "Skip to content");
    await page.keyboard.press("Enter");
    assert.equal(await focused(), "Overview");
    await page.getByRole("link", { name: "Topics" }).focus();
    await page.keyboard.press("Enter");
    await until("the heading to have the focus", async () => (await focused()) === "Topics" && (await page.locator("h1:focus").count()) === 1);
    assert.equal(await page.title(), "Topics · shardcast");
    await page.getByLabel("Colours").selectOption("dark");
    assert.equal(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), "rgb(14, 17, 23)");
    await page.reload();
    assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "dark");
    await close(page);
  });
});

describe("with keys", () => {
  const sha256 = (key) => createHash("sha256").update(key).digest("hex");
  const file = join(folder, "keys.toml");
  const write = (...keys) =>
    writeFileSync(file, keys.map(([key, rights]) => `[[key]]\nname = "${key}"\nsha256 = "${sha256(key)}"\n${rights}\n`).join("\n"));
  let broker;

  before(async () => {
    write(["watcher", 'subscribe = ["open.*"]'], ["leaving", "observe = true"]);
    broker = await start({ AUTH_ENABLED: "true", API_KEYS: "root-schlüssel", API_KEYS_FILE: file, METRICS_AUTH: "true" });
    const key = Buffer.from("root-schlüssel").toString("latin1");
    for (const name of ["open.one", "closed"]) await broker.call("POST", "/topics", { name }, key);
  });

  const signIn = async (page, key) => {
    await page.getByLabel("API key or token").fill(key);
    await page.getByRole("button", { name: "Open" }).click();
  };

  test("the key is asked for, kept in the tab, and never shown", async () => {
    const page = await browser.open(broker, "topics/closed");
    await signIn(page, "wrong");
    await shows(page, "Invalid or expired API key");
    const asked = [];
    page.on("request", (request) => asked.push(request.url()));
    page.on("websocket", (socket) => asked.push(socket.url()));
    await signIn(page, "root-schlüssel");
    await until("its figures", async () => (await page.locator(".fact dd").last().textContent()).length === 16);
    await until("a live tail", async () => (await page.locator("section .pill").textContent()) === "Live");
    await page.reload();
    await until("the tail again", async () => (await page.locator("section .pill").textContent()) === "Live");
    assert.ok(asked.some((url) => url.startsWith("ws:")));
    assert.ok(asked.every((url) => !decodeURIComponent(url).includes("schlüssel")));
    assert.ok(!(await page.content()).includes("schlüssel"));
    assert.ok(!page.url().includes("schl"));
    assert.equal(await page.evaluate(() => localStorage.length), 0);
    await page.getByRole("button", { name: "Forget key" }).click();
    await shows(page, "This broker asks for a key");
    assert.equal(await page.evaluate(() => sessionStorage.length), 0);
    await close(page);
  });

  test("what a key may not do is said, and the rest works", async () => {
    const page = await browser.open(broker);
    await signIn(page, "watcher");
    await shows(page, "Key 'watcher' may not observe");
    assert.equal(await pill(page).textContent(), "Live");
    await page.getByRole("link", { name: "Topics" }).click();
    await page.getByRole("link", { name: "open.one" }).waitFor();
    await shows(page, "only its own topics are listed");
    assert.equal(await page.locator("tbody tr").count(), 1);
    await page.getByLabel("New topic").fill("mine");
    await page.getByRole("button", { name: "Create" }).click();
    await shows(page, "Key 'watcher' may not manage 'mine'");
    await page.getByRole("link", { name: "open.one" }).click();
    await until("a live tail", async () => (await page.locator("section .pill").textContent()) === "Live");
    await page.getByRole("button", { name: "Publish" }).click();
    await shows(page, "Key 'watcher' may not publish to 'open.one'");
    await page.getByRole("button", { name: "Delete topic" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Delete topic" }).click();
    await shows(page, "Not deleted: Key 'watcher' may not manage 'open.one'");
    for (const place of ["Connections", "Settings"]) {
      await page.getByRole("link", { name: place }).click();
      await shows(page, "Key 'watcher' may not observe");
    }
    await page.goto(`${broker.url}/console#/topics/closed`);
    await shows(page, "Key 'watcher' may not subscribe to 'closed'");
    await close(page);
  });

  test("a key that is withdrawn is asked for again", async () => {
    const page = await browser.open(broker, "connections");
    await signIn(page, "leaving");
    await shows(page, "Nobody is connected.");
    write(["watcher", 'subscribe = ["open.*"]']);
    await shows(page, "Invalid or expired API key");
    await shows(page, "This broker asks for a key");
    await close(page);
  });
});

describe("a server that goes and comes", () => {
  test("is missed, and found again", async () => {
    const broker = await start({ AUTO_CREATE_TOPICS: "true" });
    await broker.create("orders");
    const page = await browser.open(broker, "topics/orders");
    await until("a live tail", async () => (await page.locator("section .pill").textContent()) === "Live");
    await broker.stop();
    await shows(page, "The server does not answer.");
    assert.equal(await pill(page).textContent(), "No answer");
    await broker.again();
    await until("a live page", async () => (await pill(page).textContent()) === "Live");
    assert.ok(await page.locator(".banner").isHidden());
    await shows(page, "The server was started again");
    await until("a live tail", async () => (await page.locator("section .pill").textContent()) === "Live");
    await broker.publish("orders", "after");
    await shows(page, '"after"');
    await shows(page, "the topic is another one than it was");
    await close(page);
  });

  test("says that it is shutting down", async () => {
    const broker = await start({ DRAIN_GRACE_MS: "6000", RECONNECT_SPREAD_SEC: "0" });
    await broker.create("orders");
    const page = await browser.open(broker, "topics/orders");
    await until("a live tail", async () => (await page.locator("section .pill").textContent()) === "Live");
    const stopped = broker.stop("SIGTERM");
    await shows(page, "The server is shutting down: it takes no new work.");
    assert.equal(await pill(page).textContent(), "Shutting down");
    await page.getByRole("button", { name: "Publish" }).click();
    await shows(page, "server is shutting down");
    await stopped;
    await shows(page, "The server does not answer.");
    await broker.again();
    await until("a live page", async () => (await pill(page).textContent()) === "Live");
    await close(page);
  });
});
