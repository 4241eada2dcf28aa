//! The walk over the machine's tree that fills a `Platform`.

use super::check::check;
use super::tree::{
    Bus, Cells, Chain, Node, bad, base_name, compatible, device, enabled, interrupt_parent, number, prop,
    range, text,
};
use super::*;
use crate::problem;

const GIC_V3: &[&str] = &["arm,gic-v3"];
const GIC_V2: &[&str] = &[
    "arm,gic-400",
    "arm,cortex-a15-gic",
    "arm,cortex-a7-gic",
    "arm,cortex-a9-gic",
    "arm,pl390",
    "qcom,msm-qgic2",
];
const TIMER: &[&str] = &["arm,armv8-timer", "arm,armv7-timer"];
/// Our own options where `bootargs` are somebody else's.
const OWN_BOOTARGS: &str = "mezzanine,bootargs";
const PSCI_STANDARD: &[&str] = &["arm,psci-1.0", "arm,psci-0.2"];
/// The order of a timer's interrupts where `interrupt-names` gives none.
const TIMER_ORDER: [&str; 5] = ["sec-phys", "phys", "virt", "hyp-phys", "hyp-virt"];

/// An `interrupts` property, to be read once the controller is known.
#[derive(Clone, Copy, Default)]
struct Ints<'a> {
    cells: &'a [u8],
    parent: Option<u32>,
}

struct Reader<'a> {
    platform: Platform<'a>,
    /// Phandle and `#interrupt-cells` of the GIC.
    gic: Option<(Option<u32>, u32)>,
    maintenance: Ints<'a>,
    timer: Ints<'a>,
    timer_names: &'a [u8],
    uart: Ints<'a>,
}

pub(super) fn read(blob: &[u8]) -> Result<Platform<'_>, Problem> {
    let fdt = check(blob)?;
    let Some(root) = fdt.find_node("/") else {
        return Err(problem!("E0102", ("device tree"); ("no root node"); ("Every tree has one")));
    };
    let mut reader = Reader {
        platform: Platform {
            model: text(root, "model")?.unwrap_or_default(),
            compatible: prop(root, "compatible").unwrap_or_default(),
            tree: blob.get(..fdt.total_size()).unwrap_or_default(),
            ..Platform::default()
        },
        gic: None,
        maintenance: Ints::default(),
        timer: Ints::default(),
        timer_names: &[],
        uart: Ints::default(),
    };
    for kept in fdt.memory_reservations() {
        let range = range(root, kept.address() as u64, kept.size() as u64)?;
        reader.reserve(range, false)?;
    }
    let bus = Bus::of(root, None);
    let mut chain = Chain::new();
    let _ = chain.push(bus);
    let mut stdout = None;
    for node in root.children() {
        match base_name(node.name) {
            "memory" => reader.memory(node, &bus)?,
            "reserved-memory" => reader.reserved_memory(node, &bus)?,
            "cpus" => reader.cpus(node, &bus)?,
            "chosen" => stdout = reader.chosen(node, &bus)?,
            "aliases" => {}
            _ => reader.device(node, &mut chain)?,
        }
    }
    reader.console(&fdt, root, stdout)?;
    reader.finish()
}

impl<'a> Reader<'a> {
    fn reserve(&mut self, range: HostRange, no_map: bool) -> Result<(), Problem> {
        if range.is_empty() {
            return Ok(());
        }
        self.platform
            .reserved
            .push(Reserved { range, no_map })
            .map_err(|_| full("/reserved-memory", MAX_RESERVED, ""))
    }

    fn memory(&mut self, node: Node<'_, 'a>, bus: &Bus<'a>) -> Result<(), Problem> {
        if !enabled(node) {
            return Ok(());
        }
        let mut n = 0;
        while let Some(bank) = bus.reg(node, n)? {
            if !bank.is_empty() {
                self.platform.ram.push(bank).map_err(|_| full("memory", MAX_BANKS, ""))?;
            }
            n += 1;
        }
        Ok(())
    }

    fn reserved_memory(&mut self, node: Node<'_, 'a>, above: &Bus<'a>) -> Result<(), Problem> {
        let bus = Bus::of(node, Some(above));
        for child in node.children() {
            // Without `reg` it asks whoever uses the memory to find a place, which is nothing to us.
            if prop(child, "reg").is_some() && enabled(child) {
                let no_map = prop(child, "no-map").is_some();
                let mut n = 0;
                while let Some(range) = bus.reg(child, n)? {
                    self.reserve(range, no_map)?;
                    n += 1;
                }
            }
        }
        Ok(())
    }

