//! Paths, and what may be done with each.

use hyper::Method;

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    Root,
    WebSocket,
    Health,
    Ready,
    Metrics,
    Stats,
    Topics,
    Connections,
    /// A connection's number.
    Connection(&'a str),
    Tickets,
    /// A topic's name, percent-encoded, with a slash at its end if there was one.
    Topic(&'a str),
}

impl<'a> Route<'a> {
    /// Where `path` leads, with or without a slash at its end.
    pub(super) fn of(path: &'a str) -> Option<Self> {
        let route = match path.strip_suffix('/').unwrap_or(path) {
            "" => Self::Root,
            "/ws" => Self::WebSocket,
            "/health" => Self::Health,
            "/ready" => Self::Ready,
            "/metrics" => Self::Metrics,
            "/stats" => Self::Stats,
            "/topics" => Self::Topics,
            "/tickets" => Self::Tickets,
            "/connections" => Self::Connections,
            _ => match path.strip_prefix("/connections/") {
                Some(number) => Self::Connection(number),
                None => Self::Topic(path.strip_prefix("/topics/")?),
            },
        };
        Some(route)
    }

    /// The methods that it takes, as `Allow` has them.
    pub(super) fn allowed(self) -> &'static str {
        match self {
            Self::Topics => "GET, HEAD, POST",
            Self::Tickets => "POST",
            Self::Topic(_) | Self::Connection(_) => "GET, HEAD, DELETE",
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
    use super::Route;

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
            ("/topicsx", None),
            ("*", None),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }
}
