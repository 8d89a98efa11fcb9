//! The User-Mode Linux platform with real guests.

mod exec;
mod life;
mod network;
mod world;
