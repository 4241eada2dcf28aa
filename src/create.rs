//! Makes a VM of its configuration: memory, Stage 2, devices, kernel, vCPUs.
//!
//! Everything that can fail does so here, before the VM is part of the world.

mod firmware;

use crate::addr::{Address, BLOCK_2M, GuestPhysAddr, GuestRange, HostPhysAddr, HostRange, PAGE_SIZE};
use crate::config::{VmConfig, no_gicv3};
use crate::fdt::guest::{GuestMachine, write};
use crate::guest::{Layout, load};
use crate::idregs::{IdRegs, View};
use crate::machine::{Machine, Ticks};
use crate::map::{self, GicVersion};
use crate::problem;
use crate::problem::Problem;
use crate::ram::{FreeRam, GuestRam};
use crate::stage2::{Geometry, Rights, Stage2};
use crate::sync::Mutex;
use crate::vcpu::{Vcpu, VcpuId, VmId};
use crate::vdev::pl011::{self, Pl011};
use crate::vdev::pl031::Pl031;
use crate::vdev::vgic::{Vgic, VgicConfig};
use crate::vdev::virtio::EmptySlots;
use crate::vdev::{Bus, Region};
use crate::vm::{Parts, Vm};
use crate::vmid::{Assigned, Vmids};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Shared peripheral interrupts that a guest's GIC has: `virt` devices use less than 64.
const SPIS: u16 = 64;

/// How a VM starts.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// Where its first vCPU begins.
    pub entry: u64,
    /// The device tree.
    pub x0: u64,
}

/// A VM that is ready to run.
pub struct Made {
    /// It.
    pub vm: Arc<Vm>,
    /// How it starts.
    pub start: Start,
}

/// What the machine has for guests: the same for all VMs.
#[derive(Clone, Debug)]
pub struct Host {
    /// What stands behind guests' interrupt controllers.
    pub vgic: VgicHost,
    /// Bits of a physical address.
    pub pa_bits: u8,
    /// 16-bit VMIDs.
    pub vmid16: bool,
    /// ID registers that all CPUs have in common.
    pub ids: [u64; 64],
    /// MIDR_EL1.
    pub midr: u64,
    /// What every vCPU's HCR_EL2 starts with.
    pub hcr: u64,
    /// Seconds since 1970 at `boot`.
    pub wall_clock: u64,
    /// When the clock was read.
    pub boot: Ticks,
}

/// What the machine has for guests' interrupt controllers.
#[derive(Clone, Copy, Debug)]
pub struct VgicHost {
    /// The machine's own GIC.
    pub version: GicVersion,
    /// List registers; 0 without the Virtualization Extensions.
    pub lists: u8,
    /// Priority bits of a guest's GIC.
    pub priority_bits: u8,
    /// GICV: the CPU interface that a GICv2 has for guests.
    pub gicv: Option<HostPhysAddr>,
    /// Nothing of it is to be used: `mezzanine.vgic=emulated`.
    pub emulated: bool,
}

/// Who is the CPU interface of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interface {
    /// The hardware's, by system registers.
    Registers,
    /// The hardware's, by this page in place of the guest's GICC.
    Gicv(HostPhysAddr),
    /// The vGIC: every access traps.
    Emulated,
}

/// List registers of an emulated interface, as many as any hardware has.
const EMULATED_LISTS: u8 = 16;
/// Priority bits of one, as many as list registers in hardware have.
const EMULATED_PRIORITY_BITS: u8 = 5;

impl VgicHost {
    /// What a guest with this GIC has; `None` where the architecture has no way: without a GICv3, ICC_*_EL1 are
    /// UNDEFINED at EL1 and do not trap.
    fn interface(&self, gic: GicVersion) -> Option<Interface> {
        match (self.version, gic) {
            (GicVersion::V2, GicVersion::V3) => None,
            _ if self.emulated || self.lists == 0 => Some(Interface::Emulated),
            (GicVersion::V3, GicVersion::V3) => Some(Interface::Registers),
            (GicVersion::V2, GicVersion::V2) => Some(self.gicv.map_or(Interface::Emulated, Interface::Gicv)),
            (GicVersion::V3, GicVersion::V2) => Some(Interface::Emulated),
        }
    }
}

/// Makes VMs out of the machine's memory.
pub struct Maker<'a, M> {
    machine: &'a mut M,
    free: FreeRam,
    /// Bytes of heap that were set aside for the VMs.
    heap: u64,
    vmids: Vmids,
    /// What the VMs made so far have.
    assigned: Vec<Assigned>,
    host: Host,
    made: u16,
}

