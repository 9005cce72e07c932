//! The mailbox of a core.

#[path = "../../../../src/core/mailbox.rs"]
pub(crate) mod mailbox;

mod models;

/// What the mailbox is asked about connections.
mod census {
    #[derive(Debug)]
    pub(crate) struct Census;
    #[derive(Debug)]
    pub(crate) struct Look;
    #[derive(Debug)]
    pub(crate) struct Dismissal;
}

/// Reads the next letter, as a core does.
pub(crate) fn read(mailbox: &mailbox::Mailbox) -> Option<mailbox::Letter> {
    mailbox.next_letter()
}
