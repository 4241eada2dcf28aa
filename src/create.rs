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
use crate::pvtime::StolenTime;
use crate::ram::{FreeRam, GuestRam};
use crate::sched::{Account, Share};
use crate::stage2::{Geometry, Rights, Stage2};
use crate::sync::Mutex;
use crate::vcpu::{HCR_TWI, Vcpu, VcpuId, VmId};
use crate::vdev::pl011::Pl011;
use crate::vdev::pl031::Pl031;
use crate::vdev::pl061::Pl061;
use crate::vdev::vgic::{Vgic, VgicConfig};
use crate::vdev::virtio::EmptySlots;
use crate::vdev::{Bus, Region};
use crate::vm::{Parts, Vm};
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
    /// MIDR_EL1 of each CPU.
    pub midrs: Vec<u64>,
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
    host: Host,
    made: u16,
}

impl<'a, M: Machine> Maker<'a, M> {
    /// A maker with all of `free` to give; `heap` bytes were set aside for the VMs before.
    pub fn new(machine: &'a mut M, free: FreeRam, heap: u64, host: Host) -> Self {
        Self { machine, free, heap, host, made: 0 }
    }

    /// Makes one VM, each of whose vCPUs may run on the CPUs of its set in `places`.
    ///
    /// # Errors
    /// E0320 to E0324, E0433, and what [`Layout::plan`] and [`load`] find wrong with its images.
    pub fn make(&mut self, config: &VmConfig<'_>, places: &[u64]) -> Result<Made, Problem> {
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
        let stolen = self.stolen_time(config, &mut stage2)?;
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
        let vcpus = self.vcpus(id, config, &mpidrs, places, &stage2)?;
        let emulated = interface == Interface::Emulated;
        let vgic = Vgic::new(VgicConfig {
            version: gic,
            mpidrs,
            spis: SPIS,
            lists: if emulated { EMULATED_LISTS } else { self.host.vgic.lists },
            priority_bits: if emulated { EMULATED_PRIORITY_BITS } else { self.host.vgic.priority_bits },
            emulated,
        });
        let (bus, uart, power_key) = self.devices(config)?;
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
            (stage2.pages() + SHARED_PAGES) * 4,
            (self.machine.now().0 - begun.0) * 1_000_000 / self.machine.frequency()
        );
        if !config.static_memory.is_empty() {
            log::info!("vm {}: its RAM is{}", config.name, Pieces(&config.static_memory));
        }
        self.made += 1;
        let start = Start { entry: layout.entry.raw(), x0: layout.tree.start().raw() };
        let name = config.name.clone();
        Ok(Made {
            vm: Arc::new(Vm::new(Parts {
                id,
                name,
                ram,
                rom,
                stage2,
                stolen,
                bus,
                uart,
                power_key,
                vgic,
                ids,
                vcpus,
            })),
            start,
        })
    }

    /// Says where the machine's memory went.
    pub fn report(&self, own: u64) {
        log::info!(
            "memory: EL2 uses {} KiB and {} KiB a VM; {} MiB free",
            own >> 10,
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
        let no_memory = || no_tables(config);
        let geometry = Geometry {
            ipa_bits: IPA_BITS.min(self.host.pa_bits),
            pa_bits: self.host.pa_bits,
            vmid16: self.host.vmid16,
        };
        let mut pages = self.free.tables();
        let mut stage2 = Stage2::new(geometry, &mut pages).ok_or_else(no_memory)?;
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
        Ok(stage2)
    }

    /// The page of the VM's stolen time: its own, and mapped so that it can read it and do nothing else.
    fn stolen_time(&mut self, config: &VmConfig<'_>, stage2: &mut Stage2) -> Result<StolenTime, Problem> {
        let page = self.free.shared_page().ok_or_else(|| no_tables(config))?;
        let stolen = StolenTime::new(page, self.machine.frequency());
        self.machine.publish(stolen.host_page());
        let mut pages = self.free.tables();
        let flush = stage2
            .map(map::PV_TIME.start(), stolen.host_page(), Rights::ReadOnly, &mut pages)
            .map_err(|_| no_tables(config))?;
        self.machine.flush(flush);
        Ok(stolen)
    }

    /// The VM's vCPUs, all off.
    fn vcpus(
        &self,
        vm: VmId,
        config: &VmConfig<'_>,
        mpidrs: &[u64],
        places: &[u64],
        stage2: &Stage2,
    ) -> Result<Vec<Vcpu>, Problem> {
        let (midr, kin) = self.kin(config, places)?;
        let share = Share { weight: config.weight_or_default(), cap: config.limit() };
        let vcpu = |((n, mpidr), place): ((u16, &u64), &u64)| {
            let mut vcpu = Vcpu::new(vm, VcpuId(n));
            vcpu.mpidr = *mpidr;
            vcpu.midr = midr;
            vcpu.hcr = if config.dedicated { self.host.hcr & !HCR_TWI } else { self.host.hcr };
            vcpu.vtcr = stage2.vtcr();
            vcpu.account = Account::new(share);
            vcpu.affinity = place & kin;
            vcpu.dedicated = config.dedicated;
            vcpu
        };
        Ok((0..config.vcpus).zip(mpidrs).zip(places).map(vcpu).collect())
    }

    /// The kind of CPU that a VM's vCPUs run on, and the CPUs of that kind: kernels choose workarounds by MIDR_EL1,
    /// once. Who did not choose has the kind of the first that it may run on.
    fn kin(&self, config: &VmConfig<'_>, places: &[u64]) -> Result<(u64, u64), Problem> {
        let cpus = places.iter().fold(0, |all, place| all | place);
        let midr = |cpu: u32| self.host.midrs.get(cpu as usize).copied().unwrap_or(0);
        let kind = midr(cpus.trailing_zeros());
        let kin = (0..64).filter(|cpu| midr(*cpu) == kind).fold(0u64, |set, cpu| set | 1 << cpu);
        match places.iter().position(|place| place & kin == 0) {
            Some(n) => Err(problem!("E0349", ("{} affinity", config.place);
                ("vCPU {n} has no CPU of the kind that others have, MIDR {kind:#x}"); ("Choose CPUs of one kind for all its vCPUs"))),
            None => Ok((kind, kin)),
        }
    }

    /// Random numbers for the guest's tree, where the machine has them.
    fn seed(&mut self) -> Option<[u64; 5]> {
        let mut seed = [0; 5];
        for word in &mut seed {
            *word = self.machine.random()?;
        }
        Some(seed)
    }

    fn devices(&self, config: &VmConfig<'_>) -> Result<Devices, Problem> {
        let uart = Arc::new(Mutex::new(Pl011::new(config.console_log_bytes() as usize)));
        let clock = Pl031::new(self.machine.frequency(), self.host.wall_clock, self.host.boot);
        let slots = GuestRange::new(map::VIRTIO_BASE, map::VIRTIO_STRIDE * u64::from(map::VIRTIO_COUNT))
            .unwrap_or_default();
        let power_key = Arc::new(Mutex::new(Pl061::new(self.machine.frequency())));
        let mut regions = alloc::vec![
            Region::new("pl031", map::RTC, Some(map::RTC_SPI), Arc::new(Mutex::new(clock))).timed(),
            Region::new("pl061", map::PL061, Some(map::PL061_SPI), power_key.clone()).timed(),
            Region::new("virtio-mmio", slots, None, Arc::new(Mutex::new(EmptySlots))),
        ];
        if !config.without_uart {
            regions.push(Region::new("pl011", map::UART, None, uart.clone()));
        }
        let bus = Bus::new(regions).map_err(|region| {
            problem!("E0322", ("{}", config.place); ("device {} overlaps another", region.name); ("This is a bug in the guest's map"))
        })?;
        Ok((bus, uart, power_key))
    }
}

/// A VM's devices, and those of them that the run loop reaches by a way of its own.
type Devices = (Bus, Arc<Mutex<Pl011>>, Arc<Mutex<Pl061>>);

/// Pages of a VM beside its RAM and its tables: that of its stolen time.
const SHARED_PAGES: usize = 1;

fn no_tables(config: &VmConfig<'_>) -> Problem {
    problem!("E0321", ("{}", config.place); ("no memory left for its translation tables"); ("Give the machine more RAM, or the VM less"))
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
