//! Server API methods on the status of users.

use gyre_proto::api;
use gyre_proto::codes::ApiError;

use super::super::Core;

pub(in crate::data_plane) async fn update_user_status(
    core: &Core,
    request: api::UpdateUserStatusRequest,
) -> Result<api::UpdateUserStatusResult, ApiError> {
    user_status(core, &request.users)?;
    Ok(api::UpdateUserStatusResult {})
}

pub(in crate::data_plane) async fn get_user_status(
    core: &Core,
    request: api::GetUserStatusRequest,
) -> Result<api::GetUserStatusResult, ApiError> {
    user_status(core, &request.users)?;
    Ok(api::GetUserStatusResult::default())
}

pub(in crate::data_plane) async fn delete_user_status(
    core: &Core,
    request: api::DeleteUserStatusRequest,
) -> Result<api::DeleteUserStatusResult, ApiError> {
    user_status(core, &request.users)?;
    Ok(api::DeleteUserStatusResult {})
}

/// No status is kept.
fn user_status(_: &Core, _: &[String]) -> Result<(), ApiError> {
    Err(ApiError::NOT_AVAILABLE)
}
