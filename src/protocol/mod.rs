//! Bytes to commands, replies to bytes.
