//! A sender and a receiver of traffic, and a writer of blocks, for inside guests: nothing but the standard library.
//!
//! ```text
//!   mln-traffic serve PORT             receives whatever comes, for ever
//!   mln-traffic flood ADDRESS SECONDS  prints BYTES NANOSECONDS, as the receiver counted them
//!   mln-traffic ping ADDRESS COUNT     prints the median round trip of one byte, in nanoseconds
//!   mln-traffic fill FILE MIB          writes a file of so many MiB
//!   mln-traffic scribble FILE PERCENT SEED  writes so many of its blocks anew, each in its place
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what it finds is its output")]

mod pattern;

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What is written at a time, in bytes.
const BLOCK_BYTES: usize = 128 << 10;

/// How long either side waits for the other.
const PATIENCE: Duration = Duration::from_secs(20);

/// The first byte of a connection that floods.
const FLOOD: u8 = b'F';

/// The first byte of a connection whose bytes are sent back.
const PING: u8 = b'P';

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["serve", port] => serve(port),
        ["flood", address, seconds] => flood(address, seconds),
        ["ping", address, count] => ping(address, count),
        ["fill", file, mib] => fill(file, mib),
        ["scribble", file, percent, seed] => scribble(file, percent, seed),
        _ => Err(io::Error::other(
            "mln-traffic serve PORT | flood ADDRESS SECONDS | ping ADDRESS COUNT | fill FILE MIB | \
             scribble FILE PERCENT SEED",
        )),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mln-traffic: {error}");
            ExitCode::FAILURE
        }
    }
}

fn number(text: &str) -> io::Result<u64> {
    text.parse().map_err(|_| io::Error::other(format!("{text:?} is no number")))
}

fn serve(port: &str) -> io::Result<()> {
    let listener = TcpListener::bind(format!("0.0.0.0:{port}"))?;
    for stream in listener.incoming() {
        // One at a time is what is measured; one that breaks is no reason to end.
        if let Err(error) = stream.and_then(answer) {
            eprintln!("mln-traffic: {error}");
        }
    }
    Ok(())
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut kind = [0];
    stream.read_exact(&mut kind)?;
    match kind[0] {
        FLOOD => {
            let mut block = vec![0; BLOCK_BYTES];
            let began = Instant::now();
            let mut bytes = 0_u64;
            loop {
                match stream.read(&mut block)? {
                    0 => break,
                    count => bytes += count as u64,
                }
            }
            let nanoseconds = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
            stream.write_all(&bytes.to_be_bytes())?;
            stream.write_all(&nanoseconds.to_be_bytes())
        }
        PING => {
            let mut byte = [0];
            while stream.read(&mut byte)? == 1 {
                stream.write_all(&byte)?;
            }
            Ok(())
        }
        other => Err(io::Error::other(format!("a connection that begins with {other}"))),
    }
}

fn connect(address: &str, kind: u8) -> io::Result<TcpStream> {
    let address = address.parse().map_err(|_| io::Error::other(format!("{address:?} is no address")))?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&[kind])?;
    Ok(stream)
}

fn flood(address: &str, seconds: &str) -> io::Result<()> {
    let time = Duration::from_secs(number(seconds)?);
    let mut stream = connect(address, FLOOD)?;
    let block = vec![0x5a; BLOCK_BYTES];
    let began = Instant::now();
    while began.elapsed() < time {
        stream.write_all(&block)?;
    }
    stream.shutdown(Shutdown::Write)?;
    let mut answer = [[0; 8]; 2];
    for half in &mut answer {
        stream.read_exact(half)?;
    }
    let [bytes, nanoseconds] = answer.map(u64::from_be_bytes);
    println!("{bytes} {nanoseconds}");
    Ok(())
}

fn ping(address: &str, count: &str) -> io::Result<()> {
    let count = number(count)?.max(1);
    let mut stream = connect(address, PING)?;
    let mut byte = [1];
    let mut trips = Vec::new();
    for _ in 0..count {
        let began = Instant::now();
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        trips.push(began.elapsed().as_nanos());
    }
    trips.sort_unstable();
    println!("{}", trips[trips.len() / 2]);
    Ok(())
}

fn fill(path: &str, mib: &str) -> io::Result<()> {
    let mut file = BufWriter::new(File::create_new(path)?);
    let mut block = [0; pattern::BLOCK_BYTES];
    for place in 0..number(mib)? * (1 << 20) / pattern::BLOCK_BYTES as u64 {
        pattern::fill(&mut block, 0, place);
        file.write_all(&block)?;
    }
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

fn scribble(path: &str, percent: &str, seed: &str) -> io::Result<()> {
    let (percent, seed) = (number(percent)?, number(seed)?);
    let file = File::options().write(true).open(path)?;
    let mut block = [0; pattern::BLOCK_BYTES];
    for place in 0..file.metadata()?.len() / pattern::BLOCK_BYTES as u64 {
        if pattern::is_chosen(seed, place, percent) {
            pattern::fill(&mut block, seed, place);
            file.write_all_at(&block, place * pattern::BLOCK_BYTES as u64)?;
        }
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_counted_and_what_is_pinged_comes_back() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let serving = std::thread::spawn(move || {
            for _ in 0..2 {
                listener.accept().and_then(|(stream, _)| answer(stream)).expect("both ends are here");
            }
        });
        flood(&address, "0").expect("it is received");
        ping(&address, "3").expect("it comes back");
        serving.join().expect("it has served both");
    }
}
