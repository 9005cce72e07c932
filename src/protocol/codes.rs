//! The one table of error and close codes, and the texts that clients match on.
//!
//! Codes and texts marked contract in the protocol may never change: clients compare them.

macro_rules! error_codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $text:literal,)+) => {
        /// The `code` of an error, on the socket and over REST.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl ErrorCode {
            /// Every code, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The code as it is sent.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }
    };
}

error_codes! {
    /// The command or body cannot be understood. The connection lives on.
    BadRequest = "BAD_REQUEST",
    /// No topic has that name.
    TopicNotFound = "TOPIC_NOT_FOUND",
    /// The subscriber's ring overflowed and events were dropped.
    SlowConsumer = "SLOW_CONSUMER",
    /// Another command came before `auth`, or nothing came in time. The connection closes.
    Unauthorized = "UNAUTHORIZED",
    /// The key is not one of the configured ones.
    InvalidApiKey = "INVALID_API_KEY",
    /// The token is not valid, or no longer.
    InvalidToken = "INVALID_TOKEN",
    /// A REST call came without a key.
    MissingApiKey = "MISSING_API_KEY",
    /// The key may not do that.
    Forbidden = "FORBIDDEN",
    /// A fault of the server.
    Internal = "INTERNAL",
    /// A configured limit is reached: topics, subscriptions of a connection.
    LimitExceeded = "LIMIT_EXCEEDED",
    /// A message or body is larger than is allowed.
    MessageTooLarge = "MESSAGE_TOO_LARGE",
    /// A topic of that name exists (REST).
    TopicExists = "TOPIC_EXISTS",
    /// The server is draining and takes no new work.
    Unavailable = "UNAVAILABLE",
}

/// The status code of a WebSocket close frame (RFC 6455, section 7.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// The server is shutting down.
    pub const GOING_AWAY: Self = Self(1001);
    /// The client broke RFC 6455.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// A close frame without a code: never sent, only told.
    pub const NONE: Self = Self(1005);
    /// No close frame at all: never sent, only told.
    pub const ABNORMAL: Self = Self(1006);
    /// A text message was not UTF-8.
    pub const INVALID_DATA: Self = Self(1007);
    /// Authentication failed, or did not come in time.
    pub const POLICY: Self = Self(1008);
    /// A message went over the size limit.
    pub const TOO_BIG: Self = Self(1009);
    /// The subscriber was too slow and the policy is to disconnect it.
    pub const TRY_AGAIN_LATER: Self = Self(1013);
}

/// Goes with [`ErrorCode::InvalidApiKey`].
pub const INVALID_API_KEY_TEXT: &str = "Invalid or expired API key";

/// Goes with [`ErrorCode::InvalidToken`].
pub const INVALID_TOKEN_TEXT: &str = "Invalid or expired token";

/// Goes with [`ErrorCode::InvalidToken`] where a token is to follow one of somebody else.
pub const OTHER_SUBJECT_TEXT: &str = "The sub of the token is not that of this connection";

/// Goes with [`ErrorCode::Unauthorized`] when another command comes first.
pub const AUTH_FIRST_TEXT: &str = "Authentication required: the first message must be auth";

/// Says that an `auth` has no key that could be compared.
pub const API_KEY_REQUIRED_TEXT: &str = "api_key is required";

/// Goes with [`ErrorCode::Unauthorized`] when no command came in time.
pub const AUTH_TIMEOUT_TEXT: &str = "Authentication timeout";

/// Goes with [`ErrorCode::BadRequest`] when `auth` comes a second time.
pub const ALREADY_AUTHENTICATED_TEXT: &str = "Already authenticated";

/// Goes with [`ErrorCode::BadRequest`] when `message.id` is a string but not a UUID.
pub const MESSAGE_ID_NOT_UUID_TEXT: &str = "message.id must be a valid UUID";

/// Goes with [`ErrorCode::Unauthorized`] where a ticket is none, used or over.
pub const INVALID_TICKET_TEXT: &str = "Invalid, used or expired ticket";

/// Goes with [`ErrorCode::MissingApiKey`].
pub const MISSING_API_KEY_TEXT: &str = "Missing X-API-Key header";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_the_codes_of_the_contract() {
        let codes: Vec<&str> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(
            codes,
            [
                "BAD_REQUEST",
                "TOPIC_NOT_FOUND",
                "SLOW_CONSUMER",
                "UNAUTHORIZED",
                "INVALID_API_KEY",
                "INVALID_TOKEN",
                "MISSING_API_KEY",
                "FORBIDDEN",
                "INTERNAL",
                "LIMIT_EXCEEDED",
                "MESSAGE_TOO_LARGE",
                "TOPIC_EXISTS",
                "UNAVAILABLE"
            ]
        );
    }
}
