//! A reader of device trees, enough for checks.

/// The longest path that [`Tree::walk`] names.
pub const DEPTH: usize = 8;

/// A tree in memory.
#[derive(Clone, Copy)]
pub struct Tree {
    base: usize,
}

/// One property.
pub struct Property<'a> {
    /// Names of the nodes down to it, the root's (empty) first.
    pub path: &'a [&'a str],
    /// Its name.
    pub name: &'a str,
    /// Its value.
    pub value: &'a [u8],
}

/// A big-endian number of 4 or 8 bytes.
pub fn number(value: &[u8]) -> u64 {
    value.iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

fn text(bytes: &[u8]) -> &str {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    core::str::from_utf8(&bytes[..end]).unwrap_or("?")
}

impl Tree {
    /// The tree at `base`, if the header has its magic.
    pub fn at(base: usize) -> Option<Self> {
        let tree = Self { base };
        (base != 0 && base % 8 == 0 && tree.header(0) == 0xd00d_feed).then_some(tree)
    }

    /// Word `n` of the header: magic, totalsize, off_dt_struct, off_dt_strings, off_mem_rsvmap, version.
    pub fn header(&self, n: usize) -> u32 {
        u32::from_be(crate::mmio::read32(self.base + 4 * n))
    }

    /// Where it is.
    pub fn base(&self) -> usize {
        self.base
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.header(1) as usize
    }

    /// Whether it has no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn bytes(&self) -> &'static [u8] {
        // SAFETY: the tree lies in our RAM and nobody writes it.
        unsafe { core::slice::from_raw_parts(self.base as *const u8, self.len()) }
    }

    /// Shows `visit` every property; whether the structure is sound.
    pub fn walk(&self, mut visit: impl FnMut(Property<'_>)) -> bool {
        let bytes = self.bytes();
        let strings = self.header(3) as usize;
        let mut at = self.header(2) as usize;
        let mut path = [""; DEPTH];
        let mut depth = 0;
        while let Some(token) = bytes.get(at..at + 4).map(number) {
            at += 4;
            match token {
                1 => {
                    if depth == DEPTH {
                        return false;
                    }
                    path[depth] = text(&bytes[at..]);
                    at = (at + path[depth].len() + 1).next_multiple_of(4);
                    depth += 1;
                }
                2 if depth > 0 => depth -= 1,
                3 => {
                    let Some(head) = bytes.get(at..at + 8) else { return false };
                    let (len, name) = (number(&head[..4]) as usize, number(&head[4..]) as usize);
                    let Some(value) = bytes.get(at + 8..at + 8 + len) else { return false };
                    visit(Property { path: &path[..depth], name: text(&bytes[strings + name..]), value });
                    at = (at + 8 + len).next_multiple_of(4);
                }
                4 => {}
                9 => return depth == 0,
                _ => return false,
            }
        }
        false
    }

    /// One property: `find(&["", "chosen"], "bootargs")`. A name without unit address matches with one.
    pub fn find(&self, path: &[&str], name: &str) -> Option<&'static [u8]> {
        let mut found = None;
        self.walk(|p| {
            let same = p.path.len() == path.len()
                && p.path.iter().zip(path).all(|(have, want)| {
                    have == want || have.strip_prefix(want).is_some_and(|rest| rest.starts_with('@'))
                });
            if same && p.name == name && found.is_none() {
                // SAFETY: the tree is never freed: see `bytes`.
                found = Some(unsafe { core::slice::from_raw_parts(p.value.as_ptr(), p.value.len()) });
            }
        });
        found
    }
}

/// The machine's tree: from x0 at entry.
pub fn tree() -> Option<Tree> {
    Tree::at(crate::boot().x[0] as usize)
}

/// Bytes of RAM, from the tree's /memory.
pub fn memory() -> usize {
    let reg = tree().and_then(|tree| tree.find(&["", "memory"], "reg")).unwrap_or(&[]);
    reg.get(8..16).map_or(0, number) as usize
}

/// How many CPUs the tree has.
pub fn cpus() -> usize {
    let mut n = 0;
    if let Some(tree) = tree() {
        tree.walk(|p| {
            let cpu = p.path.len() == 3 && p.path[1] == "cpus" && p.path[2].starts_with("cpu@");
            n += usize::from(cpu && p.name == "reg");
        });
    }
    n
}

/// Whether a hypervisor started us, and not QEMU alone: the tree has /hypervisor.
pub fn under_hypervisor() -> bool {
    let mut found = false;
    if let Some(tree) = tree() {
        tree.walk(|p| found |= p.path.len() == 2 && p.path[1] == "hypervisor");
    }
    found
}
