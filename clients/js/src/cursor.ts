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
   * reach back that far; `epoch`: the topic was created anew, and counts from 1, or was deleted.
   */
  reason: "slow" | "history" | "epoch";
}

interface Place extends Position {
  /** Up to here a jump is no loss: it was not asked for. */
  quiet_: number;
  /** The history did not reach back to here. */
  cut_: boolean;
}

/**
 * Where a subscription is in each of its topics. Decides what is a repeat and what is missing; the
 * one place that does.
 *
 * @internal
 */
export function cursor(tell: (gap: Gap) => void) {
  const places = new Map<string, Place>();

  return {
    /** The positions reached, as they are asked for after a cut. */
    positions_: (): Record<string, Position> =>
      Object.fromEntries([...places].map(([name, { epoch, seq }]) => [name, { epoch, seq }])),

    /**
     * A topic begins behind `seq`, or goes on behind what is known of it. Up to `quiet` a jump is
     * no loss; `cut`: the broker cannot send all that is behind.
     */
    start_(topic: string, epoch: string, seq: number, quiet_: number, cut_: boolean): void {
      const known = places.get(topic);
      if (known?.epoch === epoch) known.cut_ = cut_;
      else {
        places.set(topic, known ? { epoch, seq: 0, quiet_: 0, cut_: true } : { epoch, seq, quiet_, cut_ });
        if (known) tell({ topic, epoch: known.epoch, from: known.seq + 1, to: null, lost: null, reason: "epoch" });
      }
    },

    /** Moves to an event, and tells of those missing before it. Nothing if it is a repeat. */
    pass_(topic: string, seq: number, skipped = 0): Position | undefined {
      const place = places.get(topic);
      if (!place || seq <= place.seq) return;
      const from = Math.max(place.seq, place.quiet_) + 1;
      const lost = seq - from - skipped;
      const reason = place.cut_ ? "history" : "slow";
      place.seq = seq;
      place.quiet_ = 0;
      place.cut_ = false;
      if (lost > 0) tell({ topic, epoch: place.epoch, from, to: seq - 1, lost, reason });
      return place;
    },

    forget_: (name: string): boolean => places.delete(name),
  };
}
