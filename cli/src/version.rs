//! Which version of MLN this program is.

/// The version that this program reports: the package's, or what whoever built it put in its place.
///
/// A distributor sets `MLN_BUILD_VERSION` when building, such as `0.1.0-1+site3`, so that two builds of one
/// source can be told apart in `mlnctl peers`.
pub const VERSION: &str = match option_env!("MLN_BUILD_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};
