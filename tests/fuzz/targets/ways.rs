//! Guests as they arrive: bundles, archives, images.

use super::input::Input;
use mezzanine::addr::GuestRange;
use mezzanine::config::{self, VmConfig, bundle};
use mezzanine::guest::gzip::Gzip;
use mezzanine::guest::{Layout, image, load};
use mezzanine::map::RAM_BASE;

/// RAM of the VMs here.
const RAM: u64 = 64 << 20;
/// What a gzip file may unpack to here: a bomb is slow, not wrong.
const UNPACKED: u64 = 8 << 20;

/// Any bytes as a bundle.
pub fn cpio(data: &[u8]) {
    if let Ok(vms) = bundle::read(data) {
        let _ = config::check(&vms, None);
    }
}

/// A sound archive around any tree and any files.
pub fn bundle(data: &[u8]) {
    let mut input = Input(data);
    let tree = input.piece();
    let mut archive = Vec::new();
    member(&mut archive, "mezzanine.dtb", tree);
    for name in ["a/kernel", "a/initrd", "b/kernel"] {
        member(&mut archive, name, input.piece());
    }
    member(&mut archive, "TRAILER!!!", &[]);
    cpio(&archive);
}

/// One file of a newc archive.
fn member(archive: &mut Vec<u8>, name: &str, data: &[u8]) {
    let fields = [0, 0o100_644, 0, 0, 1, 0, data.len(), 0, 0, 0, 0, name.len() + 1, 0];
    archive.extend(b"070701");
    fields.iter().for_each(|field| archive.extend(format!("{field:08x}").bytes()));
    archive.extend(name.bytes());
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend(data);
    archive.resize(archive.len().next_multiple_of(4), 0);
}

/// Any bytes as a kernel.
pub fn image(data: &[u8]) {
    let _ = (image::looks_like(data), image::is_initrd(data), image::is_blank(data));
    start(data);
}

/// An ELF file in all but its first bytes, which are right.
pub fn elf(data: &[u8]) {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend(data);
    start(&file);
}

/// Plans and loads a kernel: nothing of it may go anywhere but into the VM's RAM.
fn start(kernel: &[u8]) {
    let vm = VmConfig { kernel: Some(kernel), memory: RAM, vcpus: 1, ..VmConfig::named("fuzz") };
    let Some(ram) = GuestRange::new(RAM_BASE, RAM) else { return };
    let rom = VmConfig { firmware: Some(kernel), kernel: None, ..vm.clone() };
    let _ = Layout::plan(&rom, ram);
    let Ok(layout) = Layout::plan(&vm, ram) else { return };
    let mut left = RAM;
    let _ = load(&vm, &layout, &mut |at, bytes| {
        let there = GuestRange::new(at, bytes.len() as u64);
        let inside = there.is_some_and(|there| there.start() >= ram.start() && there.end() <= ram.end());
        assert!(inside, "{} bytes at {at} are not in RAM", bytes.len());
        assert!(bytes.len() as u64 <= left, "more than its RAM");
        left -= bytes.len() as u64;
        Ok(())
    });
}

/// Any bytes as a gzip file, unpacked in pieces.
pub fn gzip(data: &[u8]) {
    let Ok(mut gzip) = Gzip::open(data, "fuzz") else { return };
    while gzip.total() < UNPACKED && matches!(gzip.next(4096), Ok(Some(_))) {}
}
