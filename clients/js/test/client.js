import { connect } from "../dist/shardcast.js";

/** A client that ends with the test `t`, and tries again soon. */
export function client(t, url, options = {}) {
  const made = connect(url, { backoffMs: 20, backoffMaxMs: 200, transport: "ws", ...options });
  t.after(() => made.close());
  return made;
}

/** Options of a subscription that write down what it tells. */
export function recorder() {
  const told = { events: [], gaps: [], states: [], errors: [] };
  return {
    ...told,
    onEvent: (event) => told.events.push(event),
    onGap: (gap) => told.gaps.push(gap),
    onState: (state, error) => {
      told.states.push(state);
      if (error) told.errors.push(error);
    },
    get seqs() {
      return told.events.map(({ seq }) => seq);
    },
    get payloads() {
      return told.events.map(({ payload }) => payload);
    },
  };
}

export const range = (from, to) => Array.from({ length: to - from + 1 }, (_, at) => from + at);
