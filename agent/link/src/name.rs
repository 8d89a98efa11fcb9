//! Names as text on the wire, parsed as they arrive: `#[serde(with = "crate::name")]`, and for options and
//! lists `crate::name::option` and `crate::name::list`.

use mln_protocol::id::Name;
use serde::{Deserialize, Deserializer, Serializer, de::Error};

pub(crate) fn serialize<S: Serializer>(name: &Name, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name.as_str())
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
    Name::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

pub(crate) mod option {
    use serde::Serialize;

    use super::{Deserialize, Deserializer, Error, Name, Serializer};

    pub(crate) fn serialize<S: Serializer>(name: &Option<Name>, serializer: S) -> Result<S::Ok, S::Error> {
        name.as_ref().map(Name::as_str).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Name>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| Name::parse(&text)).transpose().map_err(D::Error::custom)
    }
}

pub(crate) mod list {
    use super::{Deserialize, Deserializer, Error, Name, Serializer};

    pub(crate) fn serialize<S: Serializer>(names: &[Name], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(names.iter().map(Name::as_str))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Name>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| Name::parse(text)).collect::<Result<_, _>>().map_err(D::Error::custom)
    }
}
