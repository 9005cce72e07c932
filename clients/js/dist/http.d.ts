/** Asks over HTTP; what is refused is thrown as a `ShardcastError`, what is broken as anything else. */
export declare function ask(url: string, init: RequestInit): Promise<any>;
export declare function refuse(response: Response): Promise<void>;
