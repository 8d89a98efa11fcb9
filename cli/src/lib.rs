//! `mlnctl`: the words people type. A thin client of any agent.

pub mod offline;
pub mod project_file;
pub mod ui;
