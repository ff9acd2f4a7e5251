//! This user's launchd.

use std::env;
use std::path::PathBuf;

use aftermach_handler::host::user_id;
use aftermach_launchd::Agents;
use aftermach_launchd::launchctl::SystemLaunchctl;
use anyhow::Context;

/// The jobs of the user who runs this.
pub(super) fn agents() -> anyhow::Result<Agents<SystemLaunchctl>> {
    let home = env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let home = home.context("there is no home folder: set HOME")?;
    Ok(Agents::new(&home, user_id(), SystemLaunchctl::new())?)
}
