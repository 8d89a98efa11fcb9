//! `NAME.toml`: what a plugin is and which words it claims.

use mln_protocol::lang::grammar::Context;
use mln_protocol::lang::{Claim, ClaimForm, Manifest};
use serde::Deserialize;

/// A manifest as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestToml {
    version: u32,
    /// The program, beside the manifest; without it, the plugin's name.
    run: Option<String>,
    /// What it does, in a sentence: for people.
    #[serde(rename = "about")]
    _about: Option<String>,
    #[serde(default)]
    claim: Vec<OuterClaimToml>,
    #[serde(default)]
    setting: Vec<ClaimToml>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OuterClaimToml {
    word: String,
    #[serde(rename = "in")]
    places: Vec<PlaceToml>,
    form: FormToml,
    #[serde(default)]
    keywords: Vec<ClaimToml>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimToml {
    word: String,
    form: FormToml,
    #[serde(default)]
    keywords: Vec<ClaimToml>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PlaceToml {
    Global,
    Host,
    Network,
    Switch,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FormToml {
    Flag,
    Pair,
    Pairs,
    Lines,
    Block,
    Blocks,
}

/// Which version of manifests this program knows.
const VERSION: u32 = 1;

/// Why a manifest is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum ManifestTomlError {
    /// It is not the TOML that is expected.
    #[error("{0}")]
    Malformed(#[from] toml::de::Error),
    /// It is of another version.
    #[error("it has version {found}, and this mlnctl knows version {VERSION}")]
    Version { found: u32 },
    /// The program is somewhere else.
    #[error("`run` is `{run}`, and names no file beside the manifest")]
    Elsewhere { run: String },
    /// A word without a block has words inside of it.
    #[error("`{word}` is no block, and has keywords")]
    KeywordsWithoutBlock { word: String },
}

/// Parses a manifest; returns it with the name of the program beside it, where it gives one.
pub(super) fn parse(text: &str) -> Result<(Manifest, Option<String>), ManifestTomlError> {
    let manifest: ManifestToml = toml::from_str(text)?;
    if manifest.version != VERSION {
        return Err(ManifestTomlError::Version { found: manifest.version });
    }
    if let Some(run) =
        manifest.run.as_ref().filter(|run| run.contains('/') || run.starts_with('.') || run.is_empty())
    {
        return Err(ManifestTomlError::Elsewhere { run: run.clone() });
    }
    let outer = |claim: OuterClaimToml| {
        let OuterClaimToml { word, places, form, keywords } = claim;
        let places = places.into_iter().map(context).collect();
        Ok((places, self::claim(ClaimToml { word, form, keywords })?))
    };
    let claims = manifest.claim.into_iter().map(outer).collect::<Result<_, ManifestTomlError>>()?;
    let settings = manifest.setting.into_iter().map(claim).collect::<Result<_, _>>()?;
    Ok((Manifest { claims, settings }, manifest.run))
}

fn context(place: PlaceToml) -> Context {
    match place {
        PlaceToml::Global => Context::Global,
        PlaceToml::Host => Context::Host,
        PlaceToml::Network => Context::Network,
        PlaceToml::Switch => Context::Switch,
    }
}

fn claim(claim: ClaimToml) -> Result<Claim, ManifestTomlError> {
    let ClaimToml { word, form, keywords } = claim;
    let inside: Vec<Claim> = keywords.into_iter().map(self::claim).collect::<Result<_, _>>()?;
    let form = match form {
        FormToml::Block => ClaimForm::Block(inside),
        FormToml::Blocks => ClaimForm::Blocks(inside),
        _ if !inside.is_empty() => return Err(ManifestTomlError::KeywordsWithoutBlock { word }),
        FormToml::Flag => ClaimForm::Flag,
        FormToml::Pair => ClaimForm::Pair,
        FormToml::Pairs => ClaimForm::Pairs,
        FormToml::Lines => ClaimForm::Lines,
    };
    Ok(Claim { word, form })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_says_what_is_wrong_with_it() {
        let reason = |text: &str| parse(text).map_or_else(|error| error.to_string(), |_| "fine".to_owned());
        assert_eq!(reason("version = 1"), "fine");
        assert!(reason("version = 2").contains("version 2"));
        assert!(reason("version = 1\nrun = \"../sh\"").contains("no file beside"));
        assert!(reason("version = 1\nclaims = []").contains("unknown field"));
        let word = "version = 1\n[[claim]]\nword = \"x\"\nin = [\"host\"]\nform = \"pair\"\n";
        assert_eq!(reason(word), "fine");
        assert!(
            reason(&format!("{word}keywords = [{{ word = \"y\", form = \"flag\" }}]")).contains("no block")
        );
    }
}
