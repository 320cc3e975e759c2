//! Puts the program where the step's container finds it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// The program's name in the folder.
const NAME: &str = "buildit-runner";

/// Copies this program into `folder`, whole or not at all.
pub fn install(folder: &Path) -> io::Result<()> {
    let temporary = folder.join(format!(".{NAME}.{}", std::process::id()));
    let mut from = File::open("/proc/self/exe")?;
    let mut to = OpenOptions::new().write(true).create(true).truncate(true).mode(0o755).open(&temporary)?;
    io::copy(&mut from, &mut to)?;
    // Whatever the umask made of it.
    to.set_permissions(fs::Permissions::from_mode(0o755))?;
    drop(to);
    fs::rename(&temporary, folder.join(NAME))
}
