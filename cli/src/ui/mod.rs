//! What the user sees. Everything here but [`screen`] is pure: values in, text out.

pub mod hint;
pub mod json;
pub mod progress;
pub mod report;
pub mod rows;
pub mod screen;
pub mod table;
pub mod text;
