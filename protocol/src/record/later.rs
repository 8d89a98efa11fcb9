//! Records of kinds that only a newer program knows: kept, compared and passed on for those that do.

/// What can be said of a record without knowing its kind. All kinds that are added from now on begin with a slot and a
/// counter, and they are compared under [`super::RecordKey::Later`] by programs that know them, too: otherwise old and
/// new ones would never agree on what they have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Later {
    /// The number of the kind.
    pub kind: u32,
    /// Which of its author's records of this kind it is.
    pub slot: [u8; 32],
    /// The author's own count of the records in this slot.
    pub counter: u64,
    /// What follows, which nobody here can read.
    pub rest: Vec<u8>,
}
