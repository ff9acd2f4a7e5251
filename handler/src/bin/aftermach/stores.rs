//! What the commands over stored reports share.

use std::io::{self, Write};
use std::path::PathBuf;

use aftermach_handler::store::{Store, default_root};
use anyhow::Context;

/// Which store.
#[derive(clap::Args)]
pub(crate) struct StoreArgs {
    /// The folder that holds the reports, instead of the user's own.
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
}

impl StoreArgs {
    /// Opens the store, which must be there.
    pub(crate) fn open(&self) -> anyhow::Result<Store> {
        Ok(Store::open_existing(self.root()?)?)
    }

    /// Opens the store. `None` if it is the user's own and nothing was ever written there.
    pub(crate) fn open_or_empty(&self) -> anyhow::Result<Option<Store>> {
        let root = self.root()?;
        if self.store.is_none() && !root.exists() { Ok(None) } else { Ok(Some(Store::open_existing(root)?)) }
    }

    /// The store's folder, whether it is there or not.
    pub(crate) fn root(&self) -> anyhow::Result<PathBuf> {
        match &self.store {
            Some(folder) => Ok(folder.clone()),
            None => default_root().context("there is no home directory: say with --store where the reports are"),
        }
    }
}

/// Writes to standard output. That nobody reads it any more (`aftermach list | head`) is no error.
pub(crate) fn print(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("can't write to standard output"),
        _ => Ok(()),
    }
}