    fn cpus(&mut self, node: Node<'_, 'a>, above: &Bus<'a>) -> Result<(), Problem> {
        let bus = Bus::of(node, Some(above));
        for cpu in node.children() {
            if base_name(cpu.name) != "cpu" {
                continue;
            }
            let Some(affinity) = prop(cpu, "reg").and_then(|v| Cells(v).take(bus.address_cells)) else {
                return Err(bad(
                    cpu.name,
                    "reg",
                    "missing or too short",
                    "The affinity of its MPIDR_EL1 belongs there",
                ));
            };
            let status = match text(cpu, "status")?.unwrap_or("okay") {
                "okay" | "ok" => CpuStatus::Okay,
                "disabled" => CpuStatus::Disabled,
                _ => CpuStatus::Fail,
            };
            let enable = match text(cpu, "enable-method")?.or(text(node, "enable-method")?) {
                Some("psci") => EnableMethod::Psci,
                Some("spin-table") => match number(cpu, "cpu-release-addr")? {
                    Some(address) => EnableMethod::SpinTable(HostPhysAddr::new(address)),
                    None => {
                        return Err(bad(
                            cpu.name,
                            "cpu-release-addr",
                            "missing",
                            "A spin table needs the address to poll",
                        ));
                    }
                },
                _ => EnableMethod::Unknown,
            };
            if self.platform.cpus.push(Cpu { affinity: affinity & 0xff_00ff_ffff, status, enable }).is_err() {
                self.platform.cpus_left_out += 1;
            }
        }
        Ok(())
    }

