//! What of a project its VMs' policies look at: how many of each class there are, and who shares which policy.

use std::collections::BTreeMap;

use crate::id::Name;
use crate::trust::Child;

/// A project in short.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// How many VMs each class has.
    pub classes: BTreeMap<Name, u32>,
    /// The VMs that have a policy, by whose block it comes from and its name; in the order of their names.
    pub sharing: BTreeMap<(Name, Name), Vec<Name>>,
}

impl Outline {
    /// Returns that of a project. A class that only policies name is there too, with none.
    pub fn of(project: &Child) -> Self {
        let mut outline = Self::default();
        for (vm, mandate) in &project.mandates {
            for class in &mandate.classes {
                *outline.classes.entry(class.clone()).or_default() += 1;
            }
            for policy in &mandate.policies {
                let key = (policy.origin.clone(), policy.name.clone());
                outline.sharing.entry(key).or_default().push(vm.clone());
                for may in &policy.may {
                    if let crate::model::May::Scale { class, .. } = may {
                        outline.classes.entry(class.clone()).or_default();
                    }
                }
            }
        }
        outline
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Label;
    use crate::model::Definition;
    use crate::sample::name;
    use crate::trust::Ground;

    #[test]
    fn classes_are_counted_and_policies_have_those_that_share_them() {
        let text = "global { project p; autoenum web { numhosts 3; superclass server } }
            superclass server { memory 64M; policy near { run /bin/near; may move oslo } }
            superclass idle { memory 64M }
            host front { memory 64M; policy grow { builtin scale; may scale web 1..4; may scale idle 0..2 } }";
        let definition = Definition {
            source: Some(text.to_owned()),
            variables: Vec::new(),
            files: Vec::new(),
            templates: Vec::new(),
        };
        let label = Label { owner: name("anna"), project: name("p") };
        let ground = Ground::of(&definition, &label).expect("a right text");
        let outline = Outline::of(ground.project());
        let classes = [("idle", 0), ("server", 3), ("web", 3)].map(|(class, count)| (name(class), count));
        assert_eq!(outline.classes, classes.into());
        let grow = ((name("front"), name("grow")), vec![name("front")]);
        let near = ((name("server"), name("near")), vec![name("node1"), name("node2"), name("node3")]);
        assert_eq!(outline.sharing, [grow, near].into());
    }
}
