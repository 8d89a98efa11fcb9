//! A stream that ends with its length and digest.

use std::fmt;
use std::io::{self, Read, Write};

/// How much is collected before it is written, in bytes.
const CHUNK_BYTES: usize = 32 << 10;
/// The longest chunk that is read, in bytes.
const CHUNK_BYTES_MAX: usize = 1 << 20;

/// What a stream was: its length and digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    /// How many bytes.
    pub bytes: u64,
    /// Their BLAKE3 digest.
    pub digest: [u8; 32],
}

impl Seal {
    /// Returns the digest as hexadecimal digits.
    pub fn hex(&self) -> String {
        blake3::Hash::from(self.digest).to_hex().to_string()
    }
}

impl fmt::Display for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.bytes, self.hex())
    }
}

/// Writes a stream; call [`Sealing::finish`], or the other end will know that it broke off.
pub struct Sealing<W> {
    out: W,
    chunk: Vec<u8>,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl<W> fmt::Debug for Sealing<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealing({} bytes)", self.bytes)
    }
}

impl<W: Write> Sealing<W> {
    /// Begins a stream.
    pub fn new(out: W) -> Self {
        Self { out, chunk: Vec::with_capacity(CHUNK_BYTES), hasher: blake3::Hasher::new(), bytes: 0 }
    }

    /// Ends the stream and returns what it was.
    pub fn finish(mut self) -> io::Result<Seal> {
        self.write_chunk()?;
        let seal = Seal { bytes: self.bytes, digest: *self.hasher.finalize().as_bytes() };
        self.out.write_all(&0_u32.to_le_bytes())?;
        self.out.write_all(&seal.bytes.to_le_bytes())?;
        self.out.write_all(&seal.digest)?;
        self.out.flush()?;
        Ok(seal)
    }

    fn write_chunk(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        self.hasher.update(&self.chunk);
        self.bytes += self.chunk.len() as u64;
        self.out.write_all(&(self.chunk.len() as u32).to_le_bytes())?;
        self.out.write_all(&self.chunk)?;
        self.chunk.clear();
        Ok(())
    }
}

impl<W: Write> Write for Sealing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..count]);
        if self.chunk.len() == CHUNK_BYTES {
            self.write_chunk()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_chunk()?;
        self.out.flush()
    }
}

/// Reads a stream; its end is only reached where length and digest are right.
pub struct Unsealing<R> {
    input: R,
    /// What is left of the chunk that is being read, in bytes.
    left: usize,
    hasher: blake3::Hasher,
    bytes: u64,
    seal: Option<Seal>,
}

impl<R> fmt::Debug for Unsealing<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unsealing({} bytes)", self.bytes)
    }
}

impl<R: Read> Unsealing<R> {
    /// Begins to read a stream.
    pub fn new(input: R) -> Self {
        Self { input, left: 0, hasher: blake3::Hasher::new(), bytes: 0, seal: None }
    }

    /// Reads what is left, and returns what the stream was.
    pub fn finish(&mut self) -> io::Result<Seal> {
        loop {
            if let Some(seal) = self.seal {
                return Ok(seal);
            }
            // The end of an archive is padded.
            io::copy(self, &mut io::sink())?;
        }
    }

    fn exactly<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(broke_off)?;
        Ok(bytes)
    }

    fn begin_chunk(&mut self) -> io::Result<()> {
        self.left = u32::from_le_bytes(self.exactly()?) as usize;
        if self.left > CHUNK_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no stream of files"));
        }
        if self.left == 0 {
            let said = Seal { bytes: u64::from_le_bytes(self.exactly()?), digest: self.exactly()? };
            let seal = Seal { bytes: self.bytes, digest: *self.hasher.finalize().as_bytes() };
            if said != seal {
                let text = format!(
                    "{} bytes arrived, {} were sent, and their digests differ",
                    seal.bytes, said.bytes
                );
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            self.seal = Some(seal);
        }
        Ok(())
    }
}

impl<R: Read> Read for Unsealing<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && self.seal.is_none() {
            self.begin_chunk()?;
        }
        if self.seal.is_some() || bytes.is_empty() {
            return Ok(0);
        }
        let wanted = bytes.len().min(self.left);
        let count = self.input.read(&mut bytes[..wanted])?;
        if count == 0 {
            return Err(broke_off(io::ErrorKind::UnexpectedEof.into()));
        }
        self.hasher.update(&bytes[..count]);
        self.bytes += count as u64;
        self.left -= count;
        Ok(count)
    }
}

fn broke_off(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "it broke off before its end"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(content: &[u8]) -> (Vec<u8>, Seal) {
        let mut out = Vec::new();
        let mut sealing = Sealing::new(&mut out);
        sealing.write_all(content).expect("a Vec takes all");
        let seal = sealing.finish().expect("a Vec takes all");
        (out, seal)
    }

    #[test]
    fn what_was_sealed_comes_back_with_its_seal() {
        for length in [0, 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 7] {
            let content: Vec<u8> = (0..length).map(|at| (at * 7) as u8).collect();
            let (stream, seal) = sealed(&content);
            let mut reader = Unsealing::new(stream.as_slice());
            let mut back = Vec::new();
            reader.read_to_end(&mut back).expect("it is whole");
            assert!(back == content);
            assert_eq!(reader.finish().expect("it is whole"), seal);
        }
    }

    #[test]
    fn whatever_is_cut_or_changed_has_no_end() {
        let (stream, _) = sealed(b"some content");
        for length in 0..stream.len() {
            let error = Unsealing::new(&stream[..length]).finish().expect_err("cut off");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{length}");
        }
        for at in 0..stream.len() {
            let mut damaged = stream.clone();
            damaged[at] ^= 1;
            assert!(Unsealing::new(damaged.as_slice()).finish().is_err(), "byte {at}");
        }
    }
}
