//! What a switch is besides a segment: hub, uplink, VLAN.

use super::definitions::Named;
use super::expand::{Expander, Scope};
use super::inherit::Merged;
use crate::id::Name;
use crate::lang::{Code, Diagnostic, Span};
use crate::model::{HostAddress, SwitchKind, SwitchSettings, Uplink};

/// The longest name of an interface that Linux has, in bytes.
const INTERFACE_NAME_MAX: usize = 15;

/// The numbers that a VLAN may have (IEEE 802.1Q).
const VLANS: std::ops::RangeInclusive<u16> = 1..=4094;

/// Returns the settings of a switch, with what is wrong left out.
pub(super) fn settings<'a>(
    named: &'a Named<'a>,
    scope: Scope<'_, 'a>,
    expander: &mut Expander<'a>,
) -> SwitchSettings {
    let merged = Merged::of(&[&named.body], scope, expander);
    let mut maker = Maker { merged: &merged, expander };
    maker.settings(scope.block(&merged.variables))
}

struct Maker<'m, 'a> {
    merged: &'m Merged<'a>,
    expander: &'m mut Expander<'a>,
}

impl<'a> Maker<'_, 'a> {
    fn settings(&mut self, scope: Scope<'_, 'a>) -> SwitchSettings {
        let kind = self.kind(scope);
        // What an interface is attached to and what a switch is share their slot.
        let bridge = self.setting(scope, "attachment");
        let bridge = bridge.and_then(|(text, span)| self.interface_name(&text, span, "a bridge's name"));
        let tap = self.setting(scope, "tap");
        let is_own = tap.as_ref().is_some_and(|(text, _)| text.is_empty());
        let tap = tap.filter(|(text, _)| !text.is_empty());
        let tap = tap.and_then(|(text, span)| self.interface_name(&text, span, "a tap's name"));
        let has_uplink = is_own || tap.is_some() || bridge.is_some();
        let uplink = has_uplink.then_some(Uplink { tap, bridge });
        // One that is wrong was meant: then nothing is without effect.
        let is_meant = self.merged.entry("attachment").is_some() || self.merged.entry("tap").is_some();
        let vlan = self.vlan(scope, is_meant);
        let service_host = self.service_host(scope, is_meant);
        SwitchSettings {
            kind,
            vlan: vlan.filter(|_| uplink.is_some()),
            service_host: service_host.filter(|_| uplink.is_some()),
            uplink,
        }
    }

    fn setting(&mut self, scope: Scope<'_, 'a>, slot: &'static str) -> Option<(String, Span)> {
        let (value, _) = self.merged.setting(slot)?;
        Some((self.expander.expand(value, scope)?, value.span()))
    }

    fn report(&mut self, code: Code, span: Span, message: String, label: &str) {
        self.expander.report.push(Diagnostic::new(code, span, message).label(label));
    }

    fn kind(&mut self, scope: Scope<'_, 'a>) -> SwitchKind {
        let is_flag = self.merged.entry("type").is_some_and(|entry| entry.keyword.word == "hub");
        let Some((text, span)) = self.setting(scope, "type") else { return SwitchKind::default() };
        match text.as_str() {
            _ if is_flag => SwitchKind::Hub,
            "hub" => SwitchKind::Hub,
            "switch" => SwitchKind::Learning,
            _ => {
                let message = format!("`{text}` is no type of a switch");
                self.report(Code::ValueInvalid, span, message, "expected `hub` or `switch`");
                SwitchKind::default()
            }
        }
    }

    fn interface_name(&mut self, text: &str, span: Span, what: &str) -> Option<Name> {
        let name = self.expander.name(text, span, what)?;
        if name.as_str().len() > INTERFACE_NAME_MAX {
            let message = format!("`{text}` is too long for {what}");
            let label = format!("expected at most {INTERFACE_NAME_MAX} characters: Linux has no longer ones");
            self.report(Code::ValueInvalid, span, message, &label);
            return None;
        }
        Some(name)
    }

    fn vlan(&mut self, scope: Scope<'_, 'a>, has_uplink: bool) -> Option<u16> {
        let (text, span) = self.setting(scope, "vlan")?;
        let vlan = text.parse().ok().filter(|number| VLANS.contains(number));
        if vlan.is_none() {
            let message = format!("`{text}` cannot be `vlan`");
            let label = format!("expected a whole number from {} to {}", VLANS.start(), VLANS.end());
            self.report(Code::NumberInvalid, span, message, &label);
        } else if !has_uplink {
            let message = format!("`vlan {text}` has no effect on a switch that leads nowhere");
            let label =
                "expected `bridge NAME` or `tap NAME` beside it: frames are tagged there, and nowhere else";
            self.report(Code::NoEffect, span, message, label);
        }
        vlan
    }

    fn service_host(&mut self, scope: Scope<'_, 'a>, has_uplink: bool) -> Option<HostAddress> {
        let (text, span) = self.setting(scope, "service_host")?;
        if text.is_empty() || text.contains(char::is_whitespace) || text.starts_with('@') {
            let message = format!("`{text}` is no service host of a switch");
            self.report(Code::ValueInvalid, span, message, "expected one name or address");
            return None;
        }
        if !has_uplink {
            let message = format!("`service_host {text}` has no effect on a switch that leads nowhere");
            let label = "a switch is on every service host with a member of it; this one would have its `bridge` or `tap`";
            self.report(Code::NoEffect, span, message, label);
        }
        Some(HostAddress(text))
    }
}