impl<'a, M: Machine> Maker<'a, M> {
    /// A maker with all of `free` to give; `heap` bytes were set aside for the VMs before.
    pub fn new(machine: &'a mut M, free: FreeRam, heap: u64, host: Host) -> Self {
        let vmids = Vmids::new(if host.vmid16 { 16 } else { 8 });
        Self { machine, free, heap, vmids, assigned: Vec::new(), host, made: 0 }
    }

    /// Makes one VM.
    ///
    /// # Errors
    /// E0320 to E0325, E0433, and what [`Layout::plan`] and [`load`] find wrong with its images.
    pub fn make(&mut self, config: &VmConfig<'_>) -> Result<Made, Problem> {
        let id = VmId(self.made);
        let begun = self.machine.now();
        let gic = config.gic.unwrap_or(self.host.vgic.version);
        let Some(interface) = self.host.vgic.interface(gic) else {
            return Err(no_gicv3(config));
        };
        let ram = self.memory_for(config)?;
        let layout = Layout::plan(config, ram.range())?;
        for (_, chunk) in ram.chunks() {
            self.machine.scrub(chunk);
        }
        let mut stage2 = self.translation(config, &ram, interface)?;
        let rom = self.rom(config, &mut stage2)?;
        let mpidrs: Vec<u64> = (0..config.vcpus).map(|n| map::mpidr(n, gic)).collect();
        let seed = self.seed();
        let tree = write(&GuestMachine {
            name: &config.name,
            mpidrs: &mpidrs,
            ram: &[ram.range()],
            gic,
            initrd: layout.initrd,
            bootargs: config.cmdline,
            uart: !config.without_uart,
            partial: config.partial(&mut Vec::new())?,
            seed,
            cpu_compatible: "arm,armv8",
        });
        put(&ram, config, layout.tree.start(), &tree)?;
        load(config, &layout, &mut |at, bytes| put(&ram, config, at, bytes))?;
        let written = GuestRange::new(layout.tree.start(), tree.len() as u64);
        for written in [written, layout.kernel, layout.initrd].into_iter().flatten() {
            if let Ok(pieces) = ram.host_ranges(written) {
                pieces.for_each(|piece| self.machine.publish(piece));
            }
        }
        let vcpus =
            mpidrs.iter().enumerate().map(|(n, mpidr)| self.vcpu(id, n as u16, *mpidr, &stage2)).collect();
        let emulated = interface == Interface::Emulated;
        let vgic = Vgic::new(VgicConfig {
            version: gic,
            mpidrs,
            spis: SPIS,
            lists: if emulated { EMULATED_LISTS } else { self.host.vgic.lists },
            priority_bits: if emulated { EMULATED_PRIORITY_BITS } else { self.host.vgic.priority_bits },
            emulated,
        });
        let (bus, uart) = self.devices(config)?;
        let ids = IdRegs::new(
            &self.host.ids,
            View { ipa_bits: IPA_BITS.min(self.host.pa_bits), gic_system_registers: gic == GicVersion::V3 },
        );
        log::info!(
            "vm {}: {} vCPU(s), {} MiB at {}, kernel {} bytes, {} KiB of tables, ready after {} us",
            config.name,
            config.vcpus,
            ram.range().size() >> 20,
            ram.range(),
            config.kernel.map_or(0, <[u8]>::len),
            stage2.pages() * 4,
            (self.machine.now().0 - begun.0) * 1_000_000 / self.machine.frequency()
        );
        if !config.static_memory.is_empty() {
            log::info!("vm {}: its RAM is{}", config.name, Pieces(&config.static_memory));
        }
        self.made += 1;
        let start = Start { entry: layout.entry.raw(), x0: layout.tree.start().raw() };
        let name = config.name.clone();
        Ok(Made {
            vm: Arc::new(Vm::new(Parts { id, name, ram, rom, stage2, bus, uart, vgic, ids, vcpus })),
            start,
        })
    }

    /// Says where the machine's memory went.
    pub fn report(&self, image: HostRange) {
        log::info!(
            "memory: EL2 uses {} KiB and {} KiB a VM; {} MiB free",
            image.size() >> 10,
            ((self.free.table_bytes() + self.heap) / u64::from(self.made.max(1))) >> 10,
            self.free.memory().free() >> 20
        );
    }

    /// The VM's RAM: in one piece where there is one, else in as few as there are, for the largest blocks of
    /// Stage 2.
    fn memory_for(&mut self, config: &VmConfig<'_>) -> Result<GuestRam, Problem> {
        let ram = match config.static_memory.as_slice() {
            [] => self.free.guest_ram(map::RAM_BASE, config.memory),
            chosen => self.free.kept_guest_ram(map::RAM_BASE, chosen),
        };
        ram.ok_or_else(|| {
            let ranges = self.free.memory().ranges();
            let most: u64 = ranges.iter().map(|range| range.align_in(BLOCK_2M).size()).sum();
            problem!("E0320", ("{} memory", config.place);
                ("{} MiB are not free in blocks of 2 MiB", config.memory >> 20); ("Use at most {} MiB", most >> 20))
        })
    }

