//! An agent that is asked over the network, with this user's key and grants.

use mln_door::dial::{Target, without_peer};
use mln_door::key::peer_id_of;
use mln_door::operator::{Credentials, EnterError, Entered, OperatorStream, enter};
use mln_door::{Multiaddr, names};
use mln_protocol::lang::did_you_mean;
use mln_protocol::wire::PeerAddresses;

use crate::context::{Context, Contexts, Home, LOCAL};
use crate::error::CommandError;

/// What this program calls itself to agents.
const AGENT: &str = concat!("mlnctl ", env!("CARGO_PKG_VERSION"));

/// An agent on the network: not connected yet.
#[derive(Debug)]
pub struct Network {
    home: Home,
    /// Whose grants are shown, and whose addresses are tried; none where this user has no context.
    context: Option<Context>,
    /// Where to ask, instead of where the context says.
    address: Option<Multiaddr>,
    /// The single word that the address was made of, and the contexts that it is none of.
    word: Option<Word>,
}

/// A word that may have been meant as a context.
#[derive(Debug)]
struct Word {
    text: String,
    known: String,
}

impl Network {
    /// Returns the agents of a context.
    pub fn of_context(home: Home, context: Context) -> Self {
        Self { home, context: Some(context), address: None, word: None }
    }

    /// Returns the agent of a machine by the name that was typed, which is no context; see [`Network::at`].
    pub fn named(home: Home, contexts: &Contexts, text: &str, address: Multiaddr) -> Self {
        let mut names = contexts.all.iter().map(|context| context.name.as_str()).collect::<Vec<_>>();
        names.push(LOCAL);
        let is_word = !text.contains(['.', ':', '/', '[']);
        let word = is_word.then(|| Word {
            text: text.to_owned(),
            known: format!("known: {}{}", names.join(", "), did_you_mean(text, names.iter().copied())),
        });
        Self { word, ..Self::at(home, contexts, address) }
    }

    /// Returns the agent at an address, to be shown the grants of the context that is used, or else of the only one.
    pub fn at(home: Home, contexts: &Contexts, address: Multiaddr) -> Self {
        let context = match (contexts.current(), contexts.all.as_slice()) {
            (Some(current), _) => Some(current.clone()),
            // Of several, the one that knows this address.
            (None, all) => {
                let text = without_peer(address.clone()).to_string();
                let knows =
                    |context: &&Context| context.addresses.iter().any(|known| known.starts_with(&text));
                all.iter().find(knows).or(all.first()).cloned()
            }
        };
        Self { home, context, address: Some(address), word: None }
    }

    /// Returns the context whose grants are shown; none where this user has none.
    pub fn context(&self) -> Option<&Context> {
        self.context.as_ref()
    }

    /// Returns where it is asked, for people.
    pub fn place(&self) -> String {
        match (&self.address, &self.context) {
            (Some(address), _) => address.to_string(),
            (None, Some(context)) => context.addresses.join(", "),
            (None, None) => "no address".to_owned(),
        }
    }

    /// Connects to the first agent that answers, and shows it the grants.
    pub async fn connect(&self) -> Result<OperatorStream, CommandError> {
        let credentials = Credentials {
            keys: self.home.key()?,
            chain: self.context.as_ref().map(|context| context.chain.clone()).unwrap_or_default(),
            root: self.context.as_ref().map(|context| context.root),
            agent: AGENT.to_owned(),
        };
        let targets: Vec<Target> = match (&self.address, &self.context) {
            (Some(address), _) => vec![Target::of(address.clone())],
            (None, Some(context)) => grouped(&context.addresses),
            (None, None) => Vec::new(),
        };
        let entered = enter(&credentials, &targets).await;
        let entered = entered.map_err(|source| self.not_entered(source))?;
        self.remember(&entered);
        Ok(entered.stream)
    }

    /// Says why nobody there can be asked, in terms of what was typed.
    fn not_entered(&self, source: EnterError) -> CommandError {
        match (&self.word, &source) {
            (Some(Word { text, known }), EnterError::Connect(_)) => {
                CommandError::UnknownPeer { name: text.clone(), known: known.clone() }
            }
            _ => CommandError::Enter { place: self.place(), source: Box::new(source) },
        }
    }

    /// Notes in the context where agents answer, so that it works while the first one is off.
    fn remember(&self, entered: &Entered) {
        // Who was asked at an address of the user's choice may be of no context at all.
        if self.address.is_some() {
            return;
        }
        let with_peer =
            |address: Multiaddr, peer| Some(without_peer(address).with_p2p(peer?).ok()?.to_string());
        let answered = with_peer(entered.via.clone(), peer_id_of(entered.key));
        let told = entered.known.peers.iter().flat_map(|PeerAddresses { key, addresses }| {
            let peer = peer_id_of(*key);
            // One address of each: there is room for several peers, not for all their addresses.
            let dialable = addresses.iter().filter_map(|text| text.parse().ok()).find(is_tcp);
            dialable.and_then(|address| with_peer(address, peer))
        });
        self.note(&answered.into_iter().chain(told).collect::<Vec<String>>());
    }

