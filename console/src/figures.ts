// What /metrics tells, and what follows from two tellings.

/** One reading of /metrics. */
export interface Reading {
  at: number;
  value: Map<string, number>;
  latency: Classes;
}

/** A histogram: bounds that ascend, and how many came up to each. */
export interface Classes {
  bounds: number[];
  upTo: number[];
}

/** What happened between two readings. Rates are for a second; nothing is known where it is null. */
export interface Sample {
  at: number;
  messages: number | null;
  delivered: number | null;
  dropped: number | null;
  discarded: number | null;
  bytesIn: number | null;
  bytesOut: number | null;
  p50: number | null;
  p99: number | null;
  cpu: number | null;
  queued: number | null;
  connections: number | null;
  subscribers: number | null;
  resident: number | null;
}

export function parse(text: string, at: number): Reading {
  const value = new Map<string, number>();
  const latency: Classes = { bounds: [], upTo: [] };
  const bucket = 'shardcast_delivery_latency_seconds_bucket{le="';
  for (const line of text.split("\n")) {
    const space = line.lastIndexOf(" ");
    if (space < 0 || line.startsWith("#")) continue;
    const name = line.slice(0, space);
    const figure = Number(line.slice(space + 1));
    if (name.startsWith(bucket)) {
      const bound = name.slice(bucket.length, -2);
      latency.bounds.push(bound === "+Inf" ? Infinity : Number(bound));
      latency.upTo.push(figure);
    } else {
      value.set(name, figure);
    }
  }
  return { at, value, latency };
}

export const STARTED = "process_start_time_seconds";

/** What happened between two readings of one process. */
export function between(before: Reading | null, now: Reading): Sample {
  const figure = (name: string): number | null => now.value.get(name) ?? null;
  const isSame = before !== null && before.value.get(STARTED) === now.value.get(STARTED);
  const seconds = before ? (now.at - before.at) / 1000 : 0;
  const rate = (name: string): number | null => {
    const [then, since] = [before?.value.get(name), now.value.get(name)];
    if (!isSame || then === undefined || since === undefined || seconds <= 0) return null;
    return Math.max(0, (since - then) / seconds);
  };
  const [p50, p99] = isSame ? quantiles(before.latency, now.latency, [0.5, 0.99]) : [null, null];
  return {
    at: now.at,
    messages: rate("shardcast_messages_total"),
    delivered: rate("shardcast_events_delivered_total"),
    dropped: rate("shardcast_events_dropped_total"),
    discarded: rate("shardcast_events_discarded_total"),
    bytesIn: rate("shardcast_payload_bytes_total"),
    bytesOut: rate("shardcast_event_bytes_total"),
    p50: p50 ?? null,
    p99: p99 ?? null,
    cpu: rate("process_cpu_seconds_total"),
    queued: figure("shardcast_events_queued"),
    connections: figure("shardcast_connections"),
    subscribers: figure("shardcast_subscribers"),
    resident: figure("process_resident_memory_bytes"),
  };
}

/** Quantiles of what came in between, straight within a class; null where nothing came. */
function quantiles(before: Classes, now: Classes, wanted: number[]): (number | null)[] {
  const upTo = now.upTo.map((count, i) => count - (before.upTo[i] ?? 0));
  const total = upTo.at(-1) ?? 0;
  return wanted.map((share) => {
    if (total <= 0) return null;
    const rank = share * total;
    const at = upTo.findIndex((count) => count >= rank);
    const [below, bound] = [now.bounds[at - 1] ?? 0, now.bounds[at] ?? Infinity];
    if (!Number.isFinite(bound)) return below;
    const [first, last] = [upTo[at - 1] ?? 0, upTo[at] ?? 0];
    return last > first ? below + ((bound - below) * (rank - first)) / (last - first) : bound;
  });
}

/** The samples of the last while: fifteen minutes at a period of two seconds. */
export class History {
  readonly samples: Sample[] = [];
  last: Reading | null = null;

  /** Takes a reading. Whether it is of another process than the one before. */
  take(reading: Reading): boolean {
    const before = this.last;
    this.last = reading;
    this.samples.push(between(before, reading));
    if (this.samples.length > SAMPLES_MAX) this.samples.shift();
    return before !== null && before.value.get(STARTED) !== reading.value.get(STARTED);
  }
}

const SAMPLES_MAX = 450;
export const PERIOD_MS = 2000;
