import { ShardcastError } from "./error.js";
import { type Message } from "./protocol.js";
import { type Internal, type SubscribeOptions } from "./subscription.js";
/**
 * All subscriptions of a client. Asks for them on each connection, and gives each what is for it.
 *
 * `send` says whether there is a connection; `pause` how long to wait after so many refusals.
 */
export declare function subscriptions(send: (command?: object) => unknown, pause: (tries: number) => number): {
    subscribe_: (topic: string, options: SubscribeOptions<any>) => Internal;
    open_: () => void;
    cut_(): void;
    end_(error?: ShardcastError): void;
    /** Whether the message was for one of these. */
    take_(message: Message): boolean;
};
