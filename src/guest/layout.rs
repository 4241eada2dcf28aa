//! Where a guest's tree, kernel and initrd go, and the copying of them.
//!
//! ```text
//! RAM            + 0x20_0000 + text_offset      kernel end, on 2 MiB (or a page, where RAM is short)
//! | tree, 512 KiB | ... | Image, image_size      | initrd |
//! | tree, 512 KiB | flat binary | ...            | initrd |
//! | tree, 512 KiB | ... segments of an ELF file  | initrd |
//! ```
//! The rules for Linux are those of booting.rst: the kernel's base on 2 MiB, the initrd within the 1 GiB aligned
//! window of 32 GiB that covers the kernel, the tree on 8 bytes and below 2 MiB long. With firmware nothing else
//! changes: what it shall start lies where it would start by itself.

use super::elf::{Elf, MAGIC};
use super::gzip::{Gzip, WINDOW, is_gzip};
use super::kernel::{self, Placed, too_far};
use super::rom;
use crate::addr::{Address, BLOCK_1G, BLOCK_2M, GuestPhysAddr, GuestRange, PAGE_SIZE};
use crate::config::{Bytes, VmConfig};
use crate::map::{FLASH0, TREE_MAX};
use crate::problem;
use crate::problem::Problem;
use alloc::format;

/// The window that kernel and initrd have to share.
const WINDOW_32G: u64 = 32 << 30;

/// Where everything goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Room for the tree; x0 of the first vCPU is its start.
    pub tree: GuestRange,
    /// Room for the kernel, .bss included, from its first byte to its last.
    pub kernel: Option<GuestRange>,
    /// The initrd, to the byte.
    pub initrd: Option<GuestRange>,
    /// PC of the first vCPU.
    pub entry: GuestPhysAddr,
}

impl Layout {
    /// Finds room for everything of `vm` in `ram`.
    ///
    /// # Errors
    /// E0401 to E0408 and E0420 to E0425 of the kernel, E0421, E0430 to E0432 of the firmware; E0407 when something does
    /// not fit, with the memory that would do.
    pub fn plan(vm: &VmConfig<'_>, ram: GuestRange) -> Result<Self, Problem> {
        if let Some(firmware) = vm.firmware {
            rom::check(firmware, &vm.place)?;
        }
        let tree = GuestRange::new(ram.start(), TREE_MAX).ok_or_else(|| too_far(&vm.place, ram))?;
        let placed = match vm.kernel {
            Some(file) => Some(kernel::place(file, &vm.place, ram)?),
            None => None,
        };
        let entry = match (vm.firmware, &placed) {
            (Some(_), _) => FLASH0.start(),
            (None, Some(placed)) => placed.entry,
            (None, None) => {
                return Err(problem!("E0432", ("{}", vm.place); ("neither kernel nor firmware");
                    ("Give it a kernel, or a ROM image as its firmware")));
            }
        };
        let kernel = placed.map(|placed| placed.range);
        // What the initrd lies behind.
        let before = placed.unwrap_or(Placed { range: tree, entry, spare: 0, linux: true });
        let size = vm.initrd.map_or(0, |initrd| initrd.len() as u64);
        let Some(room) = room(&before, tree, ram, size) else {
            let end = behind(before.range.end(), PAGE_SIZE, size).map_or(ram.end(), |room| room.end());
            let needed = GuestRange::between(ram.start(), end).align_out(1 << 20).size();
            let kernel = kernel.map_or(0, |kernel| kernel.size());
            return Err(problem!("E0407", ("{} memory", vm.place);
                ("kernel ({}) and initrd ({}) do not fit into {}", Bytes(kernel), Bytes(size), Bytes(ram.size()));
                ("Give it at least {}, and more to work with", Bytes(needed))));
        };
        let window = before.range.start().align_down(BLOCK_1G);
        if before.linux && room.end().raw().wrapping_sub(window.raw()) > WINDOW_32G {
            return Err(too_far(&vm.place, ram));
        }
        Ok(Self { tree, kernel, initrd: vm.initrd.map(|_| room), entry })
    }
}

/// `size` bytes behind an address.
fn behind(end: GuestPhysAddr, align: u64, size: u64) -> Option<GuestRange> {
    GuestRange::new(end.checked_add(align - 1)?.align_down(align), size)
}

