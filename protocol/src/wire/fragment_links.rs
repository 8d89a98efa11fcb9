//! What later versions know of interfaces and switches besides, as bytes.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{DecodeError, name, text};
use crate::id::Name;
use crate::model::{
    Delay, Fragment, HostAddress, Impairment, InterfaceAddress, Loss, Network, Rate, Switch, SwitchKind,
    SwitchSettings, Uplink,
};

/// The longest name or address of a service host, in bytes.
const ADDRESS_BYTES_MAX: usize = 1 << 10;

/// It, of a fragment. Empty lists say that there is nothing; others have an entry for each place.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LinksWire {
    /// Of each VM, of each interface.
    interfaces: Vec<Vec<InterfaceWire>>,
    switches: Vec<SwitchMoreWire>,
    /// The switches whose uplink the host has.
    uplinks: Vec<String>,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct InterfaceWire {
    impairment: ImpairmentWire,
    tap_address: Option<(IpAddr, u8)>,
}

/// What is done to the frames that leave an interface; zeros are nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImpairmentWire {
    /// In microseconds.
    pub delay_us: u32,
    /// In millionths.
    pub loss_millionths: u32,
    /// In bits per second.
    pub rate_bits_per_s: u64,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct SwitchMoreWire {
    /// 0 for one that learns, 1 for a hub.
    kind: u8,
    /// The tap's and the bridge's name.
    uplink: Option<(Option<String>, Option<String>)>,
    vlan: Option<u16>,
    service_host: Option<String>,
}

impl From<&Fragment> for LinksWire {
    fn from(fragment: &Fragment) -> Self {
        let interfaces: Vec<Vec<InterfaceWire>> = fragment
            .vms
            .iter()
            .map(|vm| vm.networks.iter().map(InterfaceWire::from).collect::<Vec<_>>())
            .map(|all| if all.iter().any(|one| *one != InterfaceWire::default()) { all } else { Vec::new() })
            .collect();
        let switches: Vec<SwitchMoreWire> = fragment.switches.iter().map(SwitchMoreWire::from).collect();
        let has_interfaces = interfaces.iter().any(|all| !all.is_empty());
        let has_switches = switches.iter().any(|one| *one != SwitchMoreWire::default());
        Self {
            interfaces: if has_interfaces { interfaces } else { Vec::new() },
            switches: if has_switches { switches } else { Vec::new() },
            uplinks: fragment.uplinks.iter().map(Name::to_string).collect(),
        }
    }
}

impl LinksWire {
    /// Puts it into the fragment that it is of.
    pub(super) fn add_to(self, fragment: &mut Fragment) -> Result<(), DecodeError> {
        if !self.interfaces.is_empty() {
            if self.interfaces.len() != fragment.vms.len() {
                return Err(DecodeError::Invalid { what: "list of interfaces" });
            }
            for (vm, all) in fragment.vms.iter_mut().zip(self.interfaces) {
                if !all.is_empty() && all.len() != vm.networks.len() {
                    return Err(DecodeError::Invalid { what: "list of interfaces" });
                }
                for (network, one) in vm.networks.iter_mut().zip(all) {
                    one.add_to(network)?;
                }
            }
        }
        if !self.switches.is_empty() {
            if self.switches.len() != fragment.switches.len() {
                return Err(DecodeError::Invalid { what: "list of switches" });
            }
            for (switch, more) in fragment.switches.iter_mut().zip(self.switches) {
                switch.settings = more.try_into()?;
            }
        }
        fragment.uplinks = self.uplinks.iter().map(|found| name(found)).collect::<Result<_, _>>()?;
        Ok(())
    }
}

impl From<&Network> for InterfaceWire {
    fn from(network: &Network) -> Self {
        Self {
            impairment: ImpairmentWire::from(network.impairment),
            tap_address: network.tap_address.map(|tap| (tap.address, tap.prefix_bits)),
        }
    }
}

impl InterfaceWire {
    fn add_to(self, network: &mut Network) -> Result<(), DecodeError> {
        network.impairment = self.impairment.try_into()?;
        let address = |(address, prefix_bits): (IpAddr, u8)| {
            let most = if address.is_ipv4() { 32 } else { 128 };
            if prefix_bits > most {
                return Err(DecodeError::Invalid { what: "prefix length" });
            }
            Ok(InterfaceAddress { address, prefix_bits })
        };
        network.tap_address = self.tap_address.map(address).transpose()?;
        Ok(())
    }
}

impl From<Impairment> for ImpairmentWire {
    fn from(impairment: Impairment) -> Self {
        Self {
            delay_us: impairment.delay.map_or(0, Delay::us),
            loss_millionths: impairment.loss.map_or(0, Loss::millionths),
            rate_bits_per_s: impairment.rate.map_or(0, Rate::bits_per_s),
        }
    }
}

impl TryFrom<ImpairmentWire> for Impairment {
    type Error = DecodeError;

