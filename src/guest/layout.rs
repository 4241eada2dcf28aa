//! Where a guest's tree, kernel and initrd go, and the copying of them.
//!
//! ```text
//! RAM            + 0x20_0000 + text_offset      kernel end, on 2 MiB (or a page, where RAM is short)
//! | tree, 512 KiB | ... | kernel, image_size     | initrd |
//! ```
//! The rules are those of booting.rst: the kernel's base on 2 MiB, the initrd within the 1 GiB aligned window
//! of 32 GiB that covers the kernel, the tree on 8 bytes and below 2 MiB long.

use super::gzip::{Gzip, WINDOW, is_gzip, stated_size};
use super::linux::{ALIGN, HEADER_SIZE, Header};
use crate::addr::{Address, BLOCK_1G, BLOCK_2M, GuestPhysAddr, GuestRange, PAGE_SIZE};
use crate::config::{Bytes, VmConfig};
use crate::map::TREE_MAX;
use crate::problem;
use crate::problem::Problem;
use alloc::format;

/// The window that kernel and initrd have to share.
const WINDOW_32G: u64 = 32 << 30;

/// Where everything goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Room for the tree; x0 of the first vCPU is its start.
    pub tree: GuestRange,
    /// Room for the kernel, .bss included.
    pub kernel: GuestRange,
    /// The initrd, to the byte.
    pub initrd: Option<GuestRange>,
    /// PC of the first vCPU.
    pub entry: GuestPhysAddr,
    /// What the kernel says of itself.
    pub header: Header,
}

impl Layout {
    /// Finds room for everything of `vm` in `ram`.
    ///
    /// # Errors
    /// E0401 to E0408 of the kernel; E0407 when something does not fit, with the memory that would do.
    pub fn plan(vm: &VmConfig<'_>, ram: GuestRange) -> Result<Self, Problem> {
        let (header, file) = kernel_header(vm)?;
        let too_far = || problem!("E0407", ("{}", vm.place); ("RAM at {ram} is no place for a guest"); ("Use lower addresses"));
        let up = |addr: GuestPhysAddr, align: u64| addr.checked_add(align - 1).map(|a| a.align_down(align));

        let tree = GuestRange::new(ram.start(), TREE_MAX).ok_or_else(too_far)?;
        let entry = up(ram.start(), ALIGN)
            .and_then(|base| base.checked_add(ALIGN)?.checked_add(header.text_offset))
            .ok_or_else(too_far)?;
        let kernel = GuestRange::new(entry, header.room(file)).ok_or_else(too_far)?;
        let size = vm.initrd.map_or(0, |initrd| initrd.len() as u64);
        let behind = |align| up(kernel.end(), align).and_then(|start| GuestRange::new(start, size));
        let initrd = match vm.initrd {
            None => None,
            Some(_) => behind(BLOCK_2M).filter(|r| ram.encloses(r)).or_else(|| behind(PAGE_SIZE)),
        };
        let end = initrd.map_or(kernel.end(), |r| r.end());
        if end > ram.end() {
            let needed = GuestRange::between(ram.start(), end).align_out(1 << 20).size();
            return Err(problem!("E0407", ("{} memory", vm.place);
                ("kernel ({}) and initrd ({}) do not fit into {}", Bytes(kernel.size()), Bytes(size), Bytes(ram.size()));
                ("Give it at least {}, and more to work with", Bytes(needed))));
        }
        let window = kernel.start().align_down(BLOCK_1G);
        if end.raw().wrapping_sub(window.raw()) > WINDOW_32G {
            return Err(too_far());
        }
        Ok(Self { tree, kernel, initrd, entry, header })
    }
}

/// The kernel's header, and the bytes of its file once unpacked.
fn kernel_header(vm: &VmConfig<'_>) -> Result<(Header, u64), Problem> {
    if !is_gzip(vm.kernel) {
        return Ok((Header::read(vm.kernel, &vm.place)?, vm.kernel.len() as u64));
    }
    let mut gzip = Gzip::open(vm.kernel, &format!("{} kernel", vm.place))?;
    let mut first = [0u8; HEADER_SIZE];
    let mut filled = 0;
    while filled < HEADER_SIZE
        && let Some(piece) = gzip.next(HEADER_SIZE - filled)?
    {
        for (slot, byte) in first.iter_mut().skip(filled).zip(piece) {
            *slot = *byte;
            filled += 1;
        }
    }
    let header = Header::read(first.get(..filled).unwrap_or_default(), &format!("{} unpacked", vm.place))?;
    let file = stated_size(vm.kernel);
    if header.image_size != 0 && file > header.image_size {
        return Err(problem!("E0404", ("{} kernel", vm.place);
            ("gzip cut short or damaged: its last four bytes state {} for a kernel of {}", Bytes(file), Bytes(header.image_size));
            ("Copy or download the whole file; gzip -t checks it")));
    }
    Ok((header, file))
}

