//! What is said of an exported project: that it is written, and what is in it.

use std::time::Duration;

use mln_protocol::wire::{DISK_BLOCK_BYTES, ExportContents, ExportedDisk};
use serde_json::{Value, json};

use super::rows::Layout;
use super::table::{name, number, text, with_titles};
use crate::misfit::Misfit;
use crate::quantity::{date_time, seconds, short_bytes};

/// Returns the table of `import --check`.
pub fn table(contents: &ExportContents, layout: Layout) -> String {
    let columns = [name("Name"), text("Kind"), number("Blocks"), number("In file"), text("Image")];
    let line = |disk: &ExportedDisk, kind: &str, image: String| {
        vec![
            disk.name.to_string(),
            kind.to_owned(),
            short_bytes(disk.blocks.saturating_mul(DISK_BLOCK_BYTES as u64)),
            short_bytes(disk.bytes),
            image,
        ]
    };
    let below = |disk: &ExportedDisk| {
        let template = disk.drives.iter().find_map(|drive| drive.template.as_ref());
        template.map_or_else(String::new, |template| format!("{} {}", template.name, template.digest.short()))
    };
    let vms = contents.vms.iter().map(|vm| line(vm, "host", below(vm)));
    let images = contents.images.iter().map(|(image, disk)| line(disk, "image", image.digest.short()));
    let lines: Vec<Vec<String>> = vms.chain(images).collect();
    let mut out = String::new();
    if let Some(head) = &contents.head {
        let (size, date) = (short_bytes(contents.bytes), date_time(head.taken_unix_ms));
        out = format!("{} as of {date}, {size}, whole: {}\n", head.label, root(contents));
    }
    out + &with_titles(&columns, lines, layout.columns)
}

fn root(contents: &ExportContents) -> String {
    contents.root.map_or_else(String::new, |root| root.to_string())
}

/// Returns the same as an object, with the disks that its text has no place for.
pub fn json(contents: &ExportContents, misfits: &[Misfit]) -> Value {
    let disk = |disk: &ExportedDisk| {
        let template = disk.drives.iter().find_map(|drive| drive.template.as_ref());
        json!({
            "name": disk.name.as_str(),
            "blocks": disk.blocks,
            "bytes": disk.bytes,
            "root": disk.root.to_string(),
            "drives": disk.drives.iter().map(|drive| json!({ "name": drive.name.as_str(), "bytes": drive.bytes })).collect::<Vec<_>>(),
            "image": template.map(|template| json!({ "name": template.name.as_str(), "digest": template.digest.to_string() })),
        })
    };
    let images = contents.images.iter().map(|(image, _)| {
        json!({ "name": image.name.as_str(), "version": image.version, "digest": image.digest.to_string() })
    });
    json!({
        "owner": contents.head.as_ref().map(|head| head.label.owner.to_string()),
        "project": contents.head.as_ref().map(|head| head.label.project.to_string()),
        "taken_unix_ms": contents.head.as_ref().map(|head| head.taken_unix_ms),
        "bytes": contents.bytes,
        "digest": root(contents),
        "hosts": contents.vms.iter().map(disk).collect::<Vec<_>>(),
        "images": images.collect::<Vec<_>>(),
        "misfits": misfits.iter().map(|misfit| json!({ "host": misfit.vm.as_str(), "bytes": misfit.bytes, "text": misfit.text() })).collect::<Vec<_>>(),
    })
}

/// Returns what is said of a file that is written.
pub fn exported(file: &str, contents: &ExportContents, took: Duration) -> String {
    let size = short_bytes(contents.bytes);
    let hosts = match contents.vms.len() {
        1 => "1 host".to_owned(),
        many => format!("{many} hosts"),
    };
    format!("{file}: {hosts}, {size}, {}, digest {}", seconds(milliseconds(took)), root(contents))
}

/// Returns the same as an event.
pub fn exported_json(file: &str, contents: &ExportContents, took: Duration) -> Value {
    json!({ "event": "exported", "file": file, "ms": milliseconds(took), "contents": json(contents, &[]) })
}

fn milliseconds(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mln_protocol::id::{Digest, Label, Name};
    use mln_protocol::wire::{DriveShape, DriveTemplate, ExportHead};

    #[test]
    fn it_is_said_what_is_in_a_file() {
        let name = |text: &str| Name::parse(text).expect("a name");
        let template = DriveTemplate { name: name("mini"), digest: Digest([1; 32]) };
        let vm = ExportedDisk {
            name: name("r1"),
            drives: vec![DriveShape { name: name("root"), bytes: 1 << 30, template: Some(template) }],
            blocks: 512,
            bytes: 4096,
            root: Digest([2; 32]),
        };
        let head =
            ExportHead { label: Label { owner: name("anna"), project: name("ring") }, taken_unix_ms: 0 };
        let contents = ExportContents {
            head: Some(head),
            vms: vec![vm],
            bytes: 5000,
            root: Some(Digest([3; 32])),
            ..ExportContents::default()
        };
        let layout = Layout { columns: 80, status_spacing: super::super::table::Spacing::Aligned };
        let said = table(&contents, layout);
        assert!(said.starts_with("anna/ring as of ") && said.contains("mini 01010101"), "{said}");
        let said = json(&contents, &[]);
        assert_eq!((&said["hosts"][0]["blocks"], &said["bytes"]), (&json!(512), &json!(5000)));
        assert!(exported("f", &contents, Duration::from_millis(1500)).contains("f: 1 host, "));
    }
}
