// JSON as it was sent, set out in lines. Numbers and texts keep their spelling: nothing is parsed
// and written again, since 12345678901234567890 would come back as another number.

import { el } from "./dom";

const BLANK = /[\s]*/y;
const STRING = /"(?:[^"\\]|\\.)*"/y;
const OTHER = /[^\s,:[\]{}"]+/y;

function match(pattern: RegExp, text: string, at: number): string {
  pattern.lastIndex = at;
  return pattern.exec(text)?.[0] ?? "";
}

const skipBlank = (text: string, at: number): number => at + match(BLANK, text, at).length;

/** Where the value that begins at `at` ends. */
function endOf(text: string, at: number): number {
  let depth = 0;
  while (at < text.length) {
    const char = text[at]!;
    if (char === '"') at += match(STRING, text, at).length || text.length;
    else if (char === "{" || char === "[") (depth += 1), (at += 1);
    else if (char === "}" || char === "]") (depth -= 1), (at += 1);
    else if (char === "," || char === ":" || /\s/.test(char)) at += 1;
    else at += match(OTHER, text, at).length || 1;
    if (depth <= 0) return at;
  }
  return at;
}

/** The value of a member, byte for byte, of the object that `text` is. */
export function member(text: string, name: string): string | null {
  let at = skipBlank(text, 0) + 1;
  for (;;) {
    at = skipBlank(text, at);
    if (text[at] !== '"') return null;
    const key = match(STRING, text, at);
    at = skipBlank(text, at + key.length) + 1;
    at = skipBlank(text, at);
    const end = endOf(text, at);
    if (key === `"${name}"`) return text.slice(at, end);
    at = skipBlank(text, end);
    if (text[at] !== ",") return null;
    at += 1;
  }
}

/** Sets out up to `charsMax` characters of JSON. Gives how many are left over. */
export function setOut(text: string, into: HTMLElement, isCompact: boolean, charsMax: number): number {
  let plain = "";
  let depth = 0;
  let at = 0;
  const flush = (): void => {
    if (plain) into.append(plain);
    plain = "";
  };
  const put = (kind: string, token: string): void => {
    flush();
    into.append(el("span", { class: kind }, token));
  };
  const line = (): string => (isCompact ? "" : `\n${"  ".repeat(depth)}`);
  while (at < text.length && at < charsMax) {
    const char = text[at]!;
    if (char === '"') {
      const token = match(STRING, text, at) || text.slice(at);
      const isKey = text[skipBlank(text, at + token.length)] === ":";
      put(isKey ? "key" : "text", token.slice(0, charsMax - at));
      at += Math.min(token.length, charsMax - at);
    } else if (char === "{" || char === "[") {
      const behind = skipBlank(text, at + 1);
      const close = char === "{" ? "}" : "]";
      if (text[behind] === close) {
        plain += char + close;
        at = behind + 1;
      } else {
        depth += 1;
        plain += char + line();
        at += 1;
      }
    } else if (char === "}" || char === "]") {
      depth -= 1;
      plain += line() + char;
      at += 1;
    } else if (char === ",") {
      plain += isCompact ? ", " : `,${line()}`;
      at += 1;
    } else if (char === ":") {
      plain += ": ";
      at += 1;
    } else if (/\s/.test(char)) {
      at = skipBlank(text, at);
    } else {
      const token = match(OTHER, text, at) || char;
      put(/^[-\d]/.test(token) ? "number" : "word", token);
      at += token.length;
    }
  }
  flush();
  return Math.max(0, text.length - at);
}
