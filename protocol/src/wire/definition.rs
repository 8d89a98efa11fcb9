//! What a project was submitted as, in bytes: contents like those of its files, named by their digest.

use serde::{Deserialize, Serialize};

use super::{DecodeError, decode, encode, known, name};
use crate::id::Digest;
use crate::model::{Blob, Definition, PinnedTemplate};

/// The version of the shapes below.
const VERSION: u16 = 1;

/// The longest encoded definition, in bytes.
pub const DEFINITION_BYTES_MAX: usize = super::MESSAGE_BYTES_MAX;

#[derive(Serialize, Deserialize)]
struct Versioned {
    version: u16,
    definition: DefinitionWire,
}

#[derive(Serialize, Deserialize)]
enum DefinitionWire {
    Submitted {
        source: Option<String>,
        variables: Vec<(String, String)>,
        files: Vec<FileWire>,
        templates: Vec<TemplateWire>,
    },
}

#[derive(Serialize, Deserialize)]
struct FileWire {
    from: String,
    digest: [u8; 32],
    bytes: u64,
    mode: u32,
}

#[derive(Serialize, Deserialize)]
struct TemplateWire {
    vm: String,
    template: String,
    digest: [u8; 32],
}

/// Encodes a definition.
pub fn encode_definition(definition: &Definition) -> Vec<u8> {
    let file = |blob: &Blob| FileWire {
        from: blob.from.clone(),
        digest: blob.digest.0,
        bytes: blob.bytes,
        mode: blob.mode,
    };
    let template = |pinned: &PinnedTemplate| TemplateWire {
        vm: pinned.vm.to_string(),
        template: pinned.template.to_string(),
        digest: pinned.digest.0,
    };
    encode(&Versioned {
        version: VERSION,
        definition: DefinitionWire::Submitted {
            source: definition.source.clone(),
            variables: definition.variables.clone(),
            files: definition.files.iter().map(file).collect(),
            templates: definition.templates.iter().map(template).collect(),
        },
    })
}

/// Decodes a definition.
pub fn decode_definition(bytes: &[u8]) -> Result<Definition, DecodeError> {
    known(bytes, VERSION, 1, "version or kind of a definition")?;
    let wire: Versioned = decode(bytes, DEFINITION_BYTES_MAX)?;
    let DefinitionWire::Submitted { source, variables, files, templates } = wire.definition;
    let template = |wire: TemplateWire| {
        Ok(PinnedTemplate {
            vm: name(&wire.vm)?,
            template: name(&wire.template)?,
            digest: Digest(wire.digest),
        })
    };
    let file = |wire: FileWire| Blob {
        from: wire.from,
        digest: Digest(wire.digest),
        bytes: wire.bytes,
        mode: wire.mode,
    };
    Ok(Definition {
        source,
        variables,
        files: files.into_iter().map(file).collect(),
        templates: templates.into_iter().map(template).collect::<Result<_, DecodeError>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Name, hex};

    #[test]
    fn a_definition_is_the_same_after_its_bytes_and_has_the_bytes_of_version_1() {
        let vm = |text: &str| Name::parse(text).expect("a name");
        let definition = Definition {
            source: Some("s".to_owned()),
            variables: vec![("k".to_owned(), "v".to_owned())],
            files: vec![Blob { from: "f".to_owned(), digest: Digest([1; 32]), bytes: 2, mode: 0o644 }],
            templates: vec![PinnedTemplate { vm: vm("a"), template: vm("mini"), digest: Digest([3; 32]) }],
        };
        let bytes = encode_definition(&definition);
        assert_eq!(decode_definition(&bytes), Ok(definition));
        let expect = format!(
            "01000000000001010000000000000073{}{}{}",
            "0100000000000000010000000000000\
             06b010000000000000076",
            format_args!("0100000000000000010000000000000066{}0200000000000000a4010000", "01".repeat(32)),
            format_args!(
                "0100000000000000010000000000000061\
                 04000000000000006d696e69{}",
                "03".repeat(32)
            ),
        );
        assert_eq!(hex(&bytes), expect);
        assert!(decode_definition(&[9; 12]).is_err(), "another version is refused");
    }
}
