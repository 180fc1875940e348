//! Server API methods on the status of users.

use gyre_proto::api;
use gyre_proto::codes::ApiError;

use super::super::{Core, StatusAsk, UserFacts, now};
use crate::limits::STATUS_USERS_MAX;

pub(in crate::data_plane) async fn update_user_status(
    core: &Core,
    request: api::UpdateUserStatusRequest,
) -> Result<api::UpdateUserStatusResult, ApiError> {
    let now_s = now(&core.driver.borrow()).unix_s();
    ask(core, &request.users, StatusAsk::Active(now_s, &request.state)).await?;
    Ok(api::UpdateUserStatusResult {})
}

pub(in crate::data_plane) async fn get_user_status(
    core: &Core,
    request: api::GetUserStatusRequest,
) -> Result<api::GetUserStatusResult, ApiError> {
    let found = ask(core, &request.users, StatusAsk::Read).await?;
    let status = |(user, facts): (String, UserFacts)| {
        let UserFacts { active_s: active, online_s: online, state } = facts;
        api::UserStatus { user, active, online, state }
    };
    Ok(api::GetUserStatusResult { statuses: request.users.into_iter().zip(found).map(status).collect() })
}

pub(in crate::data_plane) async fn delete_user_status(
    core: &Core,
    request: api::DeleteUserStatusRequest,
) -> Result<api::DeleteUserStatusResult, ApiError> {
    ask(core, &request.users, StatusAsk::Delete).await?;
    Ok(api::DeleteUserStatusResult {})
}

/// The outage behind error 100 has had its log line.
async fn ask(core: &Core, users: &[String], what: StatusAsk<'_>) -> Result<Vec<UserFacts>, ApiError> {
    if !core.has_user_status() {
        return Err(ApiError::NOT_AVAILABLE);
    }
    if users.is_empty() || users.len() > STATUS_USERS_MAX || users.iter().any(String::is_empty) {
        return Err(ApiError::BAD_REQUEST);
    }
    core.ask_user_status(users, what).await.ok_or(ApiError::INTERNAL)
}
