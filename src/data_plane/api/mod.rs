//! The server API: one function per method, and one executor behind every way in that carries whole commands.
//!
//! Runs on the core that got the call, as a task that awaits home cores, the other cores or the control thread, and
//! holds no borrow meanwhile. Knows nothing of HTTP, gRPC or JSON: messages in, messages out.

mod acts;
mod channels;
mod execute;
mod side_by_side;
mod user_status;

pub(super) use acts::{channels, disconnect, info, refresh, subscribe, unsubscribe};
pub(super) use channels::{broadcast, history, history_remove, presence, presence_stats, publish};
pub(crate) use execute::{CallError, Protocol};
pub(super) use execute::{batch, count, count_error, execute, failed, rpc};
pub(super) use side_by_side::breathe;
pub(super) use user_status::{delete_user_status, get_user_status, update_user_status};
