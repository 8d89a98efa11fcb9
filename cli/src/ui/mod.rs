//! What the user sees. Everything here is pure, values in and text out, but [`screen`] and [`outcome`], which
//! write it: one for conversations with an agent, one for commands that need none.

pub mod change;
pub mod diagnostic;
pub mod document;
pub mod explanation;
pub mod exports;
pub mod hint;
pub mod json;
pub mod outcome;
pub mod outside;
pub mod plan;
pub mod progress;
pub mod project;
pub mod report;
pub mod rewritten;
pub mod rows;
pub mod screen;
pub mod snapshots;
pub mod table;
pub mod terminal;
pub mod text;
mod usage;
