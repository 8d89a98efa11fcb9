//! The project language as text: source files to a lossless tree with diagnostics.
//!
//! ```text
//! text ──lexer──▶ tokens ──parser──▶ Tree ──resolve──▶ model
//!                              ▲
//!                         SourceLoader (included files; the caller reads them)
//! ```
//!
//! Parsing never fails and never stops at the first mistake: it returns a [`Tree`] whose text is the input byte
//! for byte, and all diagnostics. What a keyword *means* is not known here, only where it may stand and what
//! shape it has ([`grammar`]); values are looked at by `resolve`. Nothing here reads a file.

mod claim;
mod code;
mod diagnostic;
mod edit;
mod explanation;
mod fold;
mod format;
pub mod grammar;
mod lexer;
mod nearest;
mod parser;
mod plugged;
mod rewrite;
mod source;
mod tree;
mod without_effect;

pub use claim::{
    CLAIM_CONTEXTS, Claim, ClaimForm, ClaimId, Claims, Manifest, ManifestError, ManifestLoader, NamedPlugin,
    NoPlugins,
};
pub use code::Code;
pub use diagnostic::{Diagnostic, Fix, Label, Severity, sort};
pub use edit::{Edit, EditError, Setting, edit};
pub use explanation::Explanation;
pub use fold::fold;
pub use format::format;
pub use nearest::{did_you_mean, nearest};
pub use parser::{INCLUDE_DEPTH_MAX, NESTING_MAX, SOURCE_BYTES_MAX, SOURCES_MAX, parse, parse_with};
pub use plugged::{AmendedSetting, Amendment, AmendmentError, Made, Plugged};
pub use rewrite::{Rewritten, rewrite};
pub use source::{LoadError, NoIncludes, Position, Source, SourceId, SourceLoader, Sources, Span};
pub use tree::{Block, Include, Node, RawLine, Statement, Tree, Word};
pub use without_effect::why_without_effect;
