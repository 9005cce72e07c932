//! The subcommands that are clients.
