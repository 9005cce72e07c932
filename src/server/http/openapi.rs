//! `GET /openapi.json`: what this server answers, as `OpenAPI` 3.1.
//!
//! Schemas are derived from the structs that are sent; what is written while it leaves has its shape
//! here. A test holds paths and methods to the route table, and CI has every call in here made.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use hyper::StatusCode;
use serde_json::{Map, Value, json};
use utoipa::{OpenApi, ToSchema};

use super::access::KeyErrorBody;
use super::answer::{Answer, ErrorBody, json_bytes};
use super::connections::{Connections, Shown, Subscribers};
use super::messages::{ErrorAt, Many, One};
use super::settings::Settings;
use super::stats::{Health, Identity, Ready, Totals};
use super::tickets::Ticket;
use super::topics::{Described, TopicAnswer};

/// A topic in a list.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "lists are written while they leave: this is their shape"
)]
struct Listed {
    name: String,
    subscribers: usize,
}

/// All topics that a key may see.
#[derive(ToSchema)]
#[expect(dead_code, reason = "as above")]
struct Topics {
    topics: Vec<Listed>,
}

/// What was counted of a topic.
#[derive(ToSchema)]
#[expect(dead_code, reason = "as above")]
struct Counted {
    messages: u64,
    subscribers: usize,
    dropped: u64,
    bytes_in: u64,
    bytes_out: u64,
    seq: u64,
}

/// What was counted of every topic, and in all.
#[derive(ToSchema)]
#[expect(dead_code, reason = "as above")]
struct Stats {
    topics: BTreeMap<String, Counted>,
    totals: Totals,
}

/// A message on a topic, as subscribers get it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "events are written by the broker")]
struct Event {
    r#type: String,
    topic: String,
    message: Message,
    ts: String,
    seq: u64,
}

/// What was published.
#[derive(ToSchema)]
#[expect(dead_code, reason = "as above")]
struct Message {
    id: String,
    /// Any JSON, byte for byte.
    payload: Value,
}

/// What a topic keeps.
#[derive(ToSchema)]
#[expect(dead_code, reason = "as above")]
struct Kept {
    topic: String,
    epoch: String,
    /// That of the topic's newest message.
    seq: u64,
    /// Whether nothing is missing, where `since` was given.
    recovered: Option<bool>,
    messages: Vec<Event>,
}

/// A topic to be created.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "a body is read field by field, so that each fault has its words"
)]
struct NewTopic {
    /// 1 to 255 bytes of UTF-8, without control characters, `*` and `>`.
    #[schema(min_length = 1, pattern = r"^[^\u0000-\u001f\u007f-\u009f*>]+$")]
    name: String,
}

/// A message to be published.
#[derive(ToSchema)]
#[expect(dead_code, reason = "as above")]
struct NewMessage {
    /// One is made if there is none.
    #[schema(pattern = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")]
    id: Option<String>,
    /// Any JSON, delivered byte for byte.
    payload: Value,
    /// Not if a message with its `id` is kept.
    once: Option<bool>,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "shardcast",
        description = "An in-memory publish/subscribe broker over WebSockets. What goes over /ws and in event streams is described by docs/asyncapi.yaml (AsyncAPI 3.0) in its repository."
    ),
    components(schemas(
        Connections,
        Counted,
        Described<'_>,
        ErrorAt<'_>,
        ErrorBody<'_>,
        Event,
        Health,
        Identity,
        Kept,
        KeyErrorBody,
        Listed,
        Many<'_>,
        NewMessage,
        NewTopic,
        One<'_>,
        Ready,
        Settings,
        Shown,
        Stats,
        Subscribers,
        Ticket<'_>,
        TopicAnswer<'_>,
        Topics,
        Totals
    ))
)]
struct Schemas;

/// A call, and what may come of it.
struct Call {
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    /// In the query or a header, beside those in the path.
    parameters: &'static [&'static Parameter],
    /// The name of its schema, or two of which it has one.
    body: &'static [&'static str],
    /// Each status with its schema; empty for none, a content type for what is no JSON.
    answers: &'static [(u16, &'static str)],
    needs_key: bool,
}

