//! GetServerInfo: what is behind the bridge.

use std::sync::Arc;

use super::{Bridge, Caller, check::Check};
use crate::{
    atoti::{Error, Lane},
    proto::queryhistory::{CredentialsStatus, GetServerInfoRequest, GetServerInfoResponse},
    status::{Failure, Reason},
};

pub(super) async fn serve(
    bridge: &Bridge,
    caller: &Arc<Caller>,
    GetServerInfoRequest {}: GetServerInfoRequest,
) -> Result<GetServerInfoResponse, Failure> {
    Check::default().done(&caller.violations, Some(()))?;
    let _admission = bridge.admit_read(caller).await?;
    let (atoti, call) = (&bridge.atoti, caller.call(Lane::Reads));
    let (discovered, read) = tokio::join!(
        atoti.discover(Some(&call), call.read_by),
        atoti.read_history(&call.headers, Some(&call), call.read_by),
    );
    let discovery = match discovered {
        Ok(discovery) => discovery,
        // An answer all the same: a proxy that asks for credentials, for one.
        Err(error) if error.is_an_answer() => None,
        Err(error) => return Err(Failure::Atoti(error)),
    };
    let api_installed = discovery.as_ref().map(|found| found.api_versions.is_some());
    let discovery = discovery.unwrap_or_default();
    Ok(GetServerInfoResponse {
        server_version: discovery.server_version,
        api_installed,
        api_versions: discovery.api_versions.unwrap_or_default(),
        credentials: credentials(&read).into(),
        bridge_version: env!("CARGO_PKG_VERSION").to_owned(),
        node_names: atoti.nodes().into_iter().map(|node| node.name).collect(),
    })
}

/// What a look at the history tells about the credentials that came along.
fn credentials(read: &Result<(), Error>) -> CredentialsStatus {
    match read.as_ref().map_err(|error| Reason::of(&error.fact)) {
        Ok(()) => CredentialsStatus::Accepted,
        Err(Reason::BackendUnauthenticated | Reason::BackendLoginRedirect) => CredentialsStatus::Rejected,
        Err(Reason::BackendPermissionDenied) => CredentialsStatus::Denied,
        Err(_) => CredentialsStatus::Unspecified,
    }
}
