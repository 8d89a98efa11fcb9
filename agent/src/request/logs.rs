//! `logs`: the log of a VM's console, at the host that owns it; the VM may be down.

use mln_link::message::{LogExtent, Logs, OutputStream, Reply};
use mln_protocol::id::VmId;

use super::exec::show as send;
use super::{answer, failure};
use crate::control::{ReplyError, ReplySender};
use crate::platform::Platform;

/// Sends the log to the operator, and what comes, if they want that, until they leave or the VM is removed.
pub(super) async fn show(platform: &dyn Platform, vm: &VmId, wanted: Logs, reply: ReplySender) {
    let what = format!("reading the console log of {}", vm.name);
    let failed = |error: std::io::Error| failure(&what, error.to_string(), &["mlnctl status"]);
    let mut log = match platform.console_log(vm, wanted.lines as usize).await {
        Ok(log) => log,
        Err(error) => return answer(&reply, [failed(error)]),
    };
    let showing = async {
        send(&reply, OutputStream::Stdout, &log.last_lines()).await?;
        match wanted.extent {
            LogExtent::Present => {}
            LogExtent::Follow => loop {
                match log.next().await {
                    Ok(Some(bytes)) => send(&reply, OutputStream::Stdout, &bytes).await?,
                    Ok(None) => break,
                    Err(error) => {
                        reply.send(failed(error)).await?;
                        break;
                    }
                }
            },
        }
        reply.send(Reply::Done).await
    };
    let _: Result<(), ReplyError> = tokio::select! {
        () = reply.closed() => Err(ReplyError::Gone),
        shown = showing => shown,
    };
}