    /// Notes addresses in the context as it is now: another command may have changed it, or removed it, meanwhile.
    fn note(&self, addresses: &[String]) {
        let Some(context) = &self.context else { return };
        let is_new = |known: &Context| {
            let is_unknown = |address: &String| !known.addresses.contains(address);
            addresses.iter().any(is_unknown) || known.addresses.first() != addresses.first()
        };
        if !is_new(context) {
            return;
        }
        // A context that can't be refreshed still works.
        let _ = self.home.change(|contexts| {
            let same = |known: &&mut Context| known.name == context.name && known.root == context.root;
            if let Some(known) = contexts.all.iter_mut().find(same).filter(|known| is_new(known)) {
                known.learn(addresses.iter().cloned());
            }
            Ok(())
        });
    }
}

/// Whether this program can dial an address.
fn is_tcp(address: &Multiaddr) -> bool {
    let text = address.to_string();
    text.contains("/tcp/") && !text.contains("/p2p-circuit")
}

/// Returns targets by peer, in the order of their first addresses.
fn grouped(addresses: &[String]) -> Vec<Target> {
    let mut targets: Vec<Target> = Vec::new();
    for address in addresses.iter().filter_map(|text| text.parse().ok()).filter(is_tcp) {
        let Target { peer, addresses } = Target::of(address);
        match targets.iter_mut().find(|target| target.peer == peer && peer.is_some()) {
            Some(target) => target.addresses.extend(addresses),
            None => targets.push(Target { peer, addresses }),
        }
    }
    targets
}

/// Returns the address that a text means which is neither a path nor a context.
pub fn address_of(text: &str) -> Option<Multiaddr> {
    names::parse(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noting_where_agents_answer_undoes_nothing_that_was_done_meanwhile() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = Home::at(folder.path());
        let context = |text: &str, seed: u8| Context {
            name: mln_protocol::id::Name::parse(text).expect("a name"),
            root: mln_protocol::trust::KeyPair::from_secret([seed; 32]).public(),
            chain: Vec::new(),
            addresses: Vec::new(),
        };
        let add = |text: &str, seed| {
            home.change(|contexts| contexts.add(context(text, seed))).expect("a new name");
        };
        add("lab", 1);
        let network = Network::of_context(home.clone(), context("lab", 1));
        // While the agent was asked, somebody joined another mesh.
        add("club", 2);
        network.note(&["/ip4/10.0.0.1/tcp/1".to_owned()]);
        let contexts = home.contexts().expect("as saved");
        assert_eq!(contexts.all.len(), 2);
        assert_eq!(contexts.get("lab").expect("it is there").addresses, ["/ip4/10.0.0.1/tcp/1"]);
        home.change(|contexts| contexts.remove("lab")).expect("it is there");
        network.note(&["/ip4/10.0.0.2/tcp/1".to_owned()]);
        assert!(home.contexts().expect("as saved").get("lab").is_err(), "it came back");
    }

    #[test]
    fn a_word_that_is_neither_a_context_nor_a_machine_is_told_with_the_contexts_that_there_are() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut contexts = Contexts::default();
        let context = Context {
            name: mln_protocol::id::Name::parse("lab-oslo").expect("a name"),
            root: mln_protocol::trust::KeyPair::from_secret([1; 32]).public(),
            chain: Vec::new(),
            addresses: Vec::new(),
        };
        contexts.add(context).expect("a new name");
        let told = |text: &str| {
            let address = address_of(text).expect("it could be an address");
            let network = Network::named(Home::at(folder.path()), &contexts, text, address);
            let nobody = mln_door::dial::ConnectError::Unreachable(vec!["failed to lookup".to_owned()]);
            network.not_entered(EnterError::Connect(nobody))
        };
        let error = told("lab-osl");
        let text = error.to_string();
        assert!(text.contains("known: lab-oslo, local; did you mean lab-oslo?"), "{text}");
        assert!(std::error::Error::source(&error).is_none(), "what the resolver says helps nobody");
        assert!(matches!(told("oslo.example"), CommandError::Enter { .. }), "that is an address");
    }

    #[test]
    fn addresses_of_one_peer_are_tried_together() {
        let one = "12D3KooWGQmdpzHXCqLno4mMxWXKNFQHASBeF99gTm2JR8Vu5Bdc";
        let targets = grouped(&[
            format!("/ip4/10.0.0.1/tcp/1/p2p/{one}"),
            "/ip4/10.0.0.2/tcp/1".to_owned(),
            format!("/ip4/10.0.0.1/udp/1/quic-v1/p2p/{one}"),
            format!("/ip4/10.0.0.3/tcp/1/p2p/{one}"),
            "nonsense".to_owned(),
        ]);
        assert_eq!(targets.iter().map(|target| target.addresses.len()).collect::<Vec<_>>(), [2, 1]);
    }
}
