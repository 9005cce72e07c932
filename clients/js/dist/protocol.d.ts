/** A place in the order of a topic: behind the event `seq`. */
export interface Position {
    epoch: string;
    seq: number;
}
