//! The rules of the house that a machine can check; `docs/architecture.md` lists them with their reasons.

mod dependencies;
mod documents;
mod sources;
mod tree;
