//! Where brokers are found: one directory of sockets, that belongs to this user alone.

use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::report::Report;

/// The name of a machine that nobody named.
pub(crate) const DEFAULT: &str = "machine";

/// What a Unix socket's path may have of bytes, everywhere.
const LONGEST_PATH: usize = 103;

/// The directory, made if it is not there.
pub(crate) fn directory() -> Result<PathBuf, Report> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let own = rustix::process::geteuid().as_raw();
    let path = match set("XDG_RUNTIME_DIR") {
        Some(runtime) => runtime.join("mezzanine"),
        None => std::env::temp_dir().join(format!("mezzanine-{own}")),
    };
    let refused = |why: String| {
        Report::new("E0529", format!("{} cannot hold sockets: {why}", path.display()))
            .help("it has to be a directory of yours that nobody else may enter; XDG_RUNTIME_DIR or TMPDIR names another")
    };
    let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
    if let Err(error) =
        made.or_else(|error| if error.kind() == ErrorKind::AlreadyExists { Ok(()) } else { Err(error) })
    {
        return Err(refused(error.to_string()));
    }
    // In a directory that all may write to, somebody else may have made it.
    let found = std::fs::symlink_metadata(&path).map_err(|error| refused(error.to_string()))?;
    if !found.is_dir() || found.uid() != own || found.mode() & 0o077 != 0 {
        return Err(refused("others have access to it".to_owned()));
    }
    Ok(path)
}

/// Whether a machine may be called this.
pub(crate) fn check_name(name: &str) -> Result<(), Report> {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !name.is_empty() && name.len() <= 31 && !name.starts_with(['.', '-']) && name.chars().all(good) {
        return Ok(());
    }
    Err(Report::new("E0506", format!("a machine cannot be called `{}`", name.escape_debug()))
        .help("use 1 to 31 letters, digits, `-`, `_` and `.`, the first of them a letter or a digit"))
}

/// The socket of a machine's broker.
pub(crate) fn socket(name: &str) -> Result<PathBuf, Report> {
    check_name(name)?;
    let path = directory()?.join(format!("{name}.sock"));
    if path.as_os_str().len() > LONGEST_PATH {
        return Err(Report::new("E0529", format!("{} is too long for a socket", path.display())).help(
            format!("it may have {LONGEST_PATH} bytes; XDG_RUNTIME_DIR or TMPDIR names another directory"),
        ));
    }
    Ok(path)
}

/// Names of all machines whose broker answers.
pub(crate) fn running() -> Result<Vec<String>, Report> {
    let directory = directory()?;
    let entries = std::fs::read_dir(&directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".sock").map(str::to_owned))
        .filter(|name| UnixStream::connect(directory.join(format!("{name}.sock"))).is_ok())
        .collect();
    names.sort();
    Ok(names)
}

/// The machine that is meant: the one of this name, or the only one.
pub(crate) fn choose(name: Option<&str>) -> Result<String, Report> {
    if let Some(name) = name {
        check_name(name)?;
        return Ok(name.to_owned());
    }
    let names = running()?;
    match &names[..] {
        [only] => Ok(only.clone()),
        [] => Err(Report::new("E0528", "no machine is running that mezz could reach")
            .help("start one with `mezz run --detach`, or reach a board with `mezz serve --serial TTY`")),
        _ => Err(Report::new("E0530", format!("several machines run: {}", names.join(", ")))
            .help("name the one that is meant with --on NAME")),
    }
}

/// A socket that goes away with its broker.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Takes the name; E0531 if a broker has it.
    pub(super) fn bind(name: &str) -> Result<Self, Report> {
        let path = socket(name)?;
        if UnixStream::connect(&path).is_ok() {
            return Err(Report::new("E0531", format!("a machine called `{name}` is running already"))
                .help("give this one another name with --on NAME, or end the other with `mezz quit`"));
        }
        // Left by a broker that was killed.
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).map_err(|error| {
            Report::new("E0529", format!("{} cannot be made: {error}", path.display()))
                .help("XDG_RUNTIME_DIR or TMPDIR names another directory")
        })?;
        Ok(Self { listener, path })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Connects to a machine's broker.
pub(crate) fn connect(name: &str) -> Result<UnixStream, Report> {
    let path = socket(name)?;
    UnixStream::connect(&path).map_err(|_| gone(name, &path))
}

fn gone(name: &str, path: &Path) -> Report {
    let report = Report::new(
        "E0528",
        format!("no machine called `{name}` is running: nobody answers at {}", path.display()),
    );
    match running().unwrap_or_default() {
        names if names.is_empty() => {
            report.help("start one with `mezz run --detach`, or reach a board with `mezz serve`")
        }
        names => report.help(format!("running: {}", names.join(", "))),
    }
}