/// Takes bytes to where the guest will find them.
pub type Put<'p> = dyn FnMut(GuestPhysAddr, &[u8]) -> Result<(), Problem> + 'p;

/// The loading of one VM, as a job that goes on where it stopped.
pub struct Loader<'a> {
    gzip: Option<Gzip<'a>>,
    /// Plain bytes still to be copied, and where to: kernel, then initrd.
    kernel: (GuestPhysAddr, &'a [u8]),
    initrd: (GuestPhysAddr, &'a [u8]),
    room: GuestRange,
}

impl<'a> Loader<'a> {
    /// A loader for what [`Layout::plan`] planned.
    ///
    /// # Errors
    /// E0403 for a damaged gzip header.
    pub fn new(vm: &VmConfig<'a>, layout: &Layout) -> Result<Self, Problem> {
        let gzip = match is_gzip(vm.kernel) {
            true => Some(Gzip::open(vm.kernel, &format!("{} kernel", vm.place))?),
            false => None,
        };
        let plain = if gzip.is_some() { &[][..] } else { vm.kernel };
        let initrd = layout.initrd.map_or(layout.entry, |range| range.start());
        Ok(Self {
            gzip,
            kernel: (layout.entry, plain),
            initrd: (initrd, vm.initrd.unwrap_or_default()),
            room: layout.kernel,
        })
    }

    /// Loads up to `most` bytes and says whether there is more.
    ///
    /// # Errors
    /// E0403, E0404 for a damaged or truncated gzip file, E0407 if it unpacks to more than it stated; whatever
    /// `put` returns.
    pub fn step(&mut self, most: usize, put: &mut Put<'_>) -> Result<bool, Problem> {
        if let Some(gzip) = &mut self.gzip {
            let at = self.room.start().checked_add(gzip.total()).unwrap_or(self.room.end());
            match gzip.next(most)? {
                None => self.gzip = None,
                Some(piece) if self.room.end().raw().wrapping_sub(at.raw()) < piece.len() as u64 => {
                    return Err(
                        problem!("E0407", ("kernel"); ("it unpacks to more than {}", Bytes(self.room.size()));
                        ("Its last four bytes state its length: the file is damaged")),
                    );
                }
                Some(piece) => put(at, piece)?,
            }
            return Ok(true);
        }
        let (at, rest) = if self.kernel.1.is_empty() { &mut self.initrd } else { &mut self.kernel };
        let (piece, after) = rest.split_at_checked(most.max(1)).unwrap_or((*rest, &[]));
        if !piece.is_empty() {
            put(*at, piece)?;
        }
        *at = at.checked_add(piece.len() as u64).unwrap_or(*at);
        *rest = after;
        Ok(!(self.kernel.1.is_empty() && self.initrd.1.is_empty()))
    }
}

/// Loads kernel and initrd in one go.
///
/// # Errors
/// As [`Loader::new`] and [`Loader::step`].
pub fn load(vm: &VmConfig<'_>, layout: &Layout, put: &mut Put<'_>) -> Result<(), Problem> {
    let mut loader = Loader::new(vm, layout)?;
    let most = if loader.gzip.is_some() { WINDOW } else { usize::MAX };
    while loader.step(most, put)? {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::gzip::tests::pack;
    use super::super::linux::tests::kernel;
    use super::*;
    use std::vec::Vec;

    const RAM: u64 = 0x4000_0000;

    fn vm<'a>(kernel: &'a [u8], initrd: Option<&'a [u8]>) -> VmConfig<'a> {
        VmConfig { kernel, initrd, ..VmConfig::named("alpha") }
    }

    fn ram(mib: u64) -> GuestRange {
        GuestRange::at(RAM, mib << 20)
    }

    /// Loads into a model of RAM, in steps of `most`.
    fn loaded(vm: &VmConfig<'_>, ram: GuestRange, most: usize) -> Result<(Layout, Vec<u8>), Problem> {
        let layout = Layout::plan(vm, ram)?;
        let mut memory = vec![0u8; ram.size() as usize];
        let mut put = |at: GuestPhysAddr, bytes: &[u8]| {
            let start = (at.raw() - RAM) as usize;
            memory[start..start + bytes.len()].copy_from_slice(bytes);
            Ok(())
        };
        let mut loader = Loader::new(vm, &layout)?;
        while loader.step(most, &mut put)? {}
        Ok((layout, memory))
    }

    #[test]
    fn plans_by_the_rules_of_booting_rst() {
        let image = kernel(5000, 3 << 20, 0xa);
        let plan = Layout::plan(&vm(&image, Some(&[7; 9999])), ram(64)).unwrap();
        assert_eq!(plan.tree, GuestRange::at(RAM, 512 << 10));
        assert_eq!(plan.entry, GuestPhysAddr::at(RAM + 0x20_0000));
        assert_eq!(plan.kernel, GuestRange::at(RAM + 0x20_0000, 3 << 20));
        assert_eq!(plan.initrd, Some(GuestRange::at(RAM + 0x60_0000, 9999)));

        let tight = Layout::plan(&vm(&image, Some(&[7; 9999])), ram(6)).unwrap();
        assert_eq!(tight.initrd, Some(GuestRange::at(RAM + 0x50_0000, 9999)), "on a page where RAM is short");

        let old = Layout::plan(&vm(&kernel(5000, 0, 0), None), ram(64)).unwrap();
        assert_eq!(old.entry, GuestPhysAddr::at(RAM + 0x28_0000));
        assert_eq!(old.initrd, None);
    }

    #[test]
    fn says_how_much_memory_would_do() {
        let image = kernel(5000, 3 << 20, 0xa);
        let problem = Layout::plan(&vm(&image, Some(&[7; 9999])), ram(5)).unwrap_err();
        assert_eq!(
            problem.to_string(),
            "E0407 vm.alpha memory: kernel (3M) and initrd (9999 bytes) do not fit into 5M. \
             Give it at least 6M, and more to work with."
        );
        let blob = vec![1u8; 10];
        assert_eq!(Layout::plan(&vm(&blob, None), ram(64)).unwrap_err().code, "E0402");
        let far = GuestRange::at(u64::MAX - (1 << 20), 1 << 20);
        assert_eq!(Layout::plan(&vm(&image, None), far).unwrap_err().code, "E0407");
    }

    #[test]
    fn loads_plain_and_gzip_alike() {
        let image = kernel(150_000, 1 << 20, 0xa);
        let packed = pack(&image, 8);
        let initrd = vec![0x5a; 70_001];
        for file in [&image, &packed] {
            for most in [4096, usize::MAX] {
                let (layout, memory) = loaded(&vm(file, Some(&initrd)), ram(8), most).unwrap();
                assert_eq!(layout.kernel.size(), 1 << 20);
                assert!(memory[0x20_0000..][..image.len()] == image);
                let at = (layout.initrd.unwrap().start().raw() - RAM) as usize;
                assert!(memory[at..][..initrd.len()] == initrd);
                let written = memory.iter().filter(|&&b| b != 0).count();
                let expected = image.iter().chain(&initrd).filter(|&&b| b != 0).count();
                assert_eq!(written, expected, "nothing else is touched");
            }
        }
    }

    #[test]
    fn load_does_it_in_one_go() {
        let image = kernel(1000, 0x1000, 0);
        let config = vm(&image, None);
        let layout = Layout::plan(&config, ram(8)).unwrap();
        let mut calls = Vec::new();
        load(&config, &layout, &mut |at, bytes| {
            calls.push((at, bytes.len()));
            Ok(())
        })
        .unwrap();
        assert_eq!(calls, [(layout.entry, 1000)]);
    }

    #[test]
    fn a_gzip_file_that_lies_about_its_size_stays_in_its_room() {
        let mut packed = pack(&kernel(150_000, 0x1000, 0), 0);
        let end = packed.len();
        packed[end - 4..].copy_from_slice(&[0; 4]);
        assert_eq!(loaded(&vm(&packed, None), ram(8), 4096).unwrap_err().code, "E0407");
        packed.truncate(end / 2);
        let code = loaded(&vm(&packed, None), ram(8), 4096).unwrap_err().code;
        assert!(code == "E0404" || code == "E0407", "{code}");
        let not_a_kernel = pack(b"hello", 0);
        assert_eq!(Layout::plan(&vm(&not_a_kernel, None), ram(8)).unwrap_err().code, "E0402");
    }
}
