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
