/** Whether a name has `*` or `>`, and so stands for many topics. */
export declare const isPattern: (name: string) => boolean;
/** Whether a pattern stands for the topic `name`: `*` for one token, `>` at the end for one or more. */
export declare const matches: (pattern: string, name: string) => boolean;
