//! RFC 6455, in and out, without a socket.

pub mod decoder;
pub mod deflate;
pub mod frame;
