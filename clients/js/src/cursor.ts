import type { Position } from "./protocol.js";

/** Events of a topic that will not come. */
export interface Gap {
  topic: string;
  epoch: string;
  /** The first that is missing. */
  from: number;
  /** The last that is missing; null where nobody knows, since the topic is another one than it was. */
  to: number | null;
  /** How many of them are missing; null as `to`. */
  lost: number | null;
  /**
   * `slow`: this consumer did not keep up; `history`: while it was away, and the history does not
   * reach back that far; `epoch`: the topic was created anew, and counts from 1.
   */
  reason: "slow" | "history" | "epoch";
}

interface Place extends Position {
  /** Up to here a jump is no loss: it was not asked for. */
  quiet: number;
  /** The history did not reach back to here. */
  cut: boolean;
}

/**
 * Where a subscription is in each of its topics. Decides what is a repeat and what is missing; the
 * one place that does.
 */
export class Cursor {
  readonly places_ = new Map<string, Place>();

  constructor(private readonly gap_: (gap: Gap) => void) {}

  /** The positions reached, as they are asked for after a cut. */
  positions_(): Record<string, Position> {
    return Object.fromEntries([...this.places_].map(([name, { epoch, seq }]) => [name, { epoch, seq }]));
  }

  /** What to go on behind, where a caller knows it from before. */
  resume_(name: string, { epoch, seq }: Position): void {
    this.places_.set(name, { epoch, seq, quiet: 0, cut: false });
  }

  /**
   * A topic begins behind `seq`, or goes on behind what is known of it. Up to `quiet` a jump is no
   * loss; `cut`: the broker cannot send all that is behind.
   */
  start_(name: string, epoch: string, seq: number, quiet: number, cut: boolean): void {
    const known = this.places_.get(name);
    if (known?.epoch === epoch) {
      known.cut = cut;
      return;
    }
    if (known) {
      this.lose_(name, known.epoch, known.seq + 1, null, null, "epoch");
      [seq, quiet, cut] = [0, 0, true];
    }
    this.places_.set(name, { epoch, seq, quiet, cut });
  }

  /** Whether an event is to be told. Tells of those missing before it. */
  passes_(name: string, seq: number, skipped = 0): Place | undefined {
    const place = this.places_.get(name);
    if (!place || seq <= place.seq) return undefined;
    const from = Math.max(place.seq, place.quiet) + 1;
    const lost = seq - from - skipped;
    place.seq = seq;
    if (lost > 0) this.lose_(name, place.epoch, from, seq - 1, lost, place.cut ? "history" : "slow");
    place.quiet = 0;
    place.cut = false;
    return place;
  }

  /** All up to `seq` was missed, and will not be sent. */
  leap_(name: string, seq: number): void {
    const place = this.places_.get(name);
    if (place && seq > place.seq) {
      this.lose_(name, place.epoch, place.seq + 1, seq, seq - place.seq, "history");
      place.seq = seq;
    }
  }

  /** The others are there no more. What they had at last nobody knows. */
  keep_(found: Record<string, Position>): void {
    for (const [name, { epoch, seq }] of this.places_)
      if (!found[name]) {
        this.places_.delete(name);
        this.lose_(name, epoch, seq + 1, null, null, "epoch");
      }
  }

  private lose_(topic: string, epoch: string, from: number, to: number | null, lost: number | null, reason: Gap["reason"]): void {
    this.gap_({ topic, epoch, from, to, lost, reason });
  }
}

