//! Paths, and what may be done with each.

use hyper::Method;

use super::console::Part;
use crate::config::Config;

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    Root,
    WebSocket,
    Health,
    Ready,
    Metrics,
    Stats,
    OpenApi,
    Settings,
    Console(Part),
    Topics,
    Connections,
    /// A connection's number.
    Connection(&'a str),
    Tickets,
    /// A topic's name, percent-encoded, in front of `/messages`.
    Messages(&'a str),
    /// Of several topics.
    Events,
    /// A topic's name, percent-encoded, in front of `/events`.
    TopicEvents(&'a str),
    /// A topic's name, percent-encoded, with a slash at its end if there was one.
    Topic(&'a str),
}

impl<'a> Route<'a> {
    /// Where `path` leads on a broker with these settings.
    pub(super) fn of_broker(config: &Config, path: &'a str) -> Option<Self> {
        Self::of(path).filter(|route| config.console || !matches!(route, Self::Console(_)))
    }

    /// Where `path` leads, with or without a slash at its end.
    pub(super) fn of(path: &'a str) -> Option<Self> {
        let route = match path.strip_suffix('/').unwrap_or(path) {
            "" => Self::Root,
            "/ws" => Self::WebSocket,
            "/health" => Self::Health,
            "/ready" => Self::Ready,
            "/metrics" => Self::Metrics,
            "/stats" => Self::Stats,
            "/openapi.json" => Self::OpenApi,
            "/settings" => Self::Settings,
            "/topics" => Self::Topics,
            "/events" => Self::Events,
            "/tickets" => Self::Tickets,
            "/connections" => Self::Connections,
            _ => return Self::of_one(path),
        };
        Some(route)
    }

    /// Where a path leads that names a connection or a topic.
    fn of_one(path: &'a str) -> Option<Self> {
        if let Some(part) = path.strip_prefix("/console") {
            return Part::of(part).map(Self::Console);
        }
        if let Some(number) = path.strip_prefix("/connections/") {
            return Some(Self::Connection(number));
        }
        let name = path.strip_prefix("/topics/")?;
        let of_topic = name.strip_suffix('/').unwrap_or(name);
        let route = if let Some(name) = of_topic.strip_suffix("/messages") {
            Self::Messages(name)
        } else if let Some(name) = of_topic.strip_suffix("/events") {
            Self::TopicEvents(name)
        } else {
            Self::Topic(name)
        };
        Some(route)
    }

    /// Whether it is answered without a key.
    pub(super) fn is_open(self, config: &Config) -> bool {
        match self {
            // The console holds nothing: what it shows it asks for, with a key.
            Self::Root
            | Self::WebSocket
            | Self::Health
            | Self::Ready
            | Self::OpenApi
            | Self::Console(_) => true,
            Self::Metrics => !config.metrics_auth,
            _ => false,
        }
    }

    /// Whether its answer hangs on the topics that there are.
    pub(super) fn is_about_topics(self) -> bool {
        matches!(
            self,
            Self::WebSocket
                | Self::Topics
                | Self::Messages(_)
                | Self::Events
                | Self::TopicEvents(_)
                | Self::Topic(_)
        )
    }

    /// The methods that it takes, as `Allow` has them.
    pub(super) fn allowed(self) -> &'static str {
        match self {
            Self::Topics => "GET, HEAD, POST",
            // A topic whose own name ends like this may still be deleted.
            Self::Messages(_) => "GET, HEAD, POST, DELETE",
            Self::Tickets => "POST",
            Self::Topic(_) | Self::TopicEvents(_) | Self::Connection(_) => "GET, HEAD, DELETE",
            _ => "GET, HEAD",
        }
    }

    pub(super) fn takes(self, method: &Method) -> bool {
        self.allowed()
            .split(", ")
            .any(|allowed| allowed == method.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::{Part, Route};

    #[test]
    fn a_slash_at_the_end_changes_only_names() {
        for (path, route) in [
            ("/", Some(Route::Root)),
            ("/health/", Some(Route::Health)),
            ("/ws/", Some(Route::WebSocket)),
            ("/topics", Some(Route::Topics)),
            ("/topics/", Some(Route::Topics)),
            ("/topics/a", Some(Route::Topic("a"))),
            ("/topics/a/", Some(Route::Topic("a/"))),
            ("/topics//", Some(Route::Topic("/"))),
            ("//", None),
            ("/health//", None),
            ("/topics/a/messages", Some(Route::Messages("a"))),
            ("/topics/a/b/messages/", Some(Route::Messages("a/b"))),
            ("/topics/a/events", Some(Route::TopicEvents("a"))),
            ("/topics/a/events/", Some(Route::TopicEvents("a"))),
            ("/topics/events", Some(Route::Topic("events"))),
            ("/events", Some(Route::Events)),
            ("/topics/messages", Some(Route::Topic("messages"))),
            ("/topicsx", None),
            ("*", None),
            ("/console", Some(Route::Console(Part::Page))),
            ("/console/", Some(Route::Console(Part::Slash))),
            ("/console/console.js", Some(Route::Console(Part::Script))),
            ("/console/console.css/", None),
            ("/consolex", None),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }
}
