export interface Auth {
    api_key?: string;
    token?: string;
}
/** The headers that prove who asks. */
export declare const proof: (auth: Auth) => Record<string, string>;
/** Asks over HTTP. What the broker refuses is thrown as a `ShardcastError`, what is broken as anything else. */
export declare function ask(url: string, init: RequestInit): Promise<Response>;
export declare const isOfAuth: (code: string) => boolean;
