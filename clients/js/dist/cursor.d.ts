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
export declare class Cursor {
    private readonly gap_;
    readonly places_: Map<string, Place>;
    constructor(gap_: (gap: Gap) => void);
    /** The positions reached, as they are asked for after a cut. */
    positions_(): Record<string, Position>;
    /** What to go on behind, where a caller knows it from before. */
    resume_(name: string, { epoch, seq }: Position): void;
    /**
     * A topic begins behind `seq`, or goes on behind what is known of it. Up to `quiet` a jump is no
     * loss; `cut`: the broker cannot send all that is behind.
     */
    start_(name: string, epoch: string, seq: number, quiet: number, cut: boolean): void;
    /** Whether an event is to be told. Tells of those missing before it. */
    passes_(name: string, seq: number, skipped?: number): Place | undefined;
    /** All up to `seq` was missed, and will not be sent. */
    leap_(name: string, seq: number): void;
    /** The others are there no more. What they had at last nobody knows. */
    keep_(found: Record<string, Position>): void;
    private lose_;
}
export {};
