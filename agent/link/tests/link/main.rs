//! Control messages as bytes and as conversations.

mod conversation;
mod golden;