struct Parameter {
    name: &'static str,
    place: &'static str,
    /// JSON.
    schema: &'static str,
}

const fn query(name: &'static str, schema: &'static str) -> Parameter {
    let place = "query";
    Parameter {
        name,
        place,
        schema,
    }
}

/// What names of topics are made of.
const NAME: &str = r"^[^\u0000-\u001f\u007f-\u009f*>]+$";
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

const CALLS: &[Call] = &[
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
        &[(200, "Topics")],
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
        &[(200, "Topic"), (400, "Error"), (404, "Error")],
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
        &[(200, "Subscribers"), (400, "Error"), (404, "Error")],
    )
    .with(&[SORT, PAGE, AFTER]),
    Call::of(
        "get",
        "/topics/{name}/messages",
        "What a topic keeps",
        &[(200, "Kept"), (400, "Error"), (404, "Error")],
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
        &[(200, "TopicChanged"), (400, "Error"), (404, "Error")],
    ),
    Call::of(
        "delete",
        "/topics/{name}/messages",
        OWN_NAME,
        &[(200, "TopicChanged"), (400, "Error"), (404, "Error")],
    ),
    Call::of(
        "delete",
        "/topics/{name}/events",
        OWN_NAME,
        &[(200, "TopicChanged"), (400, "Error"), (404, "Error")],
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
const ANY: &[(u16, &str)] = &[(403, "Error"), (429, "Error|RefusedKey")];

/// The answer.
pub(super) fn document() -> Answer {
    static DOCUMENT: LazyLock<Vec<u8>> =
        LazyLock::new(|| serde_json::to_vec(&made()).unwrap_or_default());
    json_bytes(StatusCode::OK, DOCUMENT.as_slice().into())
}

fn made() -> Value {
    let mut document = serde_json::to_value(Schemas::openapi()).unwrap_or_default();
    let mut paths = Map::new();
    for call in CALLS {
        let path = paths.entry(call.path).or_insert_with(|| json!({}));
        path[call.method] = call.to_json();
    }
    document["paths"] = paths.into();
    document["components"]["securitySchemes"] = json!({
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    });
    document
}

impl Call {
    const fn of(
        method: &'static str,
        path: &'static str,
        summary: &'static str,
        answers: &'static [(u16, &'static str)],
    ) -> Self {
        Self {
            method,
            path,
            summary,
            parameters: &[],
            body: &[],
            answers,
            needs_key: true,
        }
    }

    const fn with(mut self, parameters: &'static [&'static Parameter]) -> Self {
        self.parameters = parameters;
        self
    }

    const fn taking(mut self, body: &'static [&'static str]) -> Self {
        self.body = body;
        self
    }

    /// For everybody.
    const fn open(mut self) -> Self {
        self.needs_key = false;
        self
    }

    fn to_json(&self) -> Value {
        let of_path = self.path.split(['{', '}']).skip(1).step_by(2).map(|name| {
            let schema = json!({"type": "string", "minLength": 1, "pattern": NAME});
            json!({"name": name, "in": "path", "required": true, "schema": schema})
        });
        let others = self.parameters.iter().map(|parameter| {
            let schema: Value = serde_json::from_str(parameter.schema).unwrap_or_default();
            // Without a topic there is nothing to stream.
            let required = parameter.name == "topic";
            json!({"name": parameter.name, "in": parameter.place, "required": required, "schema": schema})
        });
        let of_key = self.needs_key.then_some((401, "RefusedKey"));
        let answers = self.answers.iter().chain(ANY).chain(&of_key);
        let answers: Map<_, _> = answers
            .map(|(status, schema)| (status.to_string(), answer(*status, schema)))
            .collect();
        let mut operation = json!({
            "summary": self.summary,
            "parameters": of_path.chain(others).collect::<Vec<_>>(),
            "responses": answers,
        });
        if !self.body.is_empty() {
            let content = json!({"application/json": {"schema": one_of(self.body)}});
            operation["requestBody"] = json!({"required": true, "content": content});
        }
        if self.needs_key {
            // Where no keys are asked for, none is needed.
            operation["security"] = json!([{}, {"key": []}, {"token": []}]);
        }
        operation
    }
}

