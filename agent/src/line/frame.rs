//! Frames: how messages are cut out of a stream of bytes that may have anything between them.
//!
//! ```text
//!   magic 4 │ kind 1 │ flags 1 │ channel 4 │ sequence 4 │ length 2 │ crc32 of these 4 │ payload │ crc32 of it 4
//! ```
//! Numbers are little-endian. The header has its own checksum, so that garbage which looks like a beginning
//! can't make the decoder wait for a payload that never comes.

/// What a frame has beside its payload, in bytes.
pub const FRAME_BYTES: usize = HEADER_BYTES + 4;
/// The longest payload towards a guest: four whole frames fit into the credit.
pub const PAYLOAD_TO_GUEST_BYTES: usize = 512 - FRAME_BYTES;
/// The longest payload towards the host.
pub const PAYLOAD_TO_HOST_BYTES: usize = 8192 - FRAME_BYTES;

const HEADER_BYTES: usize = 20;
const FLAG_MORE: u8 = 1;

/// Which way a frame goes: an echo of one's own frames must not be taken for the other side's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the host to the guest.
    ToGuest,
    /// From the guest to the host.
    ToHost,
}

impl Direction {
    // 0xf5 and 0xf6 are in no UTF-8 text, so a kernel message or a log never looks like a frame.
    fn magic(self) -> [u8; 4] {
        match self {
            Self::ToGuest => [0xf5, b'M', b'L', b'N'],
            Self::ToHost => [0xf6, b'M', b'L', b'N'],
        }
    }

    /// Returns the longest payload of a frame in this direction, in bytes.
    pub fn payload_bytes_max(self) -> usize {
        match self {
            Self::ToGuest => PAYLOAD_TO_GUEST_BYTES,
            Self::ToHost => PAYLOAD_TO_HOST_BYTES,
        }
    }
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is; may be one that this program doesn't know.
    pub kind: u8,
    /// Whether the next frame continues its message.
    pub more: bool,
    /// The channel that it belongs to; 0 is the line itself.
    pub channel: u32,
    /// Counts the frames of a session in one direction.
    pub sequence: u32,
    /// Its content.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Appends the frame's bytes to `bytes`.
    ///
    /// The payload must not be longer than the direction's limit.
    pub fn encode(&self, direction: Direction, bytes: &mut Vec<u8>) {
        debug_assert!(self.payload.len() <= direction.payload_bytes_max());
        let start = bytes.len();
        bytes.extend_from_slice(&direction.magic());
        bytes.push(self.kind);
        bytes.push(if self.more { FLAG_MORE } else { 0 });
        bytes.extend_from_slice(&self.channel.to_le_bytes());
        bytes.extend_from_slice(&self.sequence.to_le_bytes());
        bytes.extend_from_slice(&(self.payload.len() as u16).to_le_bytes());
        let checksum = crc32fast::hash(&bytes[start..]);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes.extend_from_slice(&self.payload);
        bytes.extend_from_slice(&crc32fast::hash(&self.payload).to_le_bytes());
    }
}

/// Finds the frames in what arrives; skips whatever is none.
#[derive(Debug)]
pub struct Decoder {
    direction: Direction,
    buffer: Vec<u8>,
    start: usize,
    skipped_bytes: u64,
}

impl Decoder {
    /// Returns a decoder for frames that go in `direction`.
    pub fn new(direction: Direction) -> Self {
        Self { direction, buffer: Vec::new(), start: 0, skipped_bytes: 0 }
    }

    /// Takes what arrived. It keeps less than one frame once [`Self::frame`] has returned none.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns how many bytes belonged to no frame.
    pub fn skipped_bytes(&self) -> u64 {
        self.skipped_bytes
    }

