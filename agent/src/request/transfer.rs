//! `template pull` and `push`, and `template list --peers`: templates of other hosts.

use mln_link::InputQueue;
use mln_link::message::{
    Progress, Reply, Request, Step, StepState, TemplateChoice, TemplateHostRow, TemplatePull, TemplatePush,
    TemplateRow,
};
use mln_protocol::id::{Name, PublicKey};
use mln_protocol::wire::ImageOffer;

use super::exec::pass_on;
use super::template::{row, template_ref};
use super::{answer, failure, refusal};
use crate::causes::chain;
use crate::control::{Operator, Origin, ReplySender};
use crate::event_loop::EventLoop;
use crate::image::exchange::{Exchange, FetchError, RoomError, Wanted};

impl EventLoop {
    pub(super) fn request_template_peers(&self, reply: ReplySender) {
        let (exchange, here) = (self.exchange.clone(), self.identity.name.clone());
        tokio::spawn(async move {
            let images = exchange.images().clone();
            let own = tokio::task::spawn_blocking(move || {
                images.list().into_iter().map(|template| row(&images, template)).collect::<Vec<_>>()
            });
            let found = exchange.list().await;
            // A task that was cut off has nothing to tell.
            let own = own.await.unwrap_or_default();
            let rows = own
                .into_iter()
                .map(|template| TemplateHostRow { host: here.to_string(), template })
                .chain(found.into_iter().flat_map(|found| {
                    let host = found.host;
                    found.offers.into_iter().map(move |offer| offered(&host, offer))
                }))
                .collect();
            if reply.post_rows(rows, Reply::TemplateHosts).is_ok() {
                answer(&reply, []);
            }
        });
    }

    pub(super) fn request_template_pull(&self, pull: &TemplatePull, reply: ReplySender) {
        let from = match pull.from.as_ref().map(|host| self.key_of_host(host)).transpose() {
            Ok(from) => from,
            Err(unknown) => return answer(&reply, [*unknown]),
        };
        let wanted = Wanted { template: template_ref(&pull.template), from };
        self.begin_fetch(wanted, reply);
    }

    /// Asks another host to fetch a template from here. It may refuse, by its own limit.
    pub(super) fn request_template_push(
        &self,
        push: TemplatePush,
        operator: &Operator,
        reply: ReplySender,
        input: InputQueue,
    ) {
        let to = match self.key_of_host(&push.to) {
            Ok(to) => to,
            Err(unknown) => return answer(&reply, [*unknown]),
        };
        let (mesh, images) = (self.mesh.clone(), self.exchange.images().clone());
        let header = operator.header();
        tokio::spawn(async move {
            let wanted = template_ref(&push.template);
            let found = tokio::task::spawn_blocking(move || images.resolve(&wanted)).await;
            let template = match found {
                Ok(Ok(template)) => template,
                Ok(Err(error)) => {
                    let next = ["mlnctl template list"];
                    return answer(&reply, [failure("pushing the template", chain(&error), &next)]);
                }
                Err(error) => {
                    return answer(&reply, [failure("pushing the template", error.to_string(), &[])]);
                }
            };
            // By its digest: what a name stands for may be something else there.
            let request = Request::TemplateTake(TemplateChoice::Digest(template.digest.to_string()));
            pass_on(&mesh, to, &push.to, &header, &request, reply, input).await;
        });
    }

    /// Fetches a template from the agent that asks for that.
    pub(super) fn request_template_take(
        &self,
        template: &TemplateChoice,
        operator: &Operator,
        reply: ReplySender,
    ) {
        let Origin::Peer { key } = operator.origin else {
            let text = "this is asked by another agent; you want template pull".to_owned();
            return answer(&reply, [refusal("template-take", text, None)]);
        };
        self.begin_fetch(Wanted { template: template_ref(template), from: Some(key) }, reply);
    }

    fn begin_fetch(&self, wanted: Wanted, reply: ReplySender) {
        let (exchange, host) = (self.exchange.clone(), self.identity.name.clone());
        tokio::spawn(async move {
            let message = fetch(&exchange, &wanted, &host, &reply).await;
            answer(&reply, [message]);
        });
    }

    fn key_of_host(&self, host: &Name) -> Result<PublicKey, Box<Reply>> {
        let hosts = self.node.hosts();
        let found = hosts.iter().find(|known| known.name == *host).map(|known| known.key);
        found.ok_or_else(|| {
            let known: Vec<String> = hosts.iter().map(|host| host.name.to_string()).collect();
            let text = format!("no host is called {host}; there is {}", known.join(", "));
            Box::new(refusal("unknown-host", text, None))
        })
    }
}

async fn fetch(exchange: &Exchange, wanted: &Wanted, host: &Name, reply: &ReplySender) -> Reply {
    let progress = |state, detail| Progress {
        project: None,
        vm: None,
        host: Some(host.clone()),
        step: Step::Fetch,
        state,
        detail,
    };
    let tell = |fetched: crate::image::exchange::FetchProgress| {
        let is_whole = fetched.bytes == fetched.bytes_all;
        let state = if is_whole { StepState::Done } else { StepState::Begun };
        // The image is fetched even if nobody waits for it any more.
        let _ = reply.post(Reply::Progress(progress(state, fetched.to_string())));
    };
    match exchange.fetch(wanted, &tell).await {
        Ok(template) => Reply::Templates(vec![row(exchange.images(), template)]),
        Err(error) => {
            if let FetchError::Room(RoomError::Limit { .. }) = error {
                let mut refused = refusal(
                    "image-limit",
                    chain(&error),
                    Some("whoever runs the host: image_limit_mib, or gc"),
                );
                if let Reply::Refused(refusal) = &mut refused {
                    refusal.host = Some(host.clone());
                }
                return refused;
            }
            failure("fetching the template", chain(&error), &["mlnctl template list --peers", "mlnctl peers"])
        }
    }
}

fn offered(host: &str, offer: ImageOffer) -> TemplateHostRow {
    TemplateHostRow {
        host: host.to_owned(),
        template: TemplateRow {
            name: offer.name,
            version: offer.version,
            digest: offer.digest.to_string(),
            bytes: offer.file_system_bytes,
            bytes_on_disk: offer.data_bytes,
            created_unix_ms: offer.added_unix_ms,
        },
    }
}
