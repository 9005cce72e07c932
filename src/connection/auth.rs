//! Who a client is: the first message of those who need a key, and every later `auth`.

use std::net::IpAddr;
use std::rc::Rc;

use super::session::{Acted, Session, request_id_of};
use crate::access::grant::{Grant, Place};
use crate::process::Process;
use crate::protocol::answer::Answer;
use crate::protocol::codes::{
    ALREADY_AUTHENTICATED_TEXT, API_KEY_REQUIRED_TEXT, AUTH_FIRST_TEXT, ErrorCode,
    INVALID_API_KEY_TEXT, INVALID_TOKEN_TEXT, OTHER_SUBJECT_TEXT,
};
use crate::protocol::command::{BadCommand, Command, Proof};
use crate::protocol::names::RequestId;

/// Why an `auth` is refused.
type Refusal = (ErrorCode, String);

/// What a proof grants.
fn check(process: &Process, address: IpAddr, proof: &Proof<'_>) -> Result<Grant, Refusal> {
    let (access, now) = (&process.access, process.started.elapsed());
    let may_try = process.addresses.may_try(address, now);
    may_try.map_err(|refused| (ErrorCode::LimitExceeded, refused.text))?;
    let checked = match proof {
        Proof::ApiKey(key) => {
            let refusal = || (ErrorCode::InvalidApiKey, INVALID_API_KEY_TEXT.into());
            access.by_key(key.as_bytes()).ok_or_else(refusal)
        }
        Proof::Token(token) => {
            let refusal = || (ErrorCode::InvalidToken, INVALID_TOKEN_TEXT.into());
            access.by_token(token).ok_or_else(refusal)
        }
    };
    if checked.is_err() {
        process.addresses.has_failed(address, now);
    }
    checked
}

impl Session {
    /// The only command that is taken before the client has proved its right to be here.
    pub(super) fn authenticate(&mut self, command: &Result<Command<'_>, BadCommand<'_>>) {
        let request_id = request_id_of(command);
        let (local, connection) = (Rc::clone(&self.local), Rc::clone(&self.connection));
        let unauthorized = |text: &str| Err((ErrorCode::Unauthorized, text.to_owned()));
        let admitted = match command {
            Ok(Command::Auth {
                proof: Some(proof), ..
            }) => {
                let address = connection.figures.address().ip();
                check(&local.process, address, proof).and_then(|grant| self.admit(grant))
            }
            Ok(Command::Auth { proof: None, .. }) => unauthorized(API_KEY_REQUIRED_TEXT),
            Err(bad) if bad.is_auth => unauthorized(&bad.message),
            _ => unauthorized(AUTH_FIRST_TEXT),
        };
        match admitted {
            Ok(()) => connection.say(&local, &Answer::Authenticated { request_id }),
            Err((code, text)) => {
                let client = connection.figures.address();
                tracing::info!(%client, "a WebSocket was refused: {text}");
                let message = &text;
                let answer = Answer::Error {
                    request_id,
                    code,
                    message,
                };
                connection.refuse(&local, &answer, message);
            }
        }
    }

    /// An `auth` of a connection that needs none, or none any more.
    pub(super) fn authenticate_again(
        &mut self,
        request_id: Option<RequestId<'_>>,
        proof: Option<&Proof<'_>>,
    ) -> Acted {
        let bad_request = |message| Answer::Error {
            request_id,
            code: ErrorCode::BadRequest,
            message,
        };
        let Some(proof) = proof else {
            return self.answer(&bad_request(API_KEY_REQUIRED_TEXT));
        };
        if !self.local.process.access.is_on() {
            return self.answer(&Answer::Authenticated { request_id });
        }
        let held = self.connection.grant.borrow().clone();
        // A fresh token in the place of one that ends.
        let is_renewal = held.is_of_token() && matches!(proof, Proof::Token(_));
        if !self.is_auth_expected && !is_renewal {
            return self.answer(&bad_request(ALREADY_AUTHENTICATED_TEXT));
        }
        if !self.flow.is_idle() {
            return Acted::MustWait;
        }
        let address = self.connection.figures.address().ip();
        let checked = check(&self.local.process, address, proof);
        let is_another = |grant: &Grant| is_renewal && grant.name() != held.name();
        let admitted = match checked {
            Ok(grant) if is_another(&grant) => {
                Err((ErrorCode::InvalidToken, OTHER_SUBJECT_TEXT.to_owned()))
            }
            Ok(grant) => self.admit(grant),
            Err(refusal) => Err(refusal),
        };
        self.is_auth_expected = false;
        let Err((code, text)) = admitted else {
            return self.answer(&Answer::Authenticated { request_id });
        };
        let answer = Answer::Error {
            request_id,
            code,
            message: &text,
        };
        if is_renewal {
            return self.answer(&answer);
        }
        self.connection.refuse(&self.local, &answer, &text);
        Acted::Done
    }

    /// Takes a grant in the place of what there was, or says what there is no room for.
    fn admit(&mut self, grant: Grant) -> Result<(), Refusal> {
        let full = |text| (ErrorCode::LimitExceeded, text);
        // Its own place is not in its way.
        self.place = Place::default();
        self.place = grant.enter().map_err(full)?;
        if !self.connection.is_authenticated.get() {
            let seat = self.local.process.seats.take();
            self.seat = seat.ok_or_else(|| full("No room for another connection".to_owned()))?;
        }
        self.connection.hold(&self.local, grant);
        Ok(())
    }
}
