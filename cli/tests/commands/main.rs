//! `mlnctl` as a process, against an agent that follows a script.

mod agent;
mod build;
mod change;
mod completions;
mod events;
mod exec;
mod exit_codes;
mod output;
mod status;
