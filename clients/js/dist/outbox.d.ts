/** What a publish came to. */
export interface Receipt {
    id: string;
    /** Its place in the order of the topic. */
    seq: number;
    /** Subscribers that it was offered to. */
    matched: number;
    /** It was there before: an earlier try had come through. */
    duplicate?: boolean;
}
