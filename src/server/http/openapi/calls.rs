//! Every call, with what it takes and what may come of it.

use super::{Call, Parameter, query};

/// What names of topics are made of.
pub(super) const NAME: &str = r"^[^\u0000-\u001f\u007f-\u009f*>]+$";
const COUNT: &str = r#"{"type":"integer","minimum":0,"maximum":18446744073709551615}"#;
const POSITION: &str = r#"{"type":"string","pattern":"^[0-9a-f]{1,16}:[0-9]{1,18}$"}"#;
const LAST: &Parameter = &query("last", COUNT);
const SINCE: &Parameter = &query("since", POSITION);
const POLICY: &Parameter = &query("policy", r#"{"enum":["latest"]}"#);
const MAX_RATE: &Parameter = &query(
    "max_rate",
    r#"{"type":"integer","minimum":1,"maximum":1000}"#,
);
const LIMIT: &Parameter = &query(
    "limit",
    r#"{"type":"integer","minimum":1,"maximum":18446744073709551615}"#,
);
const PAGE: &Parameter = &query("limit", r#"{"type":"integer","minimum":1,"maximum":200}"#);
const SORT: &Parameter = &query("sort", r#"{"enum":["lag","dropped","age"]}"#);
const AFTER: &Parameter = &query(
    "after",
    r#"{"type":"string","pattern":"^[0-9a-f]{1,16}-[0-9a-f]{1,16}$"}"#,
);
const CLOSED: &Parameter = &query("closed", r#"{"enum":["0","1","false","true"]}"#);
const NAMES: &Parameter = &query(
    "topic",
    r#"{"type":"array","items":{"type":"string"},"minItems":1,"maxItems":64}"#,
);
const TICKET: &Parameter = &query("ticket", r#"{"type":"string"}"#);
const CLIENT_ID: &Parameter = &query("client_id", r#"{"type":"string"}"#);
const LAST_EVENT_ID: &Parameter = &Parameter {
    name: "Last-Event-ID",
    place: "header",
    schema: POSITION,
};

const OWN_NAME: &str = "Deletes the topic whose own name ends like this";

pub(super) const CALLS: &[Call] = &[
    Call::of("get", "/", "Who this is", &[(200, "Identity")]).open(),
    Call::of("get", "/health", "Whether it lives", &[(200, "Health")]).open(),
    Call::of(
        "get",
        "/ready",
        "Whether it takes connections",
        &[(200, "Ready"), (503, "Error")],
    )
    .open(),
    Call::of(
        "get",
        "/metrics",
        "What is counted, in the format of Prometheus",
        &[(200, "text/plain")],
    ),
    Call::of(
        "get",
        "/stats",
        "What is counted, of every topic and in all",
        &[(200, "Stats")],
    ),
    Call::of(
        "get",
        "/settings",
        "The settings in force, and who has said so",
        &[(200, "Settings")],
    ),
    Call::of(
        "get",
        "/console",
        "A page for people",
        &[(200, "text/html"), (304, ""), (404, "Error")],
    )
    .open(),
    Call::of("get", "/openapi.json", "This", &[(200, "object")]).open(),
    Call::of(
        "get",
        "/ws",
        "Becomes a WebSocket",
        &[
            (101, ""),
            (400, "Error"),
            (401, "RefusedKey"),
            (426, "Error"),
            (429, "Error"),
            (503, "Error"),
        ],
    )
    .with(&[CLIENT_ID, TICKET])
    .open(),
    Call::of(
        "get",
        "/events",
        "The events of several topics as Server-Sent Events",
        &[
            (200, "text/event-stream"),
            (400, "Error"),
            (404, "Error"),
            (406, "Error"),
            (503, "Error"),
        ],
    )
    .with(&[
        NAMES,
        LAST,
        SINCE,
        LAST_EVENT_ID,
        POLICY,
        MAX_RATE,
        TICKET,
        CLIENT_ID,
    ]),
    Call::of(
        "get",
        "/topics",
        "All topics that the key may see",
        &[(200, "Topics"), (503, "Error")],
    ),
    Call::of(
        "post",
        "/topics",
        "Creates a topic",
        &[
            (201, "TopicChanged"),
            (400, "Error"),
            (409, "Error"),
            (413, "Error"),
            (503, "Error"),
        ],
    )
    .taking(&["NewTopic"]),
    Call::of(
        "get",
        "/topics/{name}",
        "Describes a topic",
        &[
            (200, "Topic"),
            (400, "Error"),
            (404, "Error"),
            (503, "Error"),
        ],
    ),
    Call::of(
        "delete",
        "/topics/{name}",
        "Deletes a topic; its subscribers are told",
        &[
            (200, "TopicChanged"),
            (400, "Error"),
            (404, "Error"),
            (503, "Error"),
        ],
    ),
    Call::of(
        "get",
        "/topics/{name}/subscribers",
        "Who gets a topic",
        &[
            (200, "Subscribers"),
            (400, "Error"),
            (404, "Error"),
            (503, "Error"),
        ],
    )
    .with(&[SORT, PAGE, AFTER]),
    Call::of(
        "get",
        "/topics/{name}/messages",
        "What a topic keeps",
        &[
            (200, "Kept"),
            (400, "Error"),
            (404, "Error"),
            (503, "Error"),
        ],
    )
    .with(&[LAST, SINCE, LIMIT]),
    Call::of(
        "post",
        "/topics/{name}/messages",
        "Publishes one message, or 1 to 1,000: all or none",
        &[
            (200, "Published|PublishedMany"),
            (400, "Error|ErrorAt"),
            (404, "Error"),
            (413, "Error|ErrorAt"),
            (503, "Error"),
        ],
    )
    .taking(&["NewMessage", "NewMessage[]"]),
    Call::of(
        "get",
        "/topics/{name}/events",
        "The events of a topic as Server-Sent Events",
        &[
            (200, "text/event-stream"),
            (400, "Error"),
            (404, "Error"),
            (406, "Error"),
            (503, "Error"),
        ],
    )
    .with(&[
        LAST,
        SINCE,
        LAST_EVENT_ID,
        POLICY,
        MAX_RATE,
        TICKET,
        CLIENT_ID,
    ]),
    Call::of(
        "delete",
        "/topics/{name}/subscribers",
        OWN_NAME,
        &[
            (200, "TopicChanged"),
            (400, "Error"),
            (404, "Error"),
            (503, "Error"),
        ],
    ),
    Call::of(
        "delete",
        "/topics/{name}/messages",
        OWN_NAME,
        &[
            (200, "TopicChanged"),
            (400, "Error"),
            (404, "Error"),
            (503, "Error"),
        ],
    ),
    Call::of(
        "delete",
        "/topics/{name}/events",
        OWN_NAME,
        &[
            (200, "TopicChanged"),
            (400, "Error"),
            (404, "Error"),
            (503, "Error"),
        ],
    ),
    Call::of(
        "post",
        "/tickets",
        "What opens one WebSocket or event stream for a browser",
        &[(201, "Ticket"), (503, "Error")],
    ),
    Call::of(
        "get",
        "/connections",
        "Who is connected, who lags, what they lost",
        &[(200, "Connections"), (400, "Error")],
    )
    .with(&[SORT, PAGE, AFTER, CLOSED]),
    Call::of(
        "get",
        "/connections/{id}",
        "One of them, with its topics",
        &[(200, "Connection"), (404, "Error")],
    ),
    Call::of(
        "delete",
        "/connections/{id}",
        "Closes one",
        &[(204, ""), (404, "Error")],
    ),
];

/// What comes of any call.
pub(super) const ANY: &[(u16, &str)] = &[(403, "Error"), (429, "Error|RefusedKey")];