fn answer(status: u16, schema: &str) -> Value {
    let status = StatusCode::from_u16(status).ok();
    let description = status.and_then(|status| status.canonical_reason());
    let mut answer = json!({"description": description.unwrap_or_default()});
    if schema.contains('/') {
        answer["content"] = json!({schema: {"schema": {"type": "string"}}});
    } else if !schema.is_empty() {
        let names: Vec<_> = schema.split('|').collect();
        answer["content"] = json!({"application/json": {"schema": one_of(&names)}});
    }
    answer
}

/// A schema that is one of these; one with brackets is an array of 1 to 1,000.
fn one_of(names: &[&str]) -> Value {
    let schema = |name: &&str| match name.strip_suffix("[]") {
        _ if *name == "object" => json!({"type": "object"}),
        Some(item) => {
            let items = json!({"$ref": format!("#/components/schemas/{item}")});
            json!({"type": "array", "items": items, "minItems": 1, "maxItems": 1000})
        }
        None => json!({"$ref": format!("#/components/schemas/{name}")}),
    };
    match names {
        [only] => schema(only),
        // An error with an index is one without, and something more.
        several => json!({"anyOf": several.iter().map(schema).collect::<Vec<_>>()}),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::route::Route;
    use super::*;

    /// The path of a route as the document writes it.
    fn template(route: Route<'_>) -> &'static str {
        match route {
            Route::Root => "/",
            Route::WebSocket => "/ws",
            Route::Health => "/health",
            Route::Ready => "/ready",
            Route::Metrics => "/metrics",
            Route::Stats => "/stats",
            Route::OpenApi => "/openapi.json",
            Route::Settings => "/settings",
            // With what the page loads: nobody else asks for that.
            Route::Console(_) => "/console",
            Route::Topics => "/topics",
            Route::Connections => "/connections",
            Route::Connection(_) => "/connections/{id}",
            Route::Tickets => "/tickets",
            Route::Events => "/events",
            Route::Messages(_) => "/topics/{name}/messages",
            Route::TopicEvents(_) => "/topics/{name}/events",
            Route::Topic(_) => "/topics/{name}",
        }
    }

    #[test]
    fn paths_and_methods_are_those_of_the_route_table() {
        let document = made();
        let paths = document["paths"].as_object().expect("paths");
        let mut seen = BTreeSet::new();
        for (path, item) in paths {
            let example = path.replace("{name}", "a").replace("{id}", "1");
            let route = Route::of(&example).expect("a route");
            seen.insert(template(route));
            // Leads where the topic itself does.
            let is_list = path == "/topics/{name}/subscribers";
            let name = if is_list {
                "/topics/{name}/subscribers"
            } else {
                template(route)
            };
            assert_eq!(path, name);
            // HEAD goes where GET does.
            let allowed = route
                .allowed()
                .split(", ")
                .filter(|method| *method != "HEAD");
            let allowed: BTreeSet<_> = allowed.map(str::to_lowercase).collect();
            let methods = item.as_object().expect("methods").keys().cloned();
            assert_eq!(methods.collect::<BTreeSet<_>>(), allowed, "{path}");
        }
        // As many as `template` has arms.
        assert_eq!(seen.len(), 17, "{seen:?}");
    }

    #[test]
    fn every_reference_leads_to_a_schema() {
        let document = made();
        let schemas = &document["components"]["schemas"];
        let text = document.to_string();
        for reference in text.split(r##""$ref":"#/components/schemas/"##).skip(1) {
            let name = reference.split('"').next().expect("an end");
            assert!(schemas[name].is_object(), "{name}");
        }
        assert_eq!(document["openapi"], "3.1.0");
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    }
}
