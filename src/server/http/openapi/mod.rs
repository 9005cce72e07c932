//! `GET /openapi.json`: what this server answers, as `OpenAPI` 3.1.
//!
//! Schemas are derived from the structs that are sent; what is written while it leaves has its shape
//! here. A test holds paths and methods to the route table, and CI has every call in here made.

use std::sync::LazyLock;

use hyper::StatusCode;
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

mod calls;
mod schemas;

use self::calls::{ANY, CALLS, NAME};
use self::schemas::Schemas;
use super::answer::{Answer, json_bytes};

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
