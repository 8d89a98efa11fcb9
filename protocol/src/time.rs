//! Time as the core is told it: never read from a clock here.

/// A moment, on both of a machine's clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Milliseconds on a clock that never goes back and has no meaning between machines or restarts.
    pub mono_ms: u64,
    /// Milliseconds since 1970 by the machine's wall clock; may jump.
    pub unix_ms: u64,
}
