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
/**
 * Where a subscription is in each of its topics. Decides what is a repeat and what is missing; the
 * one place that does.
 */
export type Cursor = ReturnType<typeof cursor>;
export declare function cursor(tell: (gap: Gap) => void): {
    /** The positions reached, as they are asked for after a cut. */
    positions_: () => Record<string, Position>;
    /**
     * A topic begins behind `seq`, or goes on behind what is known of it. Up to `quiet` a jump is
     * no loss; `cut`: the broker cannot send all that is behind.
     */
    start_(name: string, epoch: string, seq: number, quiet_: number, cut_: boolean): void;
    /** Moves to an event, and tells of those missing before it. Nothing if it is a repeat. */
    pass_(name: string, seq: number, skipped?: number): Position | undefined;
    forget_: (name: string) => boolean;
};
