//! A switch's way to the network of its host: a tap, on which one read or write is one frame.
//!
//! With a VLAN, frames are tagged on their way out (IEEE 802.1Q), and only those with its tag come in, without it.

use std::os::fd::OwnedFd;
use std::task::{Context, Poll};

use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use super::counters::LinkCounters;
use super::port::{Gone, Reading};
use super::{FRAME_BYTES_MAX, FRAME_BYTES_MIN};

/// Where a frame's tag stands: behind both addresses.
const TAG_AT: usize = 12;
/// How long a tag is.
pub(super) const TAG_BYTES: usize = 4;
/// What a tag begins with.
const TAG_TYPE: [u8; 2] = [0x81, 0x00];
/// The bits of a tag that are the VLAN's number; the others are its priority.
const VLAN_BITS: u16 = 0x0fff;

/// One uplink.
#[derive(Debug)]
pub(super) struct Uplink {
    fd: AsyncFd<OwnedFd>,
    vlan: Option<u16>,
    tagged: Vec<u8>,
    is_gone: bool,
}

impl Uplink {
    /// An uplink over a tap that doesn't block.
    pub(super) fn new(fd: AsyncFd<OwnedFd>, vlan: Option<u16>) -> Self {
        Self { fd, vlan, tagged: Vec::new(), is_gone: false }
    }

    /// Receives up to `budget` frames and gives each to `each`.
    pub(super) fn read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
        budget: usize,
        counters: &LinkCounters,
        mut each: impl FnMut(&[u8]),
    ) -> Reading {
        let mut left = budget;
        loop {
            let mut guard = match self.fd.poll_read_ready(cx) {
                Poll::Pending => return Reading::Idle,
                Poll::Ready(Ok(guard)) => guard,
                Poll::Ready(Err(_)) => return Reading::Ended,
            };
            loop {
                if left == 0 {
                    return Reading::More;
                }
                match rustix::io::read(self.fd.get_ref(), &mut *buffer) {
                    Ok(0) => return Reading::Ended,
                    Ok(bytes) => {
                        left -= 1;
                        let Some(length) = untagged(buffer, bytes, self.vlan) else { continue };
                        if (FRAME_BYTES_MIN..=FRAME_BYTES_MAX).contains(&length) {
                            counters.received(length);
                            each(&buffer[..length]);
                        } else {
                            counters.dropped_malformed();
                        }
                    }
                    Err(Errno::AGAIN) => {
                        guard.clear_ready();
                        break;
                    }
                    Err(Errno::INTR) => {}
                    Err(_) => return Reading::Ended,
                }
            }
        }
    }

    /// Sends a frame; the kernel takes it at once or not at all.
    pub(super) fn write(&mut self, frame: &[u8], counters: &LinkCounters) {
        let bytes = match self.vlan {
            None => frame,
            Some(vlan) => {
                tag(frame, vlan, &mut self.tagged);
                &self.tagged
            }
        };
        loop {
            match rustix::io::write(self.fd.get_ref(), bytes) {
                Ok(_) => return counters.sent(frame.len()),
                Err(Errno::INTR) => {}
                // Somebody has removed the tap, of which reading hears nothing.
                Err(Errno::BADFD) => {
                    self.is_gone = true;
                    return counters.dropped_full();
                }
                // Full, or down for now.
                Err(_) => return counters.dropped_full(),
            }
        }
    }

    /// Says whether the tap is still there.
    pub(super) fn flush(&self) -> Result<(), Gone> {
        if self.is_gone { Err(Gone) } else { Ok(()) }
    }
}

/// Puts a frame with a tag into `tagged`.
fn tag(frame: &[u8], vlan: u16, tagged: &mut Vec<u8>) {
    let (addresses, rest) = frame.split_at(TAG_AT.min(frame.len()));
    tagged.clear();
    tagged.extend_from_slice(addresses);
    tagged.extend_from_slice(&TAG_TYPE);
    tagged.extend_from_slice(&vlan.to_be_bytes());
    tagged.extend_from_slice(rest);
}

/// Takes the tag out of a frame, in place, and returns its length then; none where it is not for this VLAN. Without a
/// VLAN every frame passes as it is.
fn untagged(buffer: &mut [u8], bytes: usize, vlan: Option<u16>) -> Option<usize> {
    let Some(vlan) = vlan else { return Some(bytes) };
    let found = buffer.get(TAG_AT..TAG_AT + TAG_BYTES).filter(|_| bytes >= TAG_AT + TAG_BYTES)?;
    let number = u16::from_be_bytes([found[2], found[3]]) & VLAN_BITS;
    if found[..2] != TAG_TYPE || number != vlan {
        return None;
    }
    buffer.copy_within(TAG_AT + TAG_BYTES..bytes, TAG_AT);
    Some(bytes - TAG_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: &[u8] = b"to....from..\x08\x00a packet";

    #[test]
    fn a_tag_comes_behind_the_addresses_and_is_taken_out_again() {
        let mut tagged = Vec::new();
        tag(FRAME, 7, &mut tagged);
        assert_eq!(tagged, b"to....from..\x81\x00\x00\x07\x08\x00a packet");
        // Whatever its priority.
        tagged[14] |= 0xe0;
        let length = tagged.len();
        assert_eq!(untagged(&mut tagged, length, Some(7)), Some(FRAME.len()));
        assert_eq!(&tagged[..FRAME.len()], FRAME);
    }

    #[test]
    fn frames_of_other_vlans_and_of_none_stay_outside() {
        let mut tagged = Vec::new();
        tag(FRAME, 8, &mut tagged);
        let length = tagged.len();
        assert_eq!(untagged(&mut tagged, length, Some(7)), None);
        assert_eq!(untagged(&mut FRAME.to_vec(), FRAME.len(), Some(7)), None);
        assert_eq!(untagged(&mut FRAME.to_vec(), 13, Some(7)), None);
        // Without a VLAN tags are none of our business.
        assert_eq!(untagged(&mut tagged, length, None), Some(length));
    }
}