    fn translation(
        &mut self,
        config: &VmConfig<'_>,
        ram: &GuestRam,
        interface: Interface,
    ) -> Result<Stage2, Problem> {
        let no_memory = || problem!("E0321", ("{}", config.place); ("no memory left for its translation tables"); ("Give the machine more RAM, or the VM less"));
        let geometry = Geometry {
            ipa_bits: IPA_BITS.min(self.host.pa_bits),
            pa_bits: self.host.pa_bits,
            vmid16: self.host.vmid16,
        };
        // Every VM keeps its VMID for good so far, so a generation never ends: with all in use, that is it.
        let Some((assigned, _)) = self.vmids.assign(Assigned::NONE, &self.assigned) else {
            return Err(problem!("E0325", ("{}", config.place); ("no VMID is left"); ("Fewer VMs")));
        };
        self.assigned.push(assigned);
        let vmid = assigned.vmid;
        let mut pages = self.free.tables();
        let mut stage2 = Stage2::new(geometry, vmid, &mut pages).ok_or_else(no_memory)?;
        for (at, chunk) in ram.chunks() {
            let flush = stage2.map(at, chunk, Rights::Ram, &mut pages).map_err(|_| no_memory())?;
            self.machine.flush(flush);
        }
        if let Interface::Gicv(page) = interface {
            // The first page alone: GICC_DIR, in the second, traps, as only the vGIC knows of interrupts that
            // are active and in no list register.
            let page = HostRange::between(page, HostPhysAddr::at(page.raw().wrapping_add(PAGE_SIZE)));
            let flush =
                stage2.map(map::GICC.start(), page, Rights::Device, &mut pages).map_err(|_| no_memory())?;
            self.machine.flush(flush);
        }
        // An earlier owner of this VMID may have left translations behind; so may the firmware.
        self.machine.flush(crate::stage2::Flush::Vm { vttbr: stage2.vttbr() });
        Ok(stage2)
    }

    fn vcpu(&self, vm: VmId, n: u16, mpidr: u64, stage2: &Stage2) -> Vcpu {
        let mut vcpu = Vcpu::new(vm, VcpuId(n));
        vcpu.mpidr = mpidr;
        vcpu.midr = self.host.midr;
        vcpu.hcr = self.host.hcr;
        vcpu.vttbr = stage2.vttbr();
        vcpu.vtcr = stage2.vtcr();
        vcpu.cntvoff = 0;
        vcpu
    }

    /// Random numbers for the guest's tree, where the machine has them.
    fn seed(&mut self) -> Option<[u64; 5]> {
        let mut seed = [0; 5];
        for word in &mut seed {
            *word = self.machine.random()?;
        }
        Some(seed)
    }

    fn devices(&self, config: &VmConfig<'_>) -> Result<(Bus, Arc<Mutex<Pl011>>), Problem> {
        let uart =
            Arc::new(Mutex::new(Pl011::new(config.console_log.map_or(pl011::RING, |bytes| bytes as usize))));
        let clock = Pl031::new(self.machine.frequency(), self.host.wall_clock, self.host.boot);
        let slots = GuestRange::new(map::VIRTIO_BASE, map::VIRTIO_STRIDE * u64::from(map::VIRTIO_COUNT))
            .unwrap_or_default();
        let mut regions = alloc::vec![
            Region::new("pl031", map::RTC, Some(map::RTC_SPI), Arc::new(Mutex::new(clock))).timed(),
            Region::new("virtio-mmio", slots, None, Arc::new(Mutex::new(EmptySlots))),
        ];
        if !config.without_uart {
            regions.push(Region::new("pl011", map::UART, None, uart.clone()));
        }
        let bus = Bus::new(regions).map_err(|region| {
            problem!("E0322", ("{}", config.place); ("device {} overlaps another", region.name); ("This is a bug in the guest's map"))
        })?;
        Ok((bus, uart))
    }
}

/// Bits of a guest-physical address, where the CPU has as many: a root of two tables at level 1.
const IPA_BITS: u8 = 40;

/// Ranges of host memory, each with a blank before it.
struct Pieces<'r>(&'r [HostRange]);

impl core::fmt::Display for Pieces<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|piece| write!(f, " {piece}"))
    }
}

fn put(ram: &GuestRam, config: &VmConfig<'_>, at: GuestPhysAddr, bytes: &[u8]) -> Result<(), Problem> {
    ram.write(at, bytes).map_err(|_| {
        problem!("E0324", ("{} memory", config.place);
            ("{} bytes at {at} lie outside of it", bytes.len()); ("Give the VM more memory"))
    })
}