/// Room for an initrd of `size` bytes: behind the kernel on 2 MiB, or on a page where RAM is short; below it where
/// that is no better and the kernel does not mind.
fn room(kernel: &Placed, tree: GuestRange, ram: GuestRange, size: u64) -> Option<GuestRange> {
    let end = kernel.range.end();
    let spared = end.checked_add(kernel.spare)?;
    for (start, align) in [(spared, BLOCK_2M), (end, BLOCK_2M), (end, PAGE_SIZE), (tree.end(), PAGE_SIZE)] {
        let range = behind(start, if size > 0 { align } else { 1 }, size)?;
        if ram.encloses(&range) && (start >= end || !kernel.linux && !range.overlaps(&kernel.range)) {
            return Some(range);
        }
    }
    None
}

/// Takes bytes to where the guest will find them.
pub type Put<'p> = dyn FnMut(GuestPhysAddr, &[u8]) -> Result<(), Problem> + 'p;

/// The loading of one VM, as a job that goes on where it stopped.
pub struct Loader<'a> {
    gzip: Option<Gzip<'a>>,
    /// Where what is unpacked goes.
    room: GuestRange,
    /// An ELF file, and how many of its segments were begun.
    elf: Option<(Elf<'a>, usize)>,
    /// Plain bytes still to be copied, and where to: what is under way, and what is the last.
    current: (GuestPhysAddr, &'a [u8]),
    initrd: (GuestPhysAddr, &'a [u8]),
}

impl<'a> Loader<'a> {
    /// A loader for what [`Layout::plan`] planned.
    ///
    /// # Errors
    /// E0403 for a damaged gzip header, E0420 to E0425 for a damaged ELF file.
    pub fn new(vm: &VmConfig<'a>, layout: &Layout) -> Result<Self, Problem> {
        let room = layout.kernel.unwrap_or_default();
        let initrd = layout.initrd.map_or(room.start(), |range| range.start());
        let mut loader = Self {
            gzip: None,
            room,
            elf: None,
            current: (room.start(), &[]),
            initrd: (initrd, vm.initrd.unwrap_or_default()),
        };
        match vm.kernel {
            Some(file) if is_gzip(file) => {
                loader.gzip = Some(Gzip::open(file, &format!("{} kernel", vm.place))?);
            }
            Some(file) if file.starts_with(MAGIC) => loader.elf = Some((Elf::read(file, &vm.place)?, 0)),
            Some(file) => loader.current.1 = file,
            None => {}
        }
        Ok(loader)
    }

    /// Begins with what is next to be copied; false if nothing is left.
    fn next(&mut self) -> bool {
        if let Some((elf, begun)) = &mut self.elf
            && let Some(segment) = elf.segments().nth(*begun)
        {
            *begun += 1;
            self.current = (segment.range.start(), segment.data);
            return true;
        }
        self.current = core::mem::take(&mut self.initrd);
        !self.current.1.is_empty()
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
        if self.current.1.is_empty() {
            return Ok(self.next());
        }
        let (at, rest) = self.current;
        let (piece, after) = rest.split_at_checked(most.max(1)).unwrap_or((rest, &[]));
        put(at, piece)?;
        self.current = (at.checked_add(piece.len() as u64).unwrap_or(at), after);
        Ok(true)
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
    use super::super::elf::tests::{Wanted, code, elf};
    use super::super::gzip::tests::pack;
    use super::super::linux::tests::kernel;
    use super::*;
    use proptest::collection;
    use proptest::prelude::*;
    use std::vec::Vec;

    const RAM: u64 = 0x4000_0000;

    fn vm<'a>(kernel: &'a [u8], initrd: Option<&'a [u8]>) -> VmConfig<'a> {
        VmConfig { kernel: Some(kernel), initrd, ..VmConfig::named("alpha") }
    }

    /// A flat binary: a branch, and bytes that are nothing in particular.
    fn flat(size: usize) -> Vec<u8> {
        let branch = 0x1400_0010u32.to_le_bytes();
        branch.into_iter().chain((4..size).map(|n| n as u8 | 0x80)).collect()
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
        assert_eq!(plan.kernel, Some(GuestRange::at(RAM + 0x20_0000, 3 << 20)));
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
        assert_eq!(Layout::plan(&vm(&blob, None), ram(64)).unwrap_err().code, "E0421");
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
                assert_eq!(layout.kernel.unwrap().size(), 1 << 20);
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

    #[test]
    fn a_flat_binary_lies_behind_the_tree_with_room_for_its_bss() {
        let image = flat(5000);
        let plan = |mib| Layout::plan(&vm(&image, Some(&[7; 9999])), ram(mib));
        let far = plan(64).unwrap();
        assert_eq!(
            (far.kernel, far.entry.raw()),
            (Some(GuestRange::at(RAM + 0x8_0000, 5000)), RAM + 0x8_0000)
        );
        assert_eq!(far.initrd, Some(GuestRange::at(RAM + 0x120_0000, 9999)), "16 MiB are left for .bss");
        assert_eq!(plan(8).unwrap().initrd, Some(GuestRange::at(RAM + 0x20_0000, 9999)));
        let short = vec![0x55; (2 << 20) - 0x8_2000];
        let plan = Layout::plan(&vm(&image, Some(&short)), ram(2)).unwrap();
        assert_eq!(plan.initrd, Some(GuestRange::at(RAM + 0x8_2000, short.len() as u64)), "on a page");
        let (_, memory) = loaded(&vm(&image, None), ram(4), 999).unwrap();
        assert!(memory[0x8_0000..][..5000] == image[..]);
    }

    #[test]
    fn an_elf_file_lies_where_it_says() {
        let text = Wanted { linked: 0, ..code(RAM + 0x10_0000, 3000, 3000) };
        let data = Wanted { flags: 6, ..code(RAM + 0x20_0000, 500, 0x1_0000) };
        let bss = Wanted { flags: 6, ..code(RAM + 0x30_0000, 0, 0x10_0000) };
        let image = elf(16, &[text, bss, data]);
        let config = vm(&image, Some(&[7; 9999]));
        for most in [100, usize::MAX] {
            let (plan, memory) = loaded(&config, ram(8), most).unwrap();
            assert_eq!(plan.kernel, Some(GuestRange::at(RAM + 0x10_0000, 0x30_0000)));
            assert_eq!(plan.initrd, Some(GuestRange::at(RAM + 0x40_0000, 9999)));
            assert_eq!(plan.entry, GuestPhysAddr::at(RAM + 0x10_0010));
            assert_eq!(memory[0x10_0000..][..4], [1, 1, 3, 3]);
            assert_eq!(memory[0x20_0000..][..4], [1, 1, 3, 3]);
            assert_eq!(memory.iter().filter(|byte| **byte != 0).count(), 3000 + 500 + 9999);
        }
        let tight = Layout::plan(&config, ram(4)).unwrap();
        assert_eq!(tight.initrd, Some(GuestRange::at(RAM + 0x8_0000, 9999)), "below it");
    }

    #[test]
    fn segments_at_wrong_places_are_named() {
        let say = |mib: u64, segments: &[Wanted]| {
            let image = elf(segments[0].at, segments);
            Layout::plan(&vm(&image, None), ram(mib)).unwrap_err().to_string()
        };
        let good = code(RAM + 0x10_0000, 100, 0x1000);
        assert_eq!(
            say(8, &[good, code(0x1000, 10, 10)]),
            "E0423 vm.alpha kernel: segment 1, 0x1000..0x100a, lies outside of its RAM, \
             0x40000000..0x40800000. Link it for 0x40080000 or above, as p_paddr, and give it memory up to its end."
        );
        assert!(say(1, &[good]).starts_with("E0423"));
        assert!(say(8, &[code(u64::MAX - 0x2000, 1, 0x1000)]).starts_with("E0423"));
        assert_eq!(
            say(8, &[good, code(RAM + 0x7_f000, 1, 0x1001)]),
            "E0424 vm.alpha kernel: segment 1, 0x4007f000..0x40080001, overlaps its device tree, \
             0x40000000..0x40080000. Link each for addresses of its own, 0x40080000 or above; readelf -lW shows them."
        );
        assert!(
            say(8, &[good, code(RAM + 0x10_0fff, 1, 1)]).contains("overlaps another, 0x40100000..0x40101000")
        );
        let image = elf(good.at, &[good]);
        let large = vec![7; 7 << 20];
        let problem = Layout::plan(&vm(&image, Some(&large)), ram(8)).unwrap_err();
        assert_eq!(
            problem.to_string(),
            "E0407 vm.alpha memory: kernel (4K) and initrd (7M) do not fit into 8M. \
             Give it at least 9M, and more to work with."
        );
    }

    #[test]
    fn what_only_looks_like_a_kernel_is_refused_by_name() {
        let mut tar = vec![0x55; 1024];
        tar[0x101..0x106].copy_from_slice(b"ustar");
        let files: [(&[u8], &str, &str); 9] = [
            (b"", "E0401", "empty"),
            (&[0; 5000], "E0401", "all zeroes"),
            (b"console=ttyAMA0 root=/dev/vda\n", "E0402", "text"),
            (&tar, "E0402", "a tar archive"),
            (b"070701 and so on", "E0402", "a newc cpio archive"),
            (b"\x28\xb5\x2f\xfd\x04", "E0402", "zstd"),
            (b"\x27\x05\x19\x56\x04", "E0402", "a U-Boot uImage"),
            (b"MZ\x90\0\x03", "E0402", "an EFI or Windows program"),
            (b"\xfe\xff\xff\xff\0", "E0421", "first word, 0xfffffffe, is no AArch64 instruction"),
        ];
        for (file, code, what) in files {
            let problem = Layout::plan(&vm(file, None), ram(64)).unwrap_err();
            assert_eq!(problem.code, code, "{problem}");
            assert!(problem.to_string().contains(what), "{problem}");
        }
    }

    #[test]
    fn with_firmware_everything_lies_where_it_would() {
        let image = kernel(5000, 3 << 20, 0xa);
        let rom = flat(1000);
        let alone = Layout::plan(&vm(&image, Some(&[7; 9999])), ram(64)).unwrap();
        let mut config = VmConfig { firmware: Some(&rom), ..vm(&image, Some(&[7; 9999])) };
        let plan = Layout::plan(&config, ram(64)).unwrap();
        assert_eq!(plan, Layout { entry: GuestPhysAddr::at(0), ..alone });
        config.kernel = None;
        let plan = Layout::plan(&config, ram(64)).unwrap();
        assert_eq!((plan.kernel, plan.initrd), (None, Some(GuestRange::at(RAM + 0x20_0000, 9999))));
        let (_, memory) = loaded(&config, ram(4), 4000).unwrap();
        assert_eq!(memory.iter().filter(|byte| **byte != 0).count(), 9999);
        config.initrd = None;
        let plan = Layout::plan(&config, ram(4)).unwrap();
        assert_eq!((plan.kernel, plan.initrd, plan.entry.raw()), (None, None, 0));
        config.firmware = None;
        assert_eq!(Layout::plan(&config, ram(64)).unwrap_err().code, "E0432");
    }

    /// Files that get past the first look.
    fn files() -> impl Strategy<Value = Vec<u8>> {
        let bytes = collection::vec(any::<u8>(), 0..300);
        let segment =
            (0u64..0x100, 0u64..0x90, 0usize..50, 0..5u32).prop_map(|(at, pages, file, flags)| Wanted {
                at: RAM + at * 0x1_0000,
                memory: pages * 0x1000,
                file,
                flags: flags | 1,
                ..code(RAM, 0, 0)
            });
        prop_oneof![
            bytes.clone(),
            bytes.prop_map(|bytes| [&flat(4), &bytes[..]].concat()),
            collection::vec(segment, 1..4).prop_map(|segments| elf(RAM, &segments)),
            (64usize..300, any::<u32>()).prop_map(|(file, size)| kernel(file, u64::from(size >> 8), 0)),
        ]
    }

    proptest! {
        #[test]
        fn nothing_is_planned_or_loaded_outside_of_ram(
            mut file in files(),
            change in (0usize..2000, any::<u8>()),
            initrd in collection::vec(any::<u8>(), 0..9),
            times in prop_oneof![Just(0usize), Just(1), Just(300_000)],
            mib in 4u64..20,
        ) {
            if let Some(byte) = file.get_mut(change.0) {
                *byte = change.1;
            }
            let initrd = initrd.repeat(times);
            let config = vm(&file, Some(&initrd));
            let ram = ram(mib);
            let Ok(layout) = Layout::plan(&config, ram) else { return Ok(()) };
            let all = [Some(layout.tree), layout.kernel, layout.initrd];
            for (n, range) in all.iter().flatten().enumerate() {
                prop_assert!(ram.encloses(range), "{layout:?}");
                prop_assert!(all.iter().flatten().skip(n + 1).all(|other| !other.overlaps(range)), "{layout:?}");
            }
            prop_assert!(ram.contains(layout.entry));
            let mut written = Vec::new();
            let done = load(&config, &layout, &mut |at, bytes| {
                written.push(GuestRange::new(at, bytes.len() as u64).unwrap());
                Ok(())
            });
            prop_assert!(done.is_ok() || config.kernel.is_some_and(is_gzip));
            for (n, range) in written.iter().enumerate() {
                prop_assert!(all.iter().flatten().skip(1).any(|room| room.encloses(range)), "{range}");
                prop_assert!(written.iter().skip(n + 1).all(|other| !other.overlaps(range)));
            }
        }
    }
}
