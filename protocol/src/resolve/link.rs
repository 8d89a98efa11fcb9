//! What an interface does to frames, and the service host's end of its tap.

use super::expand::Scope;
use super::host::MergedNetwork;
use super::network::NetworkMaker;
use crate::lang::{Code, Diagnostic, Span};
use crate::model::{Attachment, Delay, Impairment, InterfaceAddress, Loss, Rate};

impl<'a> NetworkMaker<'_, 'a> {
    /// Returns what is done to the frames that leave an interface.
    pub(super) fn impairment(
        &mut self,
        merged: &MergedNetwork<'a>,
        scope: Scope<'_, 'a>,
        attachment: &Attachment,
    ) -> Impairment {
        let delay = self.setting(merged, scope, "delay");
        let loss = self.setting(merged, scope, "loss");
        let rate = self.setting(merged, scope, "rate");
        let refused = match attachment {
            Attachment::UserNat | Attachment::Switch(_) => None,
            Attachment::Bridge(bridge) => Some(format!(
                "expected an interface on a switch; a `switch` with `bridge {bridge}` joins it to the bridge"
            )),
            Attachment::Tap(tap) => Some(format!(
                "expected an interface on a switch; a `switch` with `tap {tap}` has the tap as a port"
            )),
        };
        if let Some(label) = refused {
            for (word, setting) in [("delay", delay), ("loss", loss), ("rate", rate)] {
                let Some((text, span, _)) = setting else { continue };
                let message =
                    format!("`{word} {text}` has no effect on an interface whose frames the kernel moves");
                self.report(Code::NoEffect, span, message, &label);
            }
            return Impairment::default();
        }
        Impairment {
            delay: delay.and_then(|(text, span, _)| {
                let label = "expected a time up to 60s with its unit, such as `50ms`, `1.5s` or `200us`";
                self.quantity(Delay::parse, ("delay", "ms"), &text, span, label)
            }),
            loss: loss.and_then(|(text, span, _)| {
                let label = "expected a share above 0 and up to 100%, such as `1%` or `0.5%`";
                self.quantity(Loss::parse, ("loss", "%"), &text, span, label)
            }),
            rate: rate.and_then(|(text, span, _)| {
                let label =
                    "expected bits per second with their unit, from `8kbit` to `1000Gbit`, such as `10Mbit`";
                self.quantity(Rate::parse, ("rate", "bit"), &text, span, label)
            }),
        }
    }

    /// Parses a quantity; `usual` is the unit that was most likely meant where there is none.
    fn quantity<T>(
        &mut self,
        parse: fn(&str) -> Option<T>,
        (word, usual): (&str, &str),
        text: &str,
        span: Span,
        label: &str,
    ) -> Option<T> {
        let parsed = parse(text);
        if parsed.is_none() {
            let message = format!("`{text}` cannot be a `{word}`");
            let diagnostic = Diagnostic::new(Code::ValueInvalid, span, message).label(label);
            let meant = format!("{text}{usual}");
            let is_written = self.expander.tree.sources().slice(span) == text;
            self.expander.report.push(match is_written && parse(&meant).is_some() {
                true => diagnostic.fix(span, meant),
                false => diagnostic,
            });
        }
        parsed
    }

    /// Returns the service host's address on the interface's tap.
    pub(super) fn tap_address(
        &mut self,
        merged: &MergedNetwork<'a>,
        scope: Scope<'_, 'a>,
        attachment: &Attachment,
    ) -> Option<InterfaceAddress> {
        let (text, span, _) = self.setting(merged, scope, "tun_address")?;
        let Some(address) = interface_address(&text) else {
            let message = format!("`{text}` is no address of the service host");
            self.report(Code::AddressInvalid, span, message, "expected `A.B.C.D`, `A.B.C.D/LEN` or IPv6");
            return None;
        };
        if !matches!(attachment, Attachment::Tap(_)) {
            let message =
                format!("`tun_address {text}` has no effect on an interface without a tap of its own");
            self.report(Code::NoEffect, span, message, "expected `tun_iface NAME` beside it");
            return None;
        }
        Some(address)
    }
}

/// Parses an address, perhaps with the length of its network's prefix behind it; the usual one is 24 bits, for IPv6 64.
fn interface_address(text: &str) -> Option<InterfaceAddress> {
    let (address, length) = text.split_once('/').map_or((text, None), |(a, l)| (a, Some(l)));
    let address: std::net::IpAddr = address.parse().ok()?;
    let (usual, most) = if address.is_ipv4() { (24, 32) } else { (64, 128) };
    let prefix_bits = length.map_or(Some(usual), |length| length.parse().ok())?;
    (prefix_bits <= most).then_some(InterfaceAddress { address, prefix_bits })
}
