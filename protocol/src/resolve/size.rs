//! Sizes of disks and memory as people write them.

use crate::model::{DiskBytes, MemoryMib};

/// Why a text is no size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SizeError {
    /// A disk's size needs a unit.
    Unitless {
        /// The number that stands alone.
        number: u64,
    },
    /// Not a number with a unit.
    Malformed,
    /// Nothing, or more than there can be.
    OutOfRange,
}

/// The units that are understood, for messages.
pub(super) const UNITS: &str = "K, M, G, T (binary), kB, MB, GB, TB (decimal) or b (512 bytes)";

/// Returns the number in front, and how many bytes its unit has; none for no unit.
fn split(text: &str) -> Result<(u64, Option<u64>), SizeError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number = text[..digits].parse().map_err(|_| SizeError::Malformed)?;
    let bytes = match text[digits..].trim() {
        "" => return Ok((number, None)),
        "b" => 512,
        "K" | "k" | "KiB" => 1 << 10,
        "M" | "m" | "MiB" => 1 << 20,
        "G" | "g" | "GiB" => 1 << 30,
        "T" | "t" | "TiB" => 1 << 40,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return Err(SizeError::Malformed),
    };
    Ok((number, Some(bytes)))
}

/// Parses a disk's size, which needs a unit.
pub(super) fn disk(text: &str) -> Result<DiskBytes, SizeError> {
    match split(text)? {
        (number, None) => Err(SizeError::Unitless { number }),
        (number, Some(unit)) => {
            number.checked_mul(unit).filter(|&bytes| bytes > 0).map(DiskBytes).ok_or(SizeError::OutOfRange)
        }
    }
}

/// Parses an amount of memory: MiB where there is no unit; what is left over of a MiB is dropped.
pub(super) fn memory(text: &str) -> Result<MemoryMib, SizeError> {
    let (number, unit) = split(text)?;
    let bytes = number.checked_mul(unit.unwrap_or(1 << 20)).ok_or(SizeError::OutOfRange)?;
    let mib = u32::try_from(bytes >> 20).ok().filter(|&mib| mib > 0).ok_or(SizeError::OutOfRange)?;
    Ok(MemoryMib(mib))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_binary_or_decimal_by_their_spelling() {
        let check = |text, expect: u64| assert_eq!(disk(text), Ok(DiskBytes(expect)), "{text}");
        check("4b", 2048);
        check("1kB", 1000);
        check("1K", 1024);
        check("1MiB", 1 << 20);
        check("2G", 2 << 30);
        check("1 TB", 1_000_000_000_000);
        assert_eq!(disk("2000"), Err(SizeError::Unitless { number: 2000 }));
        assert_eq!(disk("2X"), Err(SizeError::Malformed));
        assert_eq!(disk("G"), Err(SizeError::Malformed));
        assert_eq!(disk("-1G"), Err(SizeError::Malformed));
        assert_eq!(disk("0G"), Err(SizeError::OutOfRange));
        assert_eq!(disk("99999999999T"), Err(SizeError::OutOfRange));
    }

    #[test]
    fn memory_is_in_mebibytes() {
        assert_eq!(memory("128"), Ok(MemoryMib(128)));
        assert_eq!(memory("128M"), Ok(MemoryMib(128)));
        assert_eq!(memory("1G"), Ok(MemoryMib(1024)));
        assert_eq!(memory("128MB"), Ok(MemoryMib(122)));
        assert_eq!(memory("1K"), Err(SizeError::OutOfRange));
    }
}