    fn try_from(wire: ImpairmentWire) -> Result<Self, DecodeError> {
        let invalid = |what| DecodeError::Invalid { what };
        let ImpairmentWire { delay_us, loss_millionths, rate_bits_per_s } = wire;
        Ok(Self {
            delay: match delay_us {
                0 => None,
                us => Some(Delay::from_us(us).ok_or(invalid("delay"))?),
            },
            loss: match loss_millionths {
                0 => None,
                millionths => Some(Loss::from_millionths(millionths).ok_or(invalid("loss"))?),
            },
            rate: match rate_bits_per_s {
                0 => None,
                bits => Some(Rate::from_bits_per_s(bits).ok_or(invalid("rate"))?),
            },
        })
    }
}

impl From<&Switch> for SwitchMoreWire {
    fn from(switch: &Switch) -> Self {
        let SwitchSettings { kind, uplink, vlan, service_host } = &switch.settings;
        let text = |name: &Option<Name>| name.as_ref().map(Name::to_string);
        Self {
            kind: match kind {
                SwitchKind::Learning => 0,
                SwitchKind::Hub => 1,
            },
            uplink: uplink.as_ref().map(|uplink| (text(&uplink.tap), text(&uplink.bridge))),
            vlan: *vlan,
            service_host: service_host.as_ref().map(|host| host.0.clone()),
        }
    }
}

impl TryFrom<SwitchMoreWire> for SwitchSettings {
    type Error = DecodeError;

    fn try_from(wire: SwitchMoreWire) -> Result<Self, DecodeError> {
        let optional = |found: Option<String>| found.map(|found| name(&found)).transpose();
        let uplink = |(tap, bridge)| Ok(Uplink { tap: optional(tap)?, bridge: optional(bridge)? });
        Ok(Self {
            kind: match wire.kind {
                0 => SwitchKind::Learning,
                1 => SwitchKind::Hub,
                found => return Err(DecodeError::Unknown { what: "kind of switch", found: found.into() }),
            },
            uplink: wire.uplink.map(uplink).transpose()?,
            vlan: match wire.vlan {
                Some(vlan) if !(1..=4094).contains(&vlan) => {
                    return Err(DecodeError::Invalid { what: "VLAN" });
                }
                vlan => vlan,
            },
            service_host: wire
                .service_host
                .map(|found| text(found, ADDRESS_BYTES_MAX).map(HostAddress))
                .transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fragment::{decode_fragment, encode_fragment};
    use super::*;
    use crate::id::PublicKey;
    use crate::lang::{NoIncludes, parse};
    use crate::plan::{PlacedHost, fragments};
    use crate::resolve::{Options, resolve};

    const PLAIN: &str = "global { project p }
        switch lan { }
        host a { network eth0 { switch lan } }
        host b { network eth0 { switch lan } }";
    const MUCH: &str = "global { project p }
        switch lan { hub; bridge br0; tap t0; vlan 7; service_host oslo }
        switch own { tap }
        host a { network eth0 { switch lan; delay 50ms; rate 1Mbit }; network eth1 { switch own } }
        host b { network eth0 { loss 1% }; network eth1 { tun_iface t1; tun_address 10.0.0.1/30 } }
        host c { network eth0 { switch lan } }";

    fn fragment(text: &str) -> Fragment {
        let (tree, _) = parse("p.mln", text.to_owned(), &NoIncludes);
        let project = resolve(&tree, &Options::default()).project;
        let here = PlacedHost { name: Name::parse("oslo").expect("a name"), key: PublicKey([1; 32]) };
        let parts = fragments(&project, &[], |_| here.clone(), &Default::default(), |_| Some(here.clone()))
            .expect("the host is known");
        parts.into_values().next().expect("one host has it all")
    }

    #[test]
    fn what_links_have_besides_comes_back_and_costs_others_nothing() {
        let much = fragment(MUCH);
        assert_eq!(much.uplinks.len(), 2);
        let bytes = encode_fragment(&much);
        assert_eq!(bytes[..2], [3, 0]);
        assert_eq!(decode_fragment(&bytes), Ok(much));
        let plain = fragment(PLAIN);
        let bytes = encode_fragment(&plain);
        assert_eq!(bytes[..2], [1, 0]);
        assert_eq!(decode_fragment(&bytes), Ok(plain));
    }

    #[test]
    fn what_no_link_can_have_is_an_error() {
        let wire = |delay_us, loss_millionths, rate_bits_per_s| {
            Impairment::try_from(ImpairmentWire { delay_us, loss_millionths, rate_bits_per_s })
        };
        assert_eq!(wire(0, 0, 0), Ok(Impairment::default()));
        for bad in [wire(60_000_001, 0, 0), wire(0, 1_000_001, 0), wire(0, 0, 1)] {
            assert!(matches!(bad, Err(DecodeError::Invalid { .. })), "{bad:?}");
        }
        let mut much = fragment(MUCH);
        for bad in [
            LinksWire { interfaces: vec![Vec::new()], ..LinksWire::default() },
            LinksWire { switches: vec![SwitchMoreWire::default()], ..LinksWire::default() },
            LinksWire { uplinks: vec!["a/b".to_owned()], ..LinksWire::default() },
        ] {
            assert!(bad.add_to(&mut much).is_err());
        }
        let vlan = SwitchMoreWire { vlan: Some(4095), ..SwitchMoreWire::default() };
        assert!(SwitchSettings::try_from(vlan).is_err());
    }
}
