//! The structural check that a tree passes before anything reads it.
//!
//! The `fdt` crate panics on damaged trees, and walks wrongly over NOP tokens, which QEMU and U-Boot leave
//! where they took a node away. So a tree comes here first: [`squeeze`] takes the NOPs out, in place, and
//! [`check`] has `dtoolkit`, which never panics, look at header, tokens, names and strings, and then makes
//! sure of what `fdt` takes for granted beyond that: all tokens lie within the size that the header states,
//! none is a NOP, and the nesting is bounded, since `fdt` recurses.

use crate::problem;
use crate::problem::Problem;

/// Nodes within nodes; real trees stay below 12.
pub(super) const MAX_DEPTH: usize = 32;

pub(super) const MAGIC: u32 = 0xd00d_feed;
pub(super) const HEADER_SIZE: usize = 40;
const SIZE_DT_STRUCT: usize = 36;

pub(super) const BEGIN_NODE: u32 = 1;
pub(super) const END_NODE: u32 = 2;
pub(super) const PROP: u32 = 3;
const NOP: u32 = 4;
pub(super) const END: u32 = 9;

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(four.try_into().ok()?))
}

/// The tree within `blob`, which may be longer.
fn whole(blob: &[u8]) -> Result<usize, Problem> {
    let magic = word(blob, 0);
    if magic != Some(MAGIC) {
        return Err(problem!("E0101", ("device tree");
            ("no device tree there: it starts with {:#010x}, not {MAGIC:#x}", magic.unwrap_or(0));
            ("The boot loader passes the tree's address in x0, as booting.rst says")));
    }
    let total = word(blob, 4).unwrap_or(0) as usize;
    if total < HEADER_SIZE || total > blob.len() {
        return Err(problem!("E0101", ("device tree totalsize");
            ("{total} bytes stated, {} there", blob.len()); ("Have the whole tree loaded")));
    }
    Ok(total)
}

/// Bytes that the tree at the start of `header` states to have, if there is one; at most 2 MiB (booting.rst).
pub fn total_size(header: &[u8]) -> Option<usize> {
    let total = word(header, 4)? as usize;
    (word(header, 0) == Some(MAGIC) && (HEADER_SIZE..=2 << 20).contains(&total)).then_some(total)
}

/// The token at `at` of a structure block, and where the next one starts; `None` where there is none.
fn token(block: &[u8], at: usize) -> Option<(u32, usize)> {
    let tag = word(block, at)?;
    let end = match tag {
        BEGIN_NODE => {
            let name = block.get(at.checked_add(4)?..)?;
            at.checked_add(5)?.checked_add(name.iter().position(|&b| b == 0)?)?
        }
        PROP => at.checked_add(12)?.checked_add(word(block, at.checked_add(4)?)? as usize)?,
        END_NODE | NOP | END => at.checked_add(4)?,
        _ => return None,
    };
    let end = end.checked_next_multiple_of(4)?;
    (end <= block.len()).then_some((tag, end))
}

/// Where the structure block lies, by the header.
fn structure(blob: &[u8]) -> Option<core::ops::Range<usize>> {
    let start = word(blob, 8)? as usize;
    let end = start.checked_add(word(blob, SIZE_DT_STRUCT)? as usize)?;
    (end <= blob.len()).then_some(start..end)
}

/// What a walk over a structure block from its first token to FDT_END found.
#[derive(Default)]
struct Walked {
    nops: usize,
    deepest: usize,
}

/// Walks over all tokens; `Err` says where it could not go on.
fn walk(block: &[u8]) -> Result<Walked, usize> {
    let mut seen = Walked::default();
    let (mut at, mut depth) = (0, 0usize);
    loop {
        let (tag, next) = token(block, at).ok_or(at)?;
        match tag {
            BEGIN_NODE => depth = depth.wrapping_add(1),
            END_NODE => depth = depth.checked_sub(1).ok_or(at)?,
            NOP => seen.nops = seen.nops.wrapping_add(1),
            END => return if depth == 0 { Ok(seen) } else { Err(at) },
            _ => {}
        }
        seen.deepest = seen.deepest.max(depth);
        at = next;
    }
}

/// How deep the nodes of a sound tree are nested; `None` if it is none.
pub(super) fn depth(blob: &[u8]) -> Option<usize> {
    Some(walk(blob.get(structure(blob)?)?).ok()?.deepest)
}

/// Takes NOP tokens out of a tree, in place. Leaves alone what is not a whole tree: [`check`] names the reason.
pub fn squeeze(blob: &mut [u8]) {
    let Ok(total) = whole(blob) else { return };
    let Some(blob) = blob.get_mut(..total) else { return };
    let Some(range) = structure(blob) else { return };
    let Some(block) = blob.get_mut(range) else { return };
    if !walk(block).is_ok_and(|seen| seen.nops > 0) {
        return;
    }
    let (mut from, mut to) = (0, 0usize);
    while let Some((tag, next)) = token(block, from) {
        if tag != NOP {
            block.copy_within(from..next, to);
            to = to.wrapping_add(next.wrapping_sub(from));
        }
        if tag == END {
            break;
        }
        from = next;
    }
    if let Some(rest) = block.get_mut(to..) {
        rest.fill(0);
    }
    if let Some(size) = blob.get_mut(SIZE_DT_STRUCT..HEADER_SIZE) {
        size.copy_from_slice(&(to as u32).to_be_bytes());
    }
}

/// A tree that `fdt` can walk without a panic.
///
/// # Errors
/// E0101 no tree, or not all of it; E0102 damaged; E0103 nested too deeply; E0104 not squeezed.
pub(super) fn check(blob: &[u8]) -> Result<fdt::Fdt<'_>, Problem> {
    let total = whole(blob)?;
    let blob = blob.get(..total).unwrap_or_default();
    dtoolkit::fdt::Fdt::new(blob).map_err(|e| damaged(format_args!("{e}")))?;
    let range = structure(blob).unwrap_or_default();
    let seen = walk(blob.get(range).unwrap_or_default())
        .map_err(|at| damaged(format_args!("no valid token at offset {at} of the structure block")))?;
    if seen.deepest > MAX_DEPTH {
        return Err(problem!("E0103", ("device tree"); ("nodes are nested {} deep", seen.deepest);
            ("At most {MAX_DEPTH} are read")));
    }
    if seen.nops > 0 {
        return Err(problem!("E0104", ("device tree"); ("{} NOP tokens", seen.nops);
            ("Take them out with fdt::squeeze, or with dtc -I dtb -O dtb")));
    }
    fdt::Fdt::new(blob).map_err(|e| damaged(format_args!("{e}")))
}

fn damaged(what: core::fmt::Arguments<'_>) -> Problem {
    problem!("E0102", ("device tree"); ("damaged: {what}"); ("dtc -I dtb -O dts shows what is left of it"))
}
