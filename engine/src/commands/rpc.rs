//! `rpc`: calls that the application's backend answers, and the few that are answered here. Runs on the core of the
//! connection.

use bytes::Bytes;
use gyre_proto::client::{Reply, RpcRequest, RpcResult};
use gyre_proto::codes::Error;
use gyre_proto::ids::ConnId;

use crate::backend::{BackendEvent, BackendReply, BackendResult, ProxyId};
use crate::engine::Engine;
use crate::outlet::Outlet;
use crate::replies::Refused;
use crate::rules::RpcRules;
use crate::session::Work;
use crate::user_status::METHOD;

const RPC: Refused<'static> = Refused { command: "rpc", channel: "" };

impl Engine {
    pub(super) fn rpc(&mut self, conn: ConnId, id: u32, request: RpcRequest, out: &mut dyn Outlet) {
        let rules = &self.rules.rpc;
        if rules.ping_method.as_deref() == Some(&*request.method) {
            return self.reply(conn, Reply::rpc(id, RpcResult::default()), out);
        }
        if rules.has_user_status && request.method == METHOD {
            return self.update_user_status(conn, id, out);
        }
        match route(rules, &request.method) {
            Ok(proxy) => {
                let event = BackendEvent::Rpc { method: request.method, data: request.data };
                self.ask_and_park(conn, proxy, event, Work::AskRpc { id }, out);
            }
            Err(error) => self.refuse(conn, id, RPC, error, out),
        }
    }

    pub(crate) fn rpc_answered(&mut self, conn: ConnId, id: u32, reply: BackendReply, out: &mut dyn Outlet) {
        let data = match reply {
            BackendReply::Result(result) => match *result {
                BackendResult::Rpc(data) => data,
                _ => return self.backend_refused(conn, id, RPC, BackendReply::Failed, out),
            },
            BackendReply::NoResult => Bytes::new(),
            refusal => return self.backend_refused(conn, id, RPC, refusal, out),
        };
        self.reply(conn, Reply::rpc(id, RpcResult { data }), out);
    }
}

/// Who answers a method (auth.md 8.8).
fn route(rules: &RpcRules, method: &str) -> Result<ProxyId, Error> {
    let is_any = rules.without_namespace.is_some() || rules.namespaces.values().any(Option::is_some);
    if !is_any {
        return Err(if rules.ping_method.is_some() { Error::METHOD_NOT_FOUND } else { Error::NOT_AVAILABLE });
    }
    let boundary = &*rules.namespace_boundary;
    let namespace =
        if boundary.is_empty() { None } else { method.split_once(boundary).map(|(namespace, _)| namespace) };
    let proxy = match namespace {
        None | Some("") => rules.without_namespace,
        Some(namespace) => *rules.namespaces.get(namespace).ok_or(Error::METHOD_NOT_FOUND)?,
    };
    proxy.ok_or(Error::NOT_AVAILABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wrong route sends a call to a backend that was never meant to get it.
    #[test]
    fn methods_find_their_backend() {
        let mut rules = RpcRules { namespace_boundary: ":".to_owned(), ..RpcRules::default() };
        let code = |rules: &RpcRules, method: &str| route(rules, method).map(|proxy| proxy.0).map_err(|e| e.code);
        assert_eq!(code(&rules, "m"), Err(108));
        rules.ping_method = Some("ping".into());
        assert_eq!(code(&rules, "m"), Err(104));
        rules.namespaces.insert("a".into(), Some(ProxyId(1)));
        rules.namespaces.insert("off".into(), None);
        assert_eq!(code(&rules, "m"), Err(108));
        rules.without_namespace = Some(ProxyId(0));
        let expected =
            [("m", Ok(0)), ("a:b:c", Ok(1)), ("off:x", Err(108)), ("b:x", Err(104)), (":x", Ok(0)), ("", Ok(0))];
        for (method, expected) in expected {
            assert_eq!(code(&rules, method), expected, "{method}");
        }
        rules.namespace_boundary.clear();
        assert_eq!(code(&rules, "b:x"), Ok(0));
    }
}
