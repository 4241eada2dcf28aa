//! The machine's tree, as firmware or a person hands it over.

use mezzanine::addr::{Address, HostRange};
use mezzanine::config::{self, HostFacts};
use mezzanine::fdt::{self, Platform};
use mezzanine::map::GicVersion;

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
