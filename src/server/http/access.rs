//! Who may ask: hosts, pages of other origins, keys. And what pages are told about it (CORS).

use std::borrow::Cow;
use std::time::Duration;

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    AUTHORIZATION, HOST, HeaderName, HeaderValue, ORIGIN, VARY,
};
use hyper::{HeaderMap, Method, StatusCode, Version};
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::{Answer, Reason, add_retry_after, bad_request, error, json};
use super::caller::Caller;
use crate::access::Access;
use crate::access::address::TooMany;
use crate::access::grant::Grant;
use crate::config::Config;
use crate::config::origins::AllowedOrigins;
use crate::process::Process;
use crate::protocol::codes::{
    ErrorCode, INVALID_API_KEY_TEXT, INVALID_TICKET_TEXT, INVALID_TOKEN_TEXT, MISSING_API_KEY_TEXT,
};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// How long a browser may remember the answer to a preflight, in seconds.
const PREFLIGHT_AGE_SEC: HeaderValue = HeaderValue::from_static("600");

/// What was wrong with a key, a token or a ticket.
#[derive(Serialize, ToSchema)]
#[schema(as = RefusedKey)]
pub(super) struct KeyErrorBody {
    error: KeyError,
}

/// What is wrong with a key or token.
#[derive(Clone, Serialize, ToSchema)]
pub(super) struct KeyError {
    /// It was not looked at, and may be after so long.
    #[serde(skip)]
    #[schema(ignore)]
    wait: Option<Duration>,
    code: &'static str,
    #[schema(value_type = String)]
    message: Cow<'static, str>,
}

impl KeyError {
    const MISSING: Self = Self::new(ErrorCode::MissingApiKey, MISSING_API_KEY_TEXT);
    const KEY: Self = Self::new(ErrorCode::InvalidApiKey, INVALID_API_KEY_TEXT);
    pub(super) const TICKET: Self = Self::new(ErrorCode::Unauthorized, INVALID_TICKET_TEXT);
    const TOKEN: Self = Self::new(ErrorCode::InvalidToken, INVALID_TOKEN_TEXT);

    const fn new(code: ErrorCode, message: &'static str) -> Self {
        Self {
            wait: None,
            code: code.as_str(),
            message: Cow::Borrowed(message),
        }
    }

    /// Its address has shown too many that are none.
    fn too_many(refused: TooMany) -> Self {
        Self {
            wait: Some(refused.wait),
            code: ErrorCode::LimitExceeded.as_str(),
            message: Cow::Owned(refused.text),
        }
    }

    pub(super) fn answer(self) -> Answer {
        let (wait, reason) = (self.wait, Reason((&*self.message).into()));
        let status = match wait {
            Some(_) => StatusCode::TOO_MANY_REQUESTS,
            None => StatusCode::UNAUTHORIZED,
        };
        let mut answer = json(status, &KeyErrorBody { error: self });
        if let Some(wait) = wait {
            add_retry_after(&mut answer, wait);
        }
        answer.extensions_mut().insert(reason);
        answer
    }
}

/// What is wrong with the request's `Host`. There is one, except in HTTP/1.0.
pub(super) fn check_host(version: Version, headers: &HeaderMap) -> Option<Answer> {
    match headers.get_all(HOST).iter().count() {
        1 => None,
        0 if version < Version::HTTP_11 => None,
        0 => Some(bad_request("a Host header is required")),
        _ => Some(bad_request("more than one Host header")),
    }
}

/// The request's key, if it has one that is not blank.
fn key(headers: &HeaderMap) -> Option<&[u8]> {
    let key = headers.get(API_KEY)?.as_bytes().trim_ascii();
    (!key.is_empty()).then_some(key)
}

/// The request's token, where there can be one.
fn token<'a>(access: &Access, headers: &'a HeaderMap) -> Option<&'a str> {
    let authorization = headers
        .get(AUTHORIZATION)
        .filter(|_| access.takes_tokens())?;
    let authorization = authorization.to_str().ok()?;
    // Without a token behind it, it is an empty one.
    let (scheme, token) = authorization.split_once(' ').unwrap_or((authorization, ""));
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}

