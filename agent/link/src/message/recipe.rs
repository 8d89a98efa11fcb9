//! Messages about templates that are made from a recipe with more in them than the recipe has.

use std::fmt;

use mln_protocol::id::Name;
use serde::{Deserialize, Serialize};

/// How many packages may be asked for.
pub const PACKAGES_MAX: usize = 200;
/// The longest name of a package, in bytes.
const PACKAGE_BYTES_MAX: usize = 100;

/// Make a template image from a recipe, with packages that the recipe doesn't have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateRecipe {
    /// The recipe.
    #[serde(with = "crate::name")]
    pub recipe: Name,
    /// The template's name.
    #[serde(with = "crate::name")]
    pub name: Name,
    /// What is installed as well.
    pub packages: Vec<Package>,
}

/// The name of a Debian package: holding one is proof that it is no option and no path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Package(String);

impl Package {
    /// Parses the name of a package.
    pub fn parse(text: &str) -> Result<Self, PackageError> {
        let fits = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.')
        };
        let begins_well =
            text.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit());
        match text.bytes().all(fits) && begins_well && text.len() <= PACKAGE_BYTES_MAX {
            true => Ok(Self(text.to_owned())),
            false => Err(PackageError),
        }
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for Package {
    type Error = PackageError;

    fn try_from(text: String) -> Result<Self, PackageError> {
        Self::parse(&text)
    }
}

impl From<Package> for String {
    fn from(package: Package) -> Self {
        package.0
    }
}

/// A text that is no package's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a Debian package's name has small letters, digits, `+`, `-` and `.`, and begins with a letter or a digit"
)]
pub struct PackageError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_neither_an_option_nor_a_path() {
        for good in ["cfengine3", "libstdc++6", "7zip", "python3.11"] {
            assert_eq!(Package::parse(good).map(String::from).as_deref(), Ok(good));
        }
        for wrong in ["", "--mode=root", "./x.deb", "a,b", "a b", "A", "a/bookworm", "?essential"] {
            assert!(Package::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Package::parse(&"x".repeat(PACKAGE_BYTES_MAX + 1)).is_err());
    }
}
