//! Every code of a diagnostic, with its title, in one table.

use std::fmt;

use super::diagnostic::Severity;

macro_rules! codes {
    ($($name:ident $code:literal $severity:ident $title:literal)*) => {
        /// The kind of a diagnostic. A code never changes its meaning; one that is no longer used is not given again.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $title] $name,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Returns it as people write it, `E0201`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// Returns what it means, in one line.
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// Returns the page that explains it, as it is written.
            pub(super) fn page(self) -> &'static str {
                match self { $(Self::$name => include_str!(concat!("explain/", $code, ".md")),)* }
            }

            /// Returns how bad it is.
            pub fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)* }
            }
        }
    };
}

codes! {
    QuoteOpen            "E0101" Error   "a quotation mark has no partner on its line"
    BlockOpen            "E0102" Error   "a block is not closed"
    BraceStray           "W0103" Warning "a closing brace closes nothing"
    BlockNameless        "E0104" Error   "a block begins without a keyword"
    NestingDeep          "E0105" Error   "blocks are nested too deeply"
    IncludeUnread        "E0110" Error   "an included file cannot be read"
    IncludeCycle         "E0111" Error   "a file includes itself"
    IncludeLimit         "E0112" Error   "too many files are included, or too deeply"

    KeywordUnknown       "E0201" Error   "an unknown keyword"
    KeywordElsewhere     "E0202" Error   "a keyword stands in a block where it means nothing"
    ValueMissing         "E0203" Error   "a keyword lacks its value"
    ValueUnexpected      "E0204" Error   "a keyword has a value but takes none"
    BlockExpected        "E0205" Error   "a keyword lacks its block"
    BlockUnexpected      "E0206" Error   "a keyword has a block but takes none"
    NameMissing          "E0207" Error   "a block lacks its name"
    NameUnexpected       "E0208" Error   "a block has a name but takes none"
    Duplicate            "E0209" Error   "two blocks have the same name"
    SetTwice             "W0210" Warning "a keyword is set twice in one block"
    NameInvalid          "E0211" Error   "a name that cannot be one"
    ProjectUnnamed       "E0212" Error   "the project has no name"
    RemovesNothing       "W0213" Warning "`no` removes nothing"

    VariableUnknown      "E0301" Error   "a variable is not defined"
    VariableCycle        "E0302" Error   "a variable is defined by itself"
    VariableLong         "E0303" Error   "a value becomes too long when its variables are put in"
    VariableInside       "W0304" Warning "`$name` stands inside a value, where only `$[name]` is a variable"
    VariableMalformed    "E0305" Error   "a variable is defined in a wrong way"
    VariableUnused       "W0306" Warning "a variable of the command line is not used"

    SuperclassUnknown    "E0401" Error   "a superclass is not defined"
    SuperclassCycle      "E0402" Error   "a superclass inherits from itself"
    SuperclassDeep       "E0403" Error   "a chain of superclasses is too long"

    NumberInvalid        "E0501" Error   "a number that cannot be one, or is out of range"
    SizeUnitless         "E0502" Error   "a disk size has no unit"
    SizeInvalid          "E0503" Error   "a size that cannot be one"
    AddressInvalid       "E0504" Error   "an address that cannot be one"
    NetmaskInvalid       "E0505" Error   "a network mask that cannot be one"
    MacInvalid           "E0506" Error   "a hardware address that cannot be one"
    UserInvalid          "E0507" Error   "a line of `users` that is wrong"
    FileInvalid          "E0508" Error   "a line of `files` that is wrong"
    TemplateInvalid      "E0509" Error   "a template's name that cannot be one"
    FileUnread           "E0510" Error   "a file for a guest cannot be read"
    ValueInvalid         "E0511" Error   "a value that the keyword does not take"
    FileAbsent           "W0512" Warning "a file for a guest cannot be read yet"
    MountInvalid         "E0520" Error   "a line of `mount` that is wrong"

    SwitchUnknown        "E0601" Error   "a switch is not defined"
    SwitchEmpty          "W0602" Warning "nothing is attached to a switch"
    AddressTwice         "E0603" Error   "two interfaces on one switch have the same address"
    MacTwice             "E0604" Error   "two interfaces have the same hardware address"
    AddressOutside       "E0605" Error   "an address does not lie in its network"
    AttachedTwice        "E0607" Error   "an interface is attached to two things"
    AddressBare          "E0608" Error   "an address without its keyword"
    AddressMissing       "W0609" Warning "something about an address is given, but no address"
    ForwardInvalid       "E0610" Error   "a `forward` that cannot be one"
    ForwardTwice         "E0611" Error   "two interfaces want the same port of a service host"
    ForwardMisplaced     "E0612" Error   "a `forward` of an interface without address translation"
    PolicyClassUnknown   "E0613" Error   "a policy names a class that is not defined"
    PolicyLimit          "E0614" Error   "a host has too many policies"

    EnumerationMissing   "E0701" Error   "an enumeration lacks something"
    EnumerationOverflow  "E0702" Error   "an enumeration leaves its network"
    ProjectLarge         "E0703" Error   "the project becomes too large"

    NotYet               "W0801" Warning "something is understood, but not carried out yet"
    PlatformNotYet       "E0802" Error   "a platform that is not carried out yet"
    NoEffect             "W0803" Warning "something has no effect on the chosen platform"
    Replaced             "W0804" Warning "something was replaced by something else"

    PluginUnknown        "E0901" Error   "a plugin is not installed"
    PluginUnusable       "E0902" Error   "a plugin cannot be used"
    PluginForbidden      "E0903" Error   "a plugin beside the project file is not allowed to run"
    PluginFailed         "E0904" Error   "a plugin failed"
    PluginRefuses        "E0905" Error   "a plugin finds something wrong"
    PluginWarns          "W0906" Warning "a plugin warns of something"
    PluginIdle           "W0907" Warning "settings of a plugin that the project does not name"
    AmendedUnknown       "E0908" Error   "a host that is amended is not defined"
}

impl Code {
    /// Returns the code that is written so, in capital or small letters.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str().eq_ignore_ascii_case(text))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_ascend_and_show_their_severity() {
        let digits: Vec<_> = Code::ALL.iter().map(|code| &code.as_str()[1..]).collect();
        assert!(digits.is_sorted_by(|a, b| a < b));
        for code in Code::ALL {
            let letter = if code.severity() == Severity::Error { "E" } else { "W" };
            assert!(code.as_str().starts_with(letter) && code.as_str().len() == 5, "{code}");
            assert_eq!(Code::parse(&code.as_str().to_lowercase()), Some(*code));
        }
    }
}
