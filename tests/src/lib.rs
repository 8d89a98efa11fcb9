//! Stories with real agents and real virtual machines, run as processes.
//!
//! A story has a [`Site`]: hosts with folders of their own and, where the tests run as root, network namespaces
//! of their own, joined by a bridge. Hosts run the programs that `make test` sets apart; nothing of the
//! product's code is called. What a story waits for, it looks at until it is so, with a limit; when the limit
//! passes, the story ends with what was seen last. Sites may be beside each other; each is cleared away when it
//! is dropped, after a panic too, and what a killed test left is cleared away by the next one.

mod answer;
mod host;
mod leftover;
mod network;
mod programs;
mod site;
mod typist;
mod until;

pub use answer::Answer;
pub use host::Host;
pub use programs::{program, run_programs_of};
pub use site::Site;
pub use typist::Typist;
pub use until::{until, until_some};
