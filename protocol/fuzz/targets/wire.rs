//! Whatever the bytes: decoding ends without a panic, and what could be decoded has exactly these bytes again.
//!
//! `make fuzz-wire RUNS=1000000` runs it. The first byte chooses the decoder; where a signature is needed, the target
//! signs the bytes itself, so that what lies behind the signature is reached.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mln_protocol::trust::{Domain, Grant, KeyPair};
use mln_protocol::wire::{
    self, HelloMessage, ImageAnswer, ImageAsk, JoinClaim, JoinMessage, Manifest, TrunkHeader,
};

/// Decodes, and where that works encodes again: one value has one encoding.
macro_rules! canonical {
    ($bytes:expr, $type:ty) => {
        if let Ok(value) = <$type>::from_bytes($bytes) {
            assert_eq!(value.to_bytes(), $bytes, "one value, two encodings");
        }
    };
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, bytes)) = data.split_first() else { return };
    let keys = KeyPair::from_secret([1; 32]);
    match choice % 14 {
        0 => {
            if let Ok(message) = wire::decode_message(bytes, keys.public()) {
                assert_eq!(wire::encode_message(&message), bytes, "one message, two encodings");
            }
        }
        1 => {
            // Behind the signature, by somebody with a valid key.
            let signed = keys.sign(Domain::Record, bytes.to_vec());
            if let Ok(record) = wire::verify_record(signed, keys.public()) {
                let again = wire::sign_record(&keys, (**record).clone());
                assert_eq!(again.signed().payload, bytes, "one record, two encodings");
            }
        }
        2 => {
            if let Ok(revision) = wire::decode_revision(bytes) {
                assert_eq!(wire::encode_revision(&revision), bytes, "one revision, two encodings");
            }
        }
        3 => {
            if let Ok(fragment) = wire::decode_fragment(bytes) {
                assert_eq!(wire::encode_fragment(&fragment), bytes, "one fragment, two encodings");
            }
        }
        4 => {
            if let Ok(chain) = wire::decode_chain(bytes) {
                assert_eq!(wire::encode_chain(&chain), bytes, "one chain, two encodings");
            }
        }
        5 => {
            if let Ok(grant) = Grant::from_bytes(bytes) {
                let _ = grant.to_bytes();
            }
        }
        6 => canonical!(bytes, HelloMessage),
        7 => canonical!(bytes, JoinMessage),
        8 => canonical!(bytes, JoinClaim),
        9 => {
            canonical!(bytes, ImageAsk);
            canonical!(bytes, ImageAnswer);
        }
        10 => {
            if let Ok(manifest) = Manifest::from_bytes(bytes) {
                let _ = manifest.to_bytes();
            }
        }
        11 => {
            // What owners say of guests' keys, and what guests want.
            let signed = keys.sign(Domain::Attestation, bytes.to_vec());
            if let Ok(attestation) = wire::verify_attestation(signed) {
                let again = wire::sign_attestation(&keys, (*attestation).clone());
                assert_eq!(again.signed().payload, bytes, "one attestation, two encodings");
            }
            let signed = keys.sign(Domain::GuestRequest, bytes.to_vec());
            if let Ok(request) = wire::verify_guest_request(signed) {
                let again = wire::sign_guest_request(&keys, (*request).clone());
                assert_eq!(again.signed().payload, bytes, "one request, two encodings");
            }
        }
        12 => canonical!(bytes, TrunkHeader),
        _ => {
            // What a guest says to its host, and what it is told.
            if let Ok(ask) = wire::me::decode_me_ask(bytes) {
                assert_eq!(wire::me::encode_me_ask(ask.number, ask.ask), bytes, "one question, two encodings");
            }
            if let Ok(answer) = wire::me::decode_me_answer(bytes) {
                let again = wire::me::encode_me_answer(answer.number, answer.answer);
                assert_eq!(again, bytes, "one answer, two encodings");
            }
            if let Ok(call) = wire::me::decode_me_call(bytes) {
                assert_eq!(wire::me::encode_me_call(call), bytes, "one call, two encodings");
            }
        }
    }
});
