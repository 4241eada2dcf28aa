//! `mezz symbolize`: names and lines for the addresses in a transcript.
//!
//! The image prints `image+0x1a2b`, an offset from its first byte, which is the address in its ELF: that is
//! linked at 0 and runs anywhere. A backtrace's addresses are those of the calls, not what they return to: the
//! image has seen to that.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use addr2line::Loader;
use clap::Args;

use crate::report::{Report, Reports};

/// Options of the verb.
#[derive(Args)]
pub(crate) struct SymbolizeArgs {
    /// Mezzanine's ELF, of the very build that made the transcript
    #[arg(long, value_name = "PATH", default_value = "target/mezzanine.elf")]
    elf: PathBuf,
    /// The transcript [default: standard input]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

/// The verb.
pub(crate) fn symbolize(args: &SymbolizeArgs) -> Result<ExitCode, Reports> {
    let mut input: Box<dyn BufRead> = match &args.file {
        None => Box::new(std::io::stdin().lock()),
        Some(path) => Box::new(BufReader::new(std::fs::File::open(path).map_err(|error| {
            Report::new("E0505", format!("transcript {} cannot be read: {error}", path.display()))
                .help("name a file that holds what a run printed, or pipe it in")
        })?)),
    };
    write(&args.elf, &mut input, &mut std::io::stdout().lock())?;
    Ok(ExitCode::SUCCESS)
}

/// Copies `input` to `output`, with names from `elf`.
pub(crate) fn write(elf: &Path, input: &mut dyn BufRead, output: &mut dyn Write) -> Result<(), Reports> {
    let loader = Loader::new(elf).map_err(|error| {
        Report::new("E0514", format!("{} has no debug information: {error}", elf.display()))
            .help("`make image` leaves the ELF at target/mezzanine.elf; name another with --elf")
    })?;
    let name = |offset| describe(&loader, offset);
    let mut line = Vec::new();
    loop {
        line.clear();
        match input.read_until(b'\n', &mut line) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(Report::new("E0505", format!("the transcript ends: {error}")).into()),
        }
        // Nobody to write to, `| head` for one, is no mistake.
        if output.write_all(&annotate(&line, &name)).is_err() {
            return Ok(());
        }
    }
}

const TOKEN: &[u8] = b"image+0x";

/// Puts what `name` says behind every address of a line.
fn annotate(line: &[u8], name: &dyn Fn(u64) -> Option<String>) -> Vec<u8> {
    let mut out = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.windows(TOKEN.len()).position(|window| window == TOKEN) {
        let digits = start + TOKEN.len();
        let count = rest.iter().skip(digits).take_while(|byte| byte.is_ascii_hexdigit()).count();
        let mut end = digits + count;
        let hex = rest.get(digits..end).and_then(|hex| std::str::from_utf8(hex).ok()).unwrap_or_default();
        let named = u64::from_str_radix(hex, 16).ok().and_then(name);
        if rest.get(end) == Some(&b'>') {
            end += 1;
        }
        let (done, more) = rest.split_at(end);
        out.extend_from_slice(done);
        if let Some(named) = named {
            out.extend_from_slice(b"  ");
            out.extend_from_slice(named.as_bytes());
        }
        rest = more;
    }
    out.extend_from_slice(rest);
    out
}

/// Function, file and line; with the function that it was inlined into.
fn describe(loader: &Loader, offset: u64) -> Option<String> {
    let mut frames = Vec::new();
    if let Ok(mut found) = loader.find_frames(offset) {
        while let Ok(Some(frame)) = found.next() {
            let function = frame.function.as_ref().and_then(|f| f.demangle().ok().map(|name| plain(&name)));
            let place = frame
                .location
                .as_ref()
                .and_then(|location| Some(format!("{}:{}", shorten(location.file?), location.line?)));
            frames.extend(match (function, place) {
                (Some(function), Some(place)) => Some(format!("{function}  {place}")),
                (function, place) => function.or(place),
            });
        }
    }
    if frames.is_empty() {
        let symbol = loader.find_symbol(offset)?;
        return Some(plain(&addr2line::demangle_auto(symbol.into(), None)));
    }
    let outermost = if frames.len() > 1 { frames.pop() } else { None };
    let innermost = frames.first()?;
    Some(match outermost {
        Some(outermost) => format!("{innermost}  (inlined into {outermost})"),
        None => innermost.clone(),
    })
}

/// A demangled name without the hash at its end.
fn plain(name: &str) -> String {
    match name.rsplit_once("::h") {
        Some((path, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => {
            path.to_owned()
        }
        _ => name.to_owned(),
    }
}

/// A path as people know it: within the project, a crate, or Rust's library.
fn shorten(path: &str) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    if let Ok(inside) = Path::new(path).strip_prefix(&here) {
        return inside.display().to_string();
    }
    if let Some((_, inside)) = path.split_once("/registry/src/") {
        return inside.split_once('/').map_or(inside, |(_, inside)| inside).to_owned();
    }
    if let Some((before, inside)) = path.split_once("/library/")
        && before.contains("rust")
    {
        return format!("library/{inside}");
    }
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotated(line: &str) -> String {
        let name = |offset: u64| (offset < 0x1_0000).then(|| format!("f{offset:x}"));
        String::from_utf8(annotate(line.as_bytes(), &name)).unwrap()
    }

    #[test]
    fn addresses_get_names() {
        assert_eq!(annotated("    at <image+0x1a2b>\r\n"), "    at <image+0x1a2b>  f1a2b\r\n");
        assert_eq!(annotated("[mz    1.0]     at <image+0x10>\n"), "[mz    1.0]     at <image+0x10>  f10\n");
        assert_eq!(annotated("elr image+0x10, far 0x0\n"), "elr image+0x10  f10, far 0x0\n");
        assert_eq!(annotated("image+0x1 image+0x2\n"), "image+0x1  f1 image+0x2  f2\n");
    }

    #[test]
    fn all_else_stays_as_it_is() {
        for line in
            ["\n", "image+0x", "image+0xzz\n", "at <image+0xffffff>\n", "at <image+0x11111111111111111>\n"]
        {
            assert_eq!(annotated(line), line);
        }
    }

    #[test]
    fn names_without_hash() {
        assert_eq!(plain("mezzanine::run::cpu_loop::h0123456789abcdef"), "mezzanine::run::cpu_loop");
        assert_eq!(plain("mezzanine::run::cpu_loop"), "mezzanine::run::cpu_loop");
        assert_eq!(plain("a::help"), "a::help");
    }

    #[test]
    fn short_paths() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(shorten(&format!("{}/src/run.rs", here.display())), "src/run.rs");
        assert_eq!(
            shorten("/h/.cargo/registry/src/index-1/spin-0.12.2/src/lib.rs"),
            "spin-0.12.2/src/lib.rs"
        );
        assert_eq!(shorten("/rustc/0123/library/core/src/fmt.rs"), "library/core/src/fmt.rs");
        assert_eq!(shorten("/elsewhere/x.rs"), "/elsewhere/x.rs");
    }
}
