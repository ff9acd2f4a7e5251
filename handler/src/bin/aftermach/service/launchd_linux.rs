//! There is no launchd here.

use aftermach_launchd::Agents;
use aftermach_launchd::launchctl::SystemLaunchctl;

use super::NoLaunchd;

/// Always the error that says where to go instead.
pub(super) fn agents() -> anyhow::Result<Agents<SystemLaunchctl>> {
    Err(NoLaunchd.into())
}
