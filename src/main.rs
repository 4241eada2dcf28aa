//! The image: allocator, log, panic handler, and boot as ten named steps.
//!
//! On a host this is a stub: the image only exists for the bare target.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("mezzanine is the image and runs bare at EL2: `make image` builds it, `mezz run` starts it");
    std::process::exit(2);
}

#[cfg(target_os = "none")]
mod image {
    #![allow(unsafe_code, reason = "the allocator and the entry point; each block argues for itself")]

    extern crate alloc;

    use alloc::boxed::Box;
    use alloc::vec::Vec;
    use buddy_system_allocator::Heap;
    use core::alloc::{GlobalAlloc, Layout};
    use core::cell::UnsafeCell;
    use core::fmt;
    use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use mezzanine::addr::{Address, BLOCK_2M, HostPhysAddr, HostRange, PAGE_SIZE};
    use mezzanine::arch::{self, setup, smp};
    use mezzanine::board;
    use mezzanine::config::{self, HostFacts, Options, VmConfig};
    use mezzanine::console;
    use mezzanine::cpus::{self, Common, CpuFacts};
    use mezzanine::create::{Host, Maker, VgicHost};
    use mezzanine::fdt::{self, CpuStatus, Gic, Platform};
    use mezzanine::map::GicVersion;
    use mezzanine::memory::Memory;
    use mezzanine::problem;
    use mezzanine::problem::Problem;
    use mezzanine::ram::FreeRam;
    use mezzanine::run::{CpuLoop, LastWords, World};
    use mezzanine::sync::Mutex;
    use mezzanine::vcpu::CpuId;
    use mezzanine::vmid;

    /// Bytes of heap before any VM; each VM adds [`HEAP_PER_VM`].
    const HEAP_FIRST: usize = 512 << 10;
    /// Bytes of heap that a VM needs: half of it is its console's ring, which takes a block of its own.
    const HEAP_PER_VM: u64 = 128 << 10;
    /// vCPUs of all VMs together for which [`HEAP_FIRST`] is enough; each further one adds a page.
    const FIRST_VCPUS: u64 = 64;

    /// Bytes of a console's ring that [`HEAP_PER_VM`] is meant for.
    const RING: u64 = config::DEFAULT_CONSOLE_LOG as u64;
    /// Bytes that each CPU's queue and timers keep free for a vCPU, and for a VM's devices, with what the allocator
    /// rounds up.
    const PLACES_PER_VCPU: u64 = 160;
    const PLACES_PER_VM: u64 = 320;

    /// Bytes of RAM that the heap may have besides, all of them or none, while configurations are read: enough for as
    /// many VMs and files as are read, each with texts as long as they are read.
    const HEAP_READING: u64 = 2 * BLOCK_2M;

    /// The heap: the buddy allocator behind our lock, and a stack of blocks until it starts.
    struct Allocator {
        heap: Mutex<Heap<32>>,
        /// What the heap gets once it is exhausted.
        spare: Mutex<Option<HostRange>>,
        started: AtomicBool,
        early: UnsafeCell<[u64; EARLY / 8]>,
        /// Bytes of `early` that are in use.
        early_used: AtomicUsize,
    }

    /// Bytes for what is allocated before the heap starts: problems, a few of them at a time.
    const EARLY: usize = 8 << 10;

    #[global_allocator]
    static HEAP: Allocator = Allocator {
        heap: Mutex::new(Heap::empty()),
        spare: Mutex::new(None),
        started: AtomicBool::new(false),
        early: UnsafeCell::new([0; EARLY / 8]),
        early_used: AtomicUsize::new(0),
    };

    // SAFETY: `heap` has its lock; `early` is given out by one CPU only, before any other runs.
    unsafe impl Sync for Allocator {}

    impl Allocator {
        /// A block before the heap starts. No lock: with the MMU off there are no exclusive accesses.
        #[cold]
        fn early(&self, layout: Layout) -> *mut u8 {
            let start = self.early_used.load(Ordering::Relaxed);
            let end = start.saturating_add(layout.size().next_multiple_of(8));
            if layout.align() > 8 || end > EARLY {
                return core::ptr::null_mut();
            }
            self.early_used.store(end, Ordering::Relaxed);
            self.early.get().cast::<u8>().wrapping_add(start)
        }