    /// Reads `/chosen` and returns `stdout-path`.
    fn chosen(&mut self, node: Node<'_, 'a>, root: &Bus<'a>) -> Result<Option<&'a str>, Problem> {
        // Where Xen has options of its own, the others are Dom0's or a plain Linux's, and U-Boot's to write.
        let name = match prop(node, OWN_BOOTARGS) {
            None if prop(node, "xen,xen-bootargs").is_none() => "bootargs",
            _ => OWN_BOOTARGS,
        };
        self.platform.bootargs = text(node, name)?.unwrap_or_default().trim_ascii();
        self.platform.kaslr_seed = number(node, "kaslr-seed")?;
        self.platform.rng_seed = prop(node, "rng-seed").unwrap_or_default();
        self.platform.initrd = match (number(node, "linux,initrd-start")?, number(node, "linux,initrd-end")?)
        {
            (None, None) => None,
            (Some(start), Some(end)) if start < end => {
                Some(HostRange::between(HostPhysAddr::new(start), HostPhysAddr::new(end)))
            }
            (start, end) => {
                return Err(problem!("E0112", ("/chosen linux,initrd-start");
                    ("an initrd from {:#x} to {:#x}", start.unwrap_or(0), end.unwrap_or(0));
                    ("Give linux,initrd-start and -end, the second above the first")));
            }
        };
        // QEMU writes a module's `reg` with the root's counts where /chosen has none of its own.
        let own = Bus::of(node, Some(root));
        let bus = if prop(node, "#address-cells").is_some() { own } else { *root };
        for child in node.children() {
            if compatible(child, &["multiboot,module"]) {
                self.module(child, &bus)?;
            }
        }
        Ok(text(node, "stdout-path")?.or(text(node, "linux,stdout-path")?))
    }

    fn module(&mut self, node: Node<'_, 'a>, bus: &Bus<'a>) -> Result<(), Problem> {
        let kind = if compatible(node, &["multiboot,kernel"]) {
            ModuleKind::Kernel
        } else if compatible(node, &["multiboot,ramdisk"]) {
            ModuleKind::Ramdisk
        } else {
            ModuleKind::Other
        };
        let Some(range) = bus.reg(node, 0)?.filter(|r| !r.is_empty()) else {
            return Err(bad(
                node.name,
                "reg",
                "missing or empty",
                "The module's address and size belong there",
            ));
        };
        let bootargs = text(node, "bootargs")?.unwrap_or_default();
        let module = Module { name: node.name, kind, range, bootargs };
        self.platform
            .modules
            .push(module)
            .map_err(|_| full("/chosen", MAX_MODULES, ": a bundle holds 1000 VMs"))
    }

    /// Looks at a device's node, and at those below it.
    fn device(&mut self, node: Node<'_, 'a>, chain: &mut Chain<'a>) -> Result<(), Problem> {
        if !enabled(node) {
            return Ok(());
        }
        let inherited = chain.last().and_then(|bus| bus.interrupt_parent);
        let ints = Ints {
            cells: prop(node, "interrupts").unwrap_or_default(),
            parent: interrupt_parent(node).or(inherited),
        };
        if self.gic.is_none() && compatible(node, GIC_V3) {
            self.gic_v3(node, chain)?;
            self.maintenance = ints;
        } else if self.gic.is_none() && compatible(node, GIC_V2) {
            self.gic_v2(node, chain)?;
            self.maintenance = ints;
        } else if compatible(node, TIMER) {
            self.timer = ints;
            self.timer_names = prop(node, "interrupt-names").unwrap_or_default();
        } else if compatible(node, &["arm,pl031"]) && self.platform.rtc.is_none() {
            self.platform.rtc = device(node, chain, 0)?;
        } else if compatible(node, PSCI_STANDARD) || compatible(node, &["arm,psci"]) {
            self.psci(node)?;
        }
        if chain.push(Bus::of(node, chain.last())).is_ok() {
            for child in node.children() {
                self.device(child, chain)?;
            }
            chain.pop();
        }
        Ok(())
    }

    fn found_gic(&mut self, node: Node<'_, 'a>) -> Result<(), Problem> {
        let phandle = number(node, "phandle")?.or(number(node, "linux,phandle")?).map(|n| n as u32);
        self.gic = Some((phandle, number(node, "#interrupt-cells")?.unwrap_or(3) as u32));
        Ok(())
    }

    fn gic_v2(&mut self, node: Node<'_, 'a>, chain: &Chain<'a>) -> Result<(), Problem> {
        self.found_gic(node)?;
        let (Some(dist), Some(cpu)) = (device(node, chain, 0)?, device(node, chain, 1)?) else {
            return Err(
                problem!("E0113", ("{} reg", node.name); ("not both a distributor and a CPU interface");
                ("A GICv2 has GICD, GICC and, to host guests, GICH and GICV")),
            );
        };
        let (hyp, vcpu) = (device(node, chain, 2)?, device(node, chain, 3)?);
        self.platform.gic = Gic::V2 { dist, cpu, hyp, vcpu };
        Ok(())
    }

    fn gic_v3(&mut self, node: Node<'_, 'a>, chain: &Chain<'a>) -> Result<(), Problem> {
        self.found_gic(node)?;
        let regions = number(node, "#redistributor-regions")?.unwrap_or(1) as usize;
        let mut redistributors = Vec::new();
        for n in 1..=regions.min(MAX_REDISTRIBUTORS) {
            if let Some(region) = device(node, chain, n)? {
                let _ = redistributors.push(region);
            }
        }
        let dist = device(node, chain, 0)?;
        let (Some(dist), true) = (dist, regions > 0 && redistributors.len() == regions) else {
            return Err(problem!("E0113", ("{} reg", node.name);
                ("{} of {regions} redistributor regions", redistributors.len());
                ("A GICv3 has GICD and 1 to {MAX_REDISTRIBUTORS} regions of redistributors")));
        };
        let mut compat = [None; 3];
        for (n, slot) in (regions + 1..).zip(compat.iter_mut()) {
            *slot = device(node, chain, n)?;
        }
        let stride = number(node, "redistributor-stride")?;
        self.platform.gic = Gic::V3 { dist, redistributors, stride, compat };
        Ok(())
    }

    fn psci(&mut self, node: Node<'_, 'a>) -> Result<(), Problem> {
        let conduit = match text(node, "method")? {
            Some("smc") => Conduit::Smc,
            Some("hvc") => Conduit::Hvc,
            other => {
                return Err(
                    problem!("E0110", ("{} method", node.name); ("\"{}\"", other.unwrap_or_default());
                    ("\"smc\" or \"hvc\" belongs there")),
                );
            }
        };
        self.platform.psci = Some(Psci { conduit, standard: compatible(node, PSCI_STANDARD) });
        Ok(())
    }

    /// Finds the console by `stdout-path`: a path or an alias, with options after a colon.
    fn console(
        &mut self,
        fdt: &fdt::Fdt<'a>,
        root: Node<'_, 'a>,
        stdout: Option<&'a str>,
    ) -> Result<(), Problem> {
        let alias = |name| match fdt.find_node("/aliases") {
            Some(aliases) => text(aliases, name),
            None => Ok(None),
        };
        let (path, options) = match stdout {
            Some(value) => value.split_once(':').unwrap_or((value, "")),
            None => (alias("serial0")?.unwrap_or_default(), ""),
        };
        if path.is_empty() {
            return Ok(());
        }
        let full = if path.starts_with('/') { path } else { alias(path)?.unwrap_or_default() };
        let mut chain = Chain::new();
        let mut node = Some(root).filter(|_| full.starts_with('/'));
        for name in full.split('/').filter(|name| !name.is_empty()) {
            let Some(parent) = node else { break };
            let _ = chain.push(Bus::of(parent, chain.last()));
            let mut children = parent.children();
            node = children.find(|c| c.name == name || (!name.contains('@') && base_name(c.name) == name));
        }
        let range = match node {
            Some(node) => device(node, &chain, 0)?,
            None => None,
        };
        let (Some(node), Some(range)) = (node, range) else {
            return Err(problem!("E0111", ("/chosen stdout-path"); ("\"{path}\" is no device of this tree");
                ("The path of a serial line, or an alias of one, belongs there")));
        };
        let inherited = chain.last().and_then(|bus| bus.interrupt_parent);
        self.uart = Ints {
            cells: prop(node, "interrupts").unwrap_or_default(),
            parent: interrupt_parent(node).or(inherited),
        };
        self.platform.uart = Some(Uart {
            kind: uart_kind(node),
            range,
            interrupt: None,
            reg_shift: number(node, "reg-shift")?.unwrap_or(0).min(4) as u8,
            baud: leading_number(options),
        });
        Ok(())
    }

    /// The `n`th of some interrupts, if they go to the GIC (binding arm,gic: type, number, flags).
    fn interrupt(&self, ints: Ints<'a>, n: usize) -> Option<IntId> {
        let (phandle, cells) = self.gic?;
        if cells < 3 || ints.parent.is_none() || ints.parent != phandle {
            return None;
        }
        let mut entry = Cells(ints.cells.chunks_exact(cells as usize * 4).nth(n)?);
        match (entry.take(1)?, entry.take(1)? as u32) {
            (0, spi @ 0..988) => Some(IntId::spi(spi)),
            (1, ppi @ 0..16) => Some(IntId::ppi(ppi)),
            _ => None,
        }
    }

    fn timers(&self) -> TimerInts {
        let mut named = self.timer_names.split(|&b| b == 0);
        let mut timer = TimerInts::default();
        for (n, usual) in TIMER_ORDER.iter().enumerate() {
            let name =
                if self.timer_names.is_empty() { usual.as_bytes() } else { named.next().unwrap_or_default() };
            let slot = match TIMER_ORDER.iter().position(|known| known.as_bytes() == name) {
                Some(0) => &mut timer.secure,
                Some(1) => &mut timer.physical,
                Some(2) => &mut timer.virt,
                Some(3) => &mut timer.hyp,
                Some(_) => &mut timer.hyp_virt,
                None => continue,
            };
            *slot = self.interrupt(self.timer, n);
        }
        timer
    }

    fn finish(mut self) -> Result<Platform<'a>, Problem> {
        self.platform.timer = self.timers();
        self.platform.maintenance = self.interrupt(self.maintenance, 0);
        let interrupt = self.interrupt(self.uart, 0);
        if let Some(uart) = &mut self.platform.uart {
            uart.interrupt = interrupt;
        }
        if self.platform.ram.is_empty() {
            return Err(problem!("E0106", ("device tree"); ("no RAM in it");
                ("A /memory node with a non-empty \"reg\" belongs there")));
        }
        if self.platform.cpus.is_empty() {
            return Err(
                problem!("E0107", ("/cpus"); ("no CPU in it"); ("A cpu@ node for each CPU belongs there")),
            );
        }
        Ok(self.platform)
    }
}

fn uart_kind<'a>(node: Node<'_, 'a>) -> UartKind<'a> {
    if compatible(node, &["arm,pl011"]) {
        UartKind::Pl011
    } else if compatible(node, &["brcm,bcm2835-aux-uart"]) {
        UartKind::MiniUart
    } else if compatible(node, &["ns16550a", "ns16550", "snps,dw-apb-uart"]) {
        UartKind::Ns16550
    } else {
        UartKind::Unknown(node.compatible().and_then(|c| c.all().next()).unwrap_or_default())
    }
}

fn full(place: &str, most: usize, more: &str) -> Problem {
    problem!("E0108", ("{place}"); ("more than {most} entries"); ("Mezzanine keeps account of {most} at most{more}"))
}

/// The number that a text begins with: `115200n8`.
fn leading_number(text: &str) -> Option<u32> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text.get(..digits)?.parse().ok()
}