/// What the request may do, or what is wrong with its key or token. A client that shows neither may
/// have shown a certificate with the name of a key.
pub(super) fn grant(
    process: &Process,
    caller: &Caller<'_>,
    headers: &HeaderMap,
) -> Result<Grant, KeyError> {
    let access = &process.access;
    if !access.is_on() {
        return Ok(Grant::Everything);
    }
    let (address, now) = (caller.address.ip(), process.started.elapsed());
    let may_try = process.addresses.may_try(address, now);
    may_try.map_err(KeyError::too_many)?;
    let granted = check(access, caller, headers);
    if granted.is_err() && (key(headers).is_some() || token(access, headers).is_some()) {
        process.addresses.has_failed(address, now);
    }
    granted
}

fn check(access: &Access, caller: &Caller<'_>, headers: &HeaderMap) -> Result<Grant, KeyError> {
    let key = key(headers);
    if let Some(grant) = key.and_then(|key| access.by_key(key)) {
        return Ok(grant);
    }
    match (token(access, headers), key) {
        (Some(token), _) => access.by_token(token).ok_or(KeyError::TOKEN),
        (None, Some(_)) => Err(KeyError::KEY),
        (None, None) => {
            let named = caller.name().and_then(|name| access.by_name(name));
            named.ok_or(KeyError::MISSING)
        }
    }
}

/// The same for an upgrade, where a wrong key counts as none: an `auth` may follow.
pub(super) fn grant_of_upgrade(
    process: &Process,
    caller: &Caller<'_>,
    headers: &HeaderMap,
) -> Result<Option<Grant>, KeyError> {
    match grant(process, caller, headers) {
        Err(wrong) if wrong.wait.is_some() || token(&process.access, headers).is_some() => {
            Err(wrong)
        }
        granted => Ok(granted.ok()),
    }
}

/// The refusal of what a key may not do.
pub(super) fn forbidden(text: &str) -> Answer {
    error(StatusCode::FORBIDDEN, ErrorCode::Forbidden, text)
}

/// Programs send no `Origin`; they are not what this guards against.
fn is_origin_allowed(config: &Config, headers: &HeaderMap) -> bool {
    let origins = headers.get_all(ORIGIN).iter();
    origins
        .map(HeaderValue::as_bytes)
        .all(|origin| config.allowed_origins.allows(origin))
}

/// The refusal of a page whose origin is not allowed.
pub(super) fn check_origin(config: &Config, headers: &HeaderMap) -> Option<Answer> {
    if is_origin_allowed(config, headers) {
        return None;
    }
    let origin = headers.get(ORIGIN).map(HeaderValue::as_bytes);
    let text = format!(
        "origin {} is not allowed",
        String::from_utf8_lossy(origin.unwrap_or_default())
    );
    Some(error(StatusCode::FORBIDDEN, ErrorCode::Unauthorized, &text))
}

/// Whether a browser asks what it may send, before it does.
fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Lets a page of an allowed origin read `answer`; `allowed` are the methods of the route.
pub(super) fn add_cors(
    config: &Config,
    method: &Method,
    asked: &HeaderMap,
    allowed: Option<&'static str>,
    answer: &mut Answer,
) {
    let headers = answer.headers_mut();
    let readable_by = match &config.allowed_origins {
        AllowedOrigins::Any => HeaderValue::from_static("*"),
        AllowedOrigins::Only(_) => {
            // Also where it does not depend on the origin, for caches: there it only seems so.
            headers.append(VARY, HeaderValue::from_static("Origin"));
            match asked.get(ORIGIN) {
                Some(origin) => origin.clone(),
                None => return,
            }
        }
    };
    if !asked.contains_key(ORIGIN) || !is_origin_allowed(config, asked) {
        return;
    }
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, readable_by);
    // Else a page could not see when to come back.
    let exposed = HeaderValue::from_static("Retry-After");
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    if let Some(allowed) = allowed
        && is_preflight(method, asked)
    {
        let wanted =
            HeaderValue::from_static("X-API-Key, Authorization, Content-Type, Last-Event-ID");
        headers.insert(
            ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static(allowed),
        );
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted);
        headers.insert(ACCESS_CONTROL_MAX_AGE, PREFLIGHT_AGE_SEC);
    }
}