        /// Takes an early block back if it is the last one. Whether it was early at all.
        fn free_early(&self, at: *mut u8, layout: Layout) -> bool {
            let start = (at as usize).wrapping_sub(self.early.get() as usize);
            if start >= EARLY {
                return false;
            }
            if start + layout.size().next_multiple_of(8) == self.early_used.load(Ordering::Relaxed) {
                self.early_used.store(start, Ordering::Relaxed);
            }
            true
        }
    }

    // SAFETY: the lock serialises all calls once there is more than one CPU to make them, the buddy allocator keeps
    // GlobalAlloc's contract, and early blocks lie apart, aligned to 8.
    unsafe impl GlobalAlloc for Allocator {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            if !self.started.load(Ordering::Relaxed) {
                return self.early(layout);
            }
            let mut heap = self.heap.lock();
            let mut block = heap.alloc(layout);
            if block.is_err()
                && let Some(range) = self.spare.lock().take()
            {
                add_to(&mut heap, range);
                block = heap.alloc(layout);
            }
            block.map_or(core::ptr::null_mut(), |p| p.as_ptr())
        }

        unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
            if let Some(free) = core::ptr::NonNull::new(at)
                && !self.free_early(at, layout)
            {
                // SAFETY: the caller says that `at` came from `alloc` with this layout, and it is not an early one.
                unsafe { self.heap.lock().dealloc(free, layout) };
            }
        }
    }

    #[repr(C, align(4096))]
    struct FirstHeap(UnsafeCell<[u8; HEAP_FIRST]>);
    // SAFETY: only the allocator uses it, under its lock.
    unsafe impl Sync for FirstHeap {}
    static FIRST_HEAP: FirstHeap = FirstHeap(UnsafeCell::new([0; HEAP_FIRST]));

    /// Own lines: straight to the port during boot, to the console's ring once guests run.
    struct Log;
    static LOG: Log = Log;
    static GUESTS_RUN: AtomicBool = AtomicBool::new(false);

    impl log::Log for Log {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &log::Record<'_>) {
            // No heap: it would cost more than the line does.
            let mut line = console::Line::new();
            let _ = fmt::Write::write_fmt(&mut line, format_args!("{} {}", setup::Stamp, record.args()));
            let line = line.ended();
            if GUESTS_RUN.load(Ordering::Relaxed) {
                console::log_line(line);
            } else {
                setup::print(line);
                console::log_past(line);
            }
        }

        fn flush(&self) {}
    }

    #[panic_handler]
    fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
        match info.location() {
            Some(at) => arch::stop_with(format_args!("{} ({}:{})", info.message(), at.file(), at.line())),
            None => arch::stop_with(format_args!("{}", info.message())),
        }
    }

    /// From `boot.s`: one CPU, MMU off, a stack, .bss zero, relocated.
    #[unsafe(no_mangle)]
    extern "C" fn mezzanine_boot(x0: u64, _image: u64, el: u64) -> ! {
        if el >= 2 {
            setup::init_cpu();
        }
        // SAFETY: the boot CPU calls it once, with the MMU off.
        let tree = unsafe { setup::tree(x0) };
        let Some(tree) = tree else {
            let problem = problem!("E0101", ("device tree"); ("there is none at x0 = {x0:#x}");
                ("The boot loader passes its address in x0, as booting.rst says"));
            setup::open_fallback(board::guess(&[]));
            refuse(&problem);
        };
        fdt::squeeze(tree);
        setup::forget_lines(tree);
        let tree: &'static [u8] = tree;
        let platform = match Platform::read(tree) {
            Ok(platform) => platform,
            Err(problem) => {
                // No tree, no console that it names: the one that the board is known to have.
                setup::open_fallback(board::guess(tree));
                refuse(&problem);
            }
        };
        setup::open_console(&platform);
        if el < 2 {
            setup::print(
                "mezzanine: started at EL1, below the hypervisor's level EL2. On QEMU, add virtualization=on.\r\n",
            );
            setup::give_up();
        }
        match boot(tree, &platform) {
            Ok(never) => match never {},
            Err(problem) => refuse(&problem),
        }
    }

    /// Says what is wrong, and ends without having started anything.
    fn refuse(problem: &Problem) -> ! {
        early_line(format_args!("{problem}"));
        early_line(format_args!("halt: failed: {}", problem.code));
        setup::give_up();
    }

    /// A line without the heap: boot can fail before there is one.
    fn early_line(text: core::fmt::Arguments<'_>) {
        let line = problem::Text::<512>::from_args(format_args!("{} {text}\r\n", setup::Stamp));
        setup::print(line.as_str());
    }

    /// Boot, from the tree to the guests.
    fn boot(tree: &'static [u8], platform: &Platform<'static>) -> Result<core::convert::Infallible, Problem> {
        early_line(format_args!("Mezzanine {} at EL2", env!("CARGO_PKG_VERSION")));
        in_ram(platform, "image", arch::image())?;
        in_ram(platform, "device tree", tree_range(tree))?;
        // 1. Translation and caches, before the first lock.
        setup::enable_mmu(platform)?;
        // 2. The heap and the log.
        start_heap();
        let options = Options::parse(platform.bootargs)?;
        let _ = log::set_logger(&LOG);
        log::set_max_level(options.loglevel.unwrap_or(log::LevelFilter::Info));
        // 3. Who we are, and on what.
        banner(platform);
        // 4. The CPU's interrupt controller, timers and console.
        let mut cpu = setup::cpu(platform)?;
        let vgic = cpu.vgic_host(platform, options.emulated_vgic);
        log::info!("gic: {}", GicWords(&vgic));
        // 5. Memory: what is left of it.
        let mut memory = free_memory(tree, platform, &config::domain_modules(platform)?);
        let running = smp::start(platform, &mut cpu, &mut memory);
        log::info!("memory: {} MiB free for guests", memory.free() >> 20);
        // 6. The guests that we were given.
        let facts =
            HostFacts { cpus: running.len() as u16, memory: config::for_guests(&memory), gic: vgic.version };
        let spare = add_spare(&mut memory)?;
        let machine_config = config::read(platform, &|range| module_bytes(platform, tree, range), &facts)?;
        machine_config.warnings.iter().for_each(|warning| log::warn!("{warning}"));
        log::info!("config: {} VM(s)", machine_config.vms.len());
        // 7. Room for what each VM keeps at EL2, once the RAM that was chosen for VMs is out of the way.
        settle_spare(&mut memory, spare);
        config::set_aside(&machine_config.vms, &mut memory)?;
        let heap = grow_heap(&mut memory, &machine_config.vms, running.len())?;
        // 8. Each VM: memory, tables, devices, kernel.
        let places = config::place(&machine_config.vms, running.len() as u16)?;
        let dedicated = dedicated_cpus(&machine_config.vms, &places);
        let host = host(vgic, platform, &cpus::common(&running), &running);
        let vmid_bits = if host.vmid16 { 16 } else { 8 };
        // SAFETY: what `free_memory` left is RAM that step 1 mapped, and nobody's but the maker's from here on.
        let mut maker = Maker::new(&mut cpu, unsafe { FreeRam::new(memory) }, heap, host);
        let mut made = Vec::new();
        for (vm, place) in machine_config.vms.iter().zip(&places) {
            made.push(maker.make(vm, place)?);
        }
        maker.report(arch::image().size() + smp::stack_bytes(running.len()));
        // 9. The world that all CPUs share. It lives as long as the machine.
        let starts: Vec<_> = made.iter().map(|made| made.start).collect();
        let vms: Vec<_> = made.into_iter().map(|made| made.vm).collect();
        let vmids = vmid::Table::new(vmid_bits, vms.len(), running.len());
        let world: &'static World =
            Box::leak(Box::new(World::new(vms, running.len(), setup::frequency(), vmids)));
        for (vm, start) in world.vms().iter().flatten().zip(starts) {
            world.start(vm, start.entry, start.x0, setup::now());
            log::info!("vm {}: running", vm.name);
        }
        if let Some(text) = world.console.greeting(&world.vms()) {
            log::info!("{text}");
        }
        // 10. Guests, on every CPU, until the last has stopped.
        // What is nobody's in particular is done by a CPU that is not one vCPU's alone, if there is one.
        let chores = CpuId((0..running.len() as u16).find(|cpu| dedicated >> cpu & 1 == 0).unwrap_or(0));
        cpu.route_console(chores);
        GUESTS_RUN.store(true, Ordering::Relaxed);
        let trace = options.trace_exits;
        smp::release(&cpu, Box::leak(Box::new(move |cpu| drop(run_guests(cpu, world, chores, trace)))));
        let cpu = run_guests(cpu, world, chores, trace);
        GUESTS_RUN.store(false, Ordering::Relaxed);
        finish(cpu, world)
    }

    /// One CPU's loop, from its first guest to the last.
    fn run_guests(cpu: arch::Cpu, world: &'static World, chores: CpuId, trace: bool) -> arch::Cpu {
        let id = cpu.id();
        let mut cpu_loop = CpuLoop::new(cpu, world, id);
        if trace {
            cpu_loop.count_exits();
        }
        if id == chores {
            cpu_loop.watch_all();
        }
        cpu_loop.run();
        cpu_loop.into_machine()
    }

    /// What there is for guests' interrupt controllers, in words.
    struct GicWords<'a>(&'a VgicHost);

    impl fmt::Display for GicWords<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let VgicHost { version, lists, priority_bits, gicv, emulated } = *self.0;
            write!(f, "{lists} list registers, {priority_bits} priority bits")?;
            match (version, gicv) {
                _ if emulated => f.write_str("; not used, guests' CPU interfaces are emulated"),
                (GicVersion::V2, None) => {
                    f.write_str("; no GICV of whole pages, guests' CPU interfaces are emulated")
                }
                _ => Ok(()),
            }
        }
    }

    /// The CPUs that are each one vCPU's alone.
    fn dedicated_cpus(vms: &[VmConfig<'_>], places: &[Vec<u64>]) -> u64 {
        let dedicated = vms.iter().zip(places).filter(|(vm, _)| vm.dedicated);
        dedicated.flat_map(|(_, place)| place).fold(0, |all, cpu| all | cpu)
    }

    /// What the machine has for guests, whichever CPU they run on.
    fn host(vgic: VgicHost, platform: &Platform<'_>, all: &Common, cpus: &[CpuFacts]) -> Host {
        Host {
            vgic: VgicHost { lists: all.lists, priority_bits: all.priority_bits, ..vgic },
            pa_bits: all.pa_bits,
            vmid16: all.vmid16,
            ids: all.ids,
            midrs: cpus.iter().map(|cpu| cpu.midr).collect(),
            hcr: setup::guest_hcr(),
            wall_clock: setup::wall_clock(platform),
            boot: setup::now(),
        }
    }

    fn start_heap() {
        // SAFETY: the memory is the allocator's alone from here on.
        unsafe { HEAP.heap.lock().init(FIRST_HEAP.0.get() as usize, HEAP_FIRST) };
        HEAP.started.store(true, Ordering::Relaxed);
    }

    /// Adds heap for the VMs on so many CPUs; how many bytes.
    fn grow_heap(memory: &mut Memory, vms: &[VmConfig<'_>], cpus: usize) -> Result<u64, Problem> {
        let vcpus: u64 = vms.iter().map(|vm| u64::from(vm.vcpus)).sum();
        let mut all = 0;
        let mut add = |bytes: u64, align| {
            all += bytes;
            if bytes == 0 { Ok(()) } else { add_heap(memory, bytes, align) }
        };
        for vm in vms {
            // Aligned to its size, or the buddy allocator would split it.
            add(HEAP_PER_VM, HEAP_PER_VM)?;
            // A ring that does not fit into that is a block of its own.
            let ring = u64::from(vm.console_log_bytes());
            add(if ring > RING { ring } else { 0 }, ring)?;
        }
        add(vcpus.saturating_sub(FIRST_VCPUS) * PAGE_SIZE, PAGE_SIZE)?;
        let places = vcpus * PLACES_PER_VCPU + vms.len() as u64 * PLACES_PER_VM;
        add((places * cpus as u64).next_multiple_of(PAGE_SIZE), PAGE_SIZE)?;
        Ok(all)
    }

    fn add_heap(memory: &mut Memory, bytes: u64, align: u64) -> Result<(), Problem> {
        let range = memory.take(bytes, align).ok_or_else(|| no_room(bytes))?;
        add_to(&mut HEAP.heap.lock(), range);
        Ok(())
    }

    /// Adds memory that was free, for good. Out of line: it is rare, and called in three places.
    #[cold]
    #[inline(never)]
    fn add_to(heap: &mut Heap<32>, range: HostRange) {
        // SAFETY: `Memory` gave the range out, so it is mapped, and it is the allocator's alone from here on.
        unsafe { heap.add_to_heap(range.start().raw() as usize, range.end().raw() as usize) };
    }

    /// Has the heap take [`HEAP_READING`] if what it has does not do.
    fn add_spare(memory: &mut Memory) -> Result<HostRange, Problem> {
        let range = memory.take(HEAP_READING, PAGE_SIZE).ok_or_else(|| no_room(HEAP_READING))?;
        *HEAP.spare.lock() = Some(range);
        Ok(range)
    }

    /// Gives it back, unless it is in use or the VMs' configurations left too little of the rest for the VMs.
    fn settle_spare(memory: &mut Memory, range: HostRange) {
        let mut heap = HEAP.heap.lock();
        if HEAP.spare.lock().take().is_none() {
            return;
        }
        if heap.stats_alloc_actual() > HEAP_FIRST / 4 {
            add_to(&mut heap, range);
            return;
        }
        drop(heap);
        memory.add(range);
    }

    #[cold]
    fn no_room(bytes: u64) -> Problem {
        problem!("E0134", ("memory"); ("no {} KiB in one piece for the hypervisor", bytes >> 10); ("Give the machine more RAM"))
    }

    fn banner(platform: &Platform<'_>) {
        let on = platform.cpus.iter().filter(|cpu| cpu.status == CpuStatus::Okay).count();
        let ram: u64 = platform.ram.iter().map(|bank| bank.size()).sum();
        let gic = match &platform.gic {
            Gic::V3 { .. } => "GICv3",
            Gic::V2 { .. } => "GICv2",
            Gic::None => "no GIC",
        };
        log::info!(
            "board: {} ({}), {on} CPU(s) of {}, {} MiB RAM, {gic}",
            platform.model,
            platform.compatible().next().unwrap_or("?"),
            platform.cpus.len() + platform.cpus_left_out,
            ram >> 20
        );
        log::info!("cpu: MIDR {:#x}, EL2 with {}", setup::midr(), setup::Features);
        log::info!("image at {}", arch::image());
    }

    /// RAM less what is taken: by the firmware, the image, the tree and the modules.
    fn free_memory(tree: &'static [u8], platform: &Platform<'_>, modules: &[HostRange]) -> Memory {
        let mut memory = Memory::new();
        for piece in platform.usable(&[arch::image(), tree_range(tree)]) {
            memory.add(piece);
        }
        for module in modules {
            memory.reserve(module.align_out(PAGE_SIZE));
        }
        memory
    }

    /// A boot module's bytes, if all of it is RAM and nobody else's.
    fn module_bytes(platform: &Platform<'_>, tree: &[u8], range: HostRange) -> Option<&'static [u8]> {
        let mapped = platform.is_mapped(range);
        let ours = range.overlaps(&arch::image()) || range.overlaps(&tree_range(tree));
        // SAFETY: RAM that step 1 mapped, and neither image nor tree; `free_memory` has taken out all modules,
        // so nobody writes to it.
        (mapped && !ours).then(|| unsafe { setup::bytes(range) })
    }

    /// What we stand on must be part of the RAM that the tree describes.
    fn in_ram(platform: &Platform<'_>, what: &str, range: HostRange) -> Result<(), Problem> {
        if platform.is_mapped(range) {
            return Ok(());
        }
        Err(
            problem!("E0135", ("/memory reg"); ("the {what} at {range} lies outside of the RAM that the tree describes");
            ("Describe all RAM, and reserve with no-map only what nobody touches")),
        )
    }

    /// Where the tree lies.
    fn tree_range(tree: &[u8]) -> HostRange {
        HostRange::between(
            HostPhysAddr::at(tree.as_ptr() as u64),
            HostPhysAddr::at(tree.as_ptr_range().end as u64),
        )
    }

    /// Everything has stopped: what is left goes out, then the machine off.
    fn finish(mut cpu: arch::Cpu, world: &World) -> ! {
        // The others have nothing to do but to notice. One that does not is not waited for.
        let patience = setup::now().0 + setup::frequency();
        while world.others_run() && setup::now().0 < patience {
            arch::relax();
        }
        world.console.flush(&mut LastWords(&mut cpu), &world.vms());
        if let Some(counts) = world.take_counts() {
            counts.report(&world.vms());
        }
        match world.failed() {
            None => log::info!("halt: ok"),
            Some((vm, reason)) => log::error!("halt: failed: vm {}: {}", vm.name, reason.as_str()),
        }
        cpu.off()
    }
}