    /// Returns the next whole frame.
    pub fn frame(&mut self) -> Option<Frame> {
        loop {
            let rest = &self.buffer[self.start..];
            let magic = self.direction.magic();
            let candidate = (0..rest.len()).find(|&i| magic.starts_with(&rest[i..rest.len().min(i + 4)]));
            let skip = candidate.unwrap_or(rest.len());
            self.start += skip;
            self.skipped_bytes += skip as u64;
            let rest = &self.buffer[self.start..];
            let header = rest.get(..HEADER_BYTES)?;
            let length = usize::from(u16::from_le_bytes([header[14], header[15]]));
            if crc32fast::hash(&header[..16]) != u32_at(header, 16)
                || length > self.direction.payload_bytes_max()
            {
                self.skip_one();
                continue;
            }
            let body = rest.get(HEADER_BYTES..HEADER_BYTES + length + 4)?;
            let (payload, checksum) = body.split_at(length);
            if crc32fast::hash(payload) != u32_at(checksum, 0) {
                self.skip_one();
                continue;
            }
            let frame = Frame {
                kind: header[4],
                more: header[5] & FLAG_MORE != 0,
                channel: u32_at(header, 6),
                sequence: u32_at(header, 10),
                payload: payload.to_vec(),
            };
            self.start += HEADER_BYTES + length + 4;
            return Some(frame);
        }
    }

    /// Returns how many bytes are in here that are not decoded yet.
    pub fn pending_bytes(&self) -> usize {
        self.buffer.len() - self.start
    }

    fn skip_one(&mut self) {
        self.start += 1;
        self.skipped_bytes += 1;
    }
}

/// Reads a number; callers have checked that four bytes are there.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(sequence: u32, payload: &[u8]) -> Frame {
        Frame { kind: 7, more: sequence.is_multiple_of(2), channel: 9, sequence, payload: payload.to_vec() }
    }

    fn encoded(frames: &[Frame]) -> Vec<u8> {
        let mut bytes = Vec::new();
        frames.iter().for_each(|f| f.encode(Direction::ToHost, &mut bytes));
        bytes
    }

    fn decode(chunks: &[&[u8]]) -> (Vec<Frame>, u64) {
        let mut decoder = Decoder::new(Direction::ToHost);
        let mut frames = Vec::new();
        for chunk in chunks {
            decoder.push(chunk);
            frames.extend(std::iter::from_fn(|| decoder.frame()));
        }
        (frames, decoder.skipped_bytes())
    }

    #[test]
    fn frames_survive_a_split_at_every_byte() {
        let frames = [frame(0, b""), frame(1, b"hello"), frame(2, &[0xf6; 40])];
        let bytes = encoded(&frames);
        for at in 0..=bytes.len() {
            assert_eq!(decode(&[&bytes[..at], &bytes[at..]]), (frames.to_vec(), 0), "split at {at}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(decode(&single), (frames.to_vec(), 0));
    }

    #[test]
    fn garbage_between_frames_is_skipped_and_counted() {
        let (first, second) = (frame(0, b"one"), frame(1, b"two"));
        let mut lying = encoded(&[frame(5, b"a payload that is cut off")]);
        lying.truncate(30);
        for garbage in [&b"Linux version 6.1"[..], b"\xf6ML", b"\xf6MLN\xf6MLN", &[0xff; 100], &lying] {
            let mut bytes = encoded(std::slice::from_ref(&first));
            bytes.extend_from_slice(garbage);
            bytes.extend(encoded(std::slice::from_ref(&second)));
            let (frames, skipped) = decode(&[&bytes]);
            assert_eq!(frames, [first.clone(), second.clone()], "{garbage:?}");
            assert_eq!(skipped, garbage.len() as u64);
        }
    }

    #[test]
    fn every_flipped_bit_costs_its_own_frame_only() {
        let frames = [frame(0, b"one"), frame(1, b"two"), frame(2, b"three")];
        let bytes = encoded(&frames);
        let second = FRAME_BYTES + 3..2 * (FRAME_BYTES + 3);
        for at in second {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                assert_eq!(decode(&[&damaged]).0, [frames[0].clone(), frames[2].clone()], "{at}.{bit}");
            }
        }
    }

    #[test]
    fn an_echo_of_ones_own_frames_is_garbage() {
        let mut bytes = Vec::new();
        frame(0, b"mine").encode(Direction::ToGuest, &mut bytes);
        assert_eq!(decode(&[&bytes]), (vec![], bytes.len() as u64));
    }
}
