//! What the trials need: where it is, and whether it is there.

use libtest_mimic::{Completion, Failed, Trial};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The oldest QEMU that the trials hold for: earlier ones model alignment, PSCI and the PL011 less exactly.
const OLDEST: (u32, u32) = (9, 0);

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file that `make` builds.
pub(crate) fn built(path: &str) -> Result<PathBuf, Failed> {
    let path = root().join("target").join(path);
    if path.is_file() {
        return Ok(path);
    }
    Err(format!("{} is not there: run make image mezz guests", path.display()).into())
}

/// Mezzanine's image.
pub(crate) fn image() -> Result<PathBuf, Failed> {
    built("mezzanine.img")
}

/// A micro guest's image.
pub(crate) fn guest(name: &str) -> Result<PathBuf, Failed> {
    built(&format!("guests/micro/{name}.img"))
}

/// The QEMU to use, as the tool chooses it.
pub(crate) fn program() -> std::ffi::OsString {
    std::env::var_os("MEZZ_QEMU").filter(|name| !name.is_empty()).unwrap_or("qemu-system-aarch64".into())
}

/// QEMU's version, or why there is none.
fn version() -> &'static Result<(u32, u32), String> {
    static VERSION: OnceLock<Result<(u32, u32), String>> = OnceLock::new();
    VERSION.get_or_init(|| {
        let name = program().to_string_lossy().into_owned();
        let output = Command::new(program())
            .arg("--version")
            .output()
            .map_err(|error| format!("{name} does not start: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        parse_version(&text).ok_or(format!("{name} --version says {text:?}"))
    })
}

/// From "QEMU emulator version 10.0.2 (Debian ..)".
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split_once("version ")?.1.split(['.', ' ', '-']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Why machines cannot be started here at all, if so.
fn unable() -> Option<String> {
    match version() {
        Ok(version) if *version >= OLDEST => None,
        Ok((major, minor)) => Some(format!("QEMU {major}.{minor} is older than {}.{}", OLDEST.0, OLDEST.1)),
        Err(why) => Some(why.clone()),
    }
}

/// A trial that is ignored, with the reason, where it cannot run.
pub(crate) fn trial(name: String, run: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Trial {
    Trial::ignorable_test(name, move || match unable() {
        Some(why) => Ok(Completion::ignored_with(why)),
        None => run().map(|()| Completion::Completed),
    })
}

/// Whether the long trials are wanted too: `make test-all` sets MEZZ_LONG.
pub(crate) fn long() -> bool {
    std::env::var_os("MEZZ_LONG").is_some()
}
