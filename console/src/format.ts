// Figures in words.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

export const count = (n: number): string => whole.format(n);

/** Three digits, for tiles and axes. */
export function compact(n: number): string {
  if (Math.abs(n) >= 10_000) return short.format(n);
  if (Math.abs(n) >= 100 || Number.isInteger(n)) return whole.format(n);
  return String(Number(n.toPrecision(2)));
}

export function bytes(n: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) {
    n /= 1024;
    unit += 1;
  }
  return `${unit === 0 || n >= 100 ? Math.round(n) : Number(n.toPrecision(3))} ${units[unit]}`;
}

/** A short time, given in seconds. */
export function latency(seconds: number): string {
  if (seconds >= 1) return `${Number(seconds.toPrecision(3))} s`;
  if (seconds >= 0.001) return `${Number((seconds * 1e3).toPrecision(3))} ms`;
  return `${Math.round(seconds * 1e6)} µs`;
}

/** A long time, given in seconds, in its two largest units. */
export function duration(seconds: number): string {
  const left = Math.max(0, Math.floor(seconds));
  const days = Math.floor(left / 86_400);
  const hours = Math.floor(left / 3600) % 24;
  const minutes = Math.floor(left / 60) % 60;
  if (days > 0) return `${days} d ${hours} h`;
  if (hours > 0) return `${hours} h ${minutes} min`;
  if (minutes > 0) return `${minutes} min ${left % 60} s`;
  return `${left} s`;
}

/** How long ago a moment of the server was. Clocks differ: nothing is in the future. */
export function ago(moment: string): string {
  return duration((Date.now() - Date.parse(moment)) / 1000);
}

/** The time of day, as it is here. */
export function clock(moment: string): string {
  const date = new Date(moment);
  if (Number.isNaN(date.getTime())) return moment;
  const time = date.toLocaleTimeString("en-GB");
  return `${time}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

export function plural(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : many}`;
}
