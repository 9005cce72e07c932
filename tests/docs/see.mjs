// Opens a page in Chromium and waits until it shows texts, or logs them: see [--stay SECONDS] URL TEXT…
// It stays so many seconds longer.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const root = pathToFileURL(`${process.env.DOCS_ROOT}/`);
const { BROWSER } = await import(new URL("tests/stage/machine.mjs", root));
const { chromium } = createRequire(new URL("clients/js/package.json", root))("playwright-core");

const [url, ...texts] = process.argv.slice(process.argv[2] === "--stay" ? 4 : 2);
const stayMs = process.argv[2] === "--stay" ? Number(process.argv[3]) * 1000 : 0;
const browser = await chromium.launch(BROWSER);
try {
  const page = await browser.newPage();
  let logged = "";
  page.on("console", (message) => { logged += `${message.text()}\n`; });
  page.on("pageerror", (error) => { logged += `${error}\n`; });
  await page.goto(url);
  const deadline = Date.now() + 20_000;
  let shown;
  do {
    shown = logged + (await page.locator("body").innerText());
    await new Promise((resolve) => setTimeout(resolve, 50));
  } while (!texts.every((text) => shown.includes(text)) && Date.now() < deadline);
  const missing = texts.filter((text) => !shown.includes(text));
  if (missing.length > 0) {
    console.error(`${url} does not show ${missing.join(", ")}; it shows:\n${shown}`);
    process.exitCode = 1;
  }
  await new Promise((resolve) => setTimeout(resolve, stayMs));
} finally {
  await browser.close();
}
