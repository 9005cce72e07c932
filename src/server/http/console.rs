//! `/console`: a page for people, made from the files in `console/dist`, which are in the binary.
//!
//! It holds no data and no secret: its script asks the public routes as any client does, with the
//! key of whoever sits in front of it. `console/` has its sources; what is built is committed, so
//! that nobody needs more than cargo. Browsers ask each time whether it has changed, since a broker
//! of another version may answer next.

use std::sync::LazyLock;

use hyper::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, LOCATION, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};
use sha2::{Digest, Sha256};

use super::accept::has_one_of;
use super::answer::Answer;

/// A part of the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Page,
    /// The page's path with a slash behind it, from where the names of the others would not lead
    /// anywhere.
    Slash,
    Script,
    Style,
    Icon,
}

impl Part {
    /// What stands behind `/console` in a path.
    pub(super) fn of(behind: &str) -> Option<Self> {
        match behind {
            "" => Some(Self::Page),
            "/" => Some(Self::Slash),
            "/console.js" => Some(Self::Script),
            "/console.css" => Some(Self::Style),
            "/icon.svg" => Some(Self::Icon),
            _ => None,
        }
    }

    fn file(self) -> &'static File {
        &FILES[match self {
            Self::Page | Self::Slash => 0,
            Self::Script => 1,
            Self::Style => 2,
            Self::Icon => 3,
        }]
    }
}

struct File {
    content_type: &'static str,
    plain: &'static [u8],
    /// The same, compressed beforehand.
    gzip: &'static [u8],
    /// Of the plain bytes. Weak, since both forms have it.
    tag: HeaderValue,
}

macro_rules! files {
    ($($name:literal: $content_type:literal,)+) => {
        [$( File {
            content_type: $content_type,
            plain: include_bytes!(concat!("../../../console/dist/", $name)),
            gzip: include_bytes!(concat!("../../../console/dist/", $name, ".gz")),
            tag: tag(include_bytes!(concat!("../../../console/dist/", $name))),
        }, )+]
    };
}

static FILES: LazyLock<[File; 4]> = LazyLock::new(|| {
    files! {
        "index.html": "text/html; charset=utf-8",
        "console.js": "text/javascript; charset=utf-8",
        "console.css": "text/css; charset=utf-8",
        "icon.svg": "image/svg+xml",
    }
});

fn tag(content: &[u8]) -> HeaderValue {
    let digest = Sha256::digest(content);
    let tag = digest[..8]
        .iter()
        .fold(0, |tag, byte| tag << 8 | u64::from(*byte));
    HeaderValue::from_str(&format!("W/\"{tag:016x}\"")).expect("digits are fit for a header")
}

/// What a browser may do with the page: run its script and ask its server. Nothing of another
/// origin, nothing inline, nothing made from a string, and in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";

pub(super) fn serve(part: Part, asked: &HeaderMap) -> Answer {
    let file = part.file();
    let mut answer = Response::new(Vec::new().into());
    let headers = answer.headers_mut();
    let mut say = |name: HeaderName, value| headers.insert(name, HeaderValue::from_static(value));
    say(CONTENT_SECURITY_POLICY, POLICY);
    say(X_CONTENT_TYPE_OPTIONS, "nosniff");
    say(REFERRER_POLICY, "no-referrer");
    say(CACHE_CONTROL, "no-cache");
    if part == Part::Slash {
        // Relative, for a broker that a proxy shows under another path.
        say(LOCATION, "../console");
        *answer.status_mut() = StatusCode::PERMANENT_REDIRECT;
        return answer;
    }
    say(VARY, "accept-encoding");
    headers.insert(ETAG, file.tag.clone());
    if is_known(asked, &file.tag) {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        return answer;
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(file.content_type));
    let body = if has_one_of(asked, &ACCEPT_ENCODING, &["gzip"]) {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        file.gzip
    } else {
        file.plain
    };
    *answer.body_mut() = body.into();
    answer
}

/// Whether the browser has what it asks for.
fn is_known(asked: &HeaderMap, tag: &HeaderValue) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let Ok(tag) = tag.to_str().map(opaque) else {
        return false;
    };
    let known = asked.get_all(IF_NONE_MATCH).iter();
    known
        .filter_map(|known| known.to_str().ok())
        .flat_map(|known| known.split(','))
        .any(|known| known.trim() == "*" || opaque(known) == tag)
}
