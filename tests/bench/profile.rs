//! Where the instructions of one exit go: `--profile ROW`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use addr2line::Loader;

use crate::backends::Backend;
use crate::counts::Counts;
use crate::figure::thousands;
use crate::qemu::target;
use crate::{micro, scale};

/// An instruction in words: its line, the function that the line is in, and the one that was compiled.
#[derive(Clone, PartialEq, Eq)]
struct Place {
    written: String,
    compiled: String,
    line: String,
}

/// Runs the micro guest, and tells of the last exit of a row which functions and lines its instructions are of.
///
/// # Errors
/// The run fails, the row has no exit, or the image's symbols are not there.
pub(crate) fn run(cpu: &str, backend: &Backend, row: u32) -> Result<String, String> {
    let (counts, transcript) = if let Some(traced) = scale::traced(cpu, row) {
        traced?
    } else {
        micro::known(row)?;
        micro::run_traced(cpu, backend, row)?
    };
    let base = image_start(&transcript).ok_or("Mezzanine did not say where its image is")?;
    let elf = target().join("mezzanine.elf");
    let loader = Loader::new(&elf).map_err(|e| format!("{}: {e} ('make image' makes it)", elf.display()))?;
    if counts.trace.is_empty() {
        return Err(format!("there is no exit in row {row}"));
    }
    Ok(tell(&counts, &|address| place(&loader, address.wrapping_sub(base))))
}

/// `image at 0xSTART..0xEND`
fn image_start(transcript: &str) -> Option<u64> {
    let (_, tail) = transcript.split_once("image at 0x")?;
    let (start, _) = tail.split_once("..")?;
    u64::from_str_radix(start, 16).ok()
}

fn tell(counts: &Counts, place: &dyn Fn(u64) -> Place) -> String {
    let places: Vec<Place> = counts.trace.iter().map(|&address| place(address)).collect();
    let mut by_function: BTreeMap<&str, u64> = BTreeMap::new();
    let mut by_compiled: BTreeMap<&str, u64> = BTreeMap::new();
    for place in &places {
        *by_function.entry(&place.written).or_default() += 1;
        *by_compiled.entry(&place.compiled).or_default() += 1;
    }
    let mut out = format!("{} instructions\n", thousands(places.len() as u64));
    for (title, functions) in [("as compiled", by_compiled), ("as written (inlined ones too)", by_function)] {
        let _ = writeln!(out, "\n{title}:");
        let mut functions: Vec<_> = functions.into_iter().collect();
        functions.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        for (function, n) in functions {
            let _ = writeln!(out, "{n:6}  {function}");
        }
    }
    out += "\nin order:\n";
    for run in places.chunk_by(|a, b| a == b) {
        if let Some(place) = run.first() {
            let _ = writeln!(out, "{:6}  {:<48} {}", run.len(), place.line, place.written);
        }
    }
    out
}

fn place(loader: &Loader, offset: u64) -> Place {
    let mut names = Vec::new();
    let mut line = String::new();
    if let Ok(mut frames) = loader.find_frames(offset) {
        while let Ok(Some(frame)) = frames.next() {
            if let (true, Some(location)) = (line.is_empty(), &frame.location) {
                let file = location.file.unwrap_or("?");
                let short = file.rfind("/src/").map_or(file, |at| file.get(at + 1..).unwrap_or(file));
                line = format!("{short}:{}", location.line.unwrap_or(0));
            }
            names.extend(frame.function.as_ref().and_then(|f| f.demangle().ok()).map(|name| plain(&name)));
        }
    }
    let symbol = || loader.find_symbol(offset).map_or_else(|| format!("image+{offset:#x}"), str::to_owned);
    let compiled = names.last().cloned().unwrap_or_else(symbol);
    let written = names.into_iter().next().unwrap_or_else(|| compiled.clone());
    Place { written, compiled, line }
}

/// A demangled name without the hash at its end.
fn plain(name: &str) -> String {
    name.rsplit_once("::h").map_or(name, |(path, hash)| if hash.len() == 16 { path } else { name }).to_owned()
}
