//! Trees that firmware or a person hands over: the machine's, and one of which parts go into a guest's.

use mezzanine::addr::{Address, GuestRange, HostRange};
use mezzanine::config::{self, HostFacts};
use mezzanine::fdt::guest::{GuestMachine, write};
use mezzanine::fdt::{self, Partial, Platform};
use mezzanine::map::{self, GicVersion};

/// The tree, then everything that boot does with it up to the first VM.
pub fn machine(data: &[u8]) {
    let mut tree = data.to_vec();
    let _ = fdt::total_size(&tree);
    fdt::squeeze(&mut tree);
    let Ok(platform) = Platform::read(&tree) else { return };
    let usable = platform.usable(&[]);
    for (n, range) in usable.iter().enumerate() {
        assert!(usable[n + 1..].iter().all(|other| !range.overlaps(other)), "free memory is there twice");
        assert!(platform.reserved.iter().all(|kept| !kept.range.overlaps(range)), "reserved memory is free");
    }
    // Modules have what lies at their addresses: the tree itself does.
    let blob = |range: HostRange| {
        let start = usize::try_from(range.start().raw() & 0xfff).ok()?;
        data.get(start..start.checked_add(usize::try_from(range.size()).ok()?)?)
    };
    let host = HostFacts { cpus: 4, memory: 1 << 30, gic: GicVersion::V3 };
    if let Ok(machine) = config::read(&platform, &blob, &host) {
        assert!(!machine.vms.is_empty());
    }
}

/// A partial tree: what is taken makes a tree that a guest can read.
pub fn partial(data: &[u8]) {
    let mut warnings = Vec::new();
    let Ok(partial) = Partial::read(data, "vm", &mut warnings) else { return };
    let tree = write(&GuestMachine {
        name: "vm",
        mpidrs: &[map::mpidr(0, GicVersion::V3)],
        cpu_compatible: "arm,armv8",
        ram: &[GuestRange::at(0x4000_0000, 64 << 20)],
        gic: GicVersion::V3,
        initrd: None,
        bootargs: "",
        uart: true,
        partial: Some(partial),
        seed: None,
    });
    assert!(tree.len() as u64 <= map::TREE_MAX, "the guest's tree has no room");
    assert!(Platform::read(&tree).is_ok(), "the guest cannot read its tree");
}
