//! The User-Mode Linux platform with real guests.

mod exec;
mod hostile;
mod life;
mod network;
mod world;
