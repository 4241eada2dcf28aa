//! Scripted guests: the real loop over a machine whose guest is a list of exits.
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test may fail")]

use super::fake::{Fake, Step};
use super::{CpuLoop, World};
use crate::addr::{Address, GuestPhysAddr, HostRange};
use crate::exit::{Abort, Exit, SysReg, SysRegId, Trap, decode};
use crate::idregs::{IdRegs, View};
use crate::machine::{IntId, Ticks, ppi};
use crate::map::{self, GicVersion};
use crate::psci::status;
use crate::pvtime::StolenTime;
use crate::ram::{GuestRam, SharedPage};
use crate::regs::pstate;
use crate::stage2::fake::HeapPages;
use crate::stage2::{Geometry, Rights, Stage2};
use crate::sync::Mutex;
use crate::vcpu::{CpuId, El1, Vcpu, VcpuId, VmId};
use crate::vdev::pl011::Pl011;
use crate::vdev::pl061::Pl061;
use crate::vdev::vgic::{Vgic, VgicConfig};
use crate::vdev::virtio::EmptySlots;
use crate::vdev::{Bus, Region};
use crate::vm::{Parts, Reason, Vm};
use crate::vmid::Table;
use std::sync::Arc;
use std::vec::Vec;

const RAM: usize = 4 << 20;

/// What guests see of the GIC, and whether their CPU interface is emulated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gic {
    pub(super) version: GicVersion,
    pub(super) emulated: bool,
}

/// A VM with `vcpus` vCPUs and 4 MiB of RAM, of which the first 2 MiB are mapped.
fn vm(id: u16, vcpus: u16, gic: Gic) -> (Arc<Vm>, Vec<u8>) {
    vm_of(id, vcpus, gic, |_| {})
}

/// The same with vCPUs that are changed before.
pub(super) fn vm_of(id: u16, vcpus: u16, gic: Gic, mut with: impl FnMut(&mut Vcpu)) -> (Arc<Vm>, Vec<u8>) {
    let mut memory = vec![0u8; RAM + (2 << 20)];
    let start = (memory.as_mut_ptr() as u64).next_multiple_of(2 << 20);
    let chunk = HostRange::new(crate::addr::HostPhysAddr::at(start), RAM as u64).unwrap();
    // SAFETY: the vector outlives the VM in every test, and nothing else uses it.
    #[allow(unsafe_code, reason = "a test's memory for a test's guest")]
    let ram = unsafe { GuestRam::new(map::RAM_BASE, &[chunk]) };
    let mut pages = HeapPages::new();
    let geometry = Geometry { ipa_bits: 40, pa_bits: 48, vmid16: false };
    let mut stage2 = Stage2::new(geometry, &mut pages).unwrap();
    let mapped = HostRange::new(chunk.start(), 2 << 20).unwrap();
    let _ = stage2.map(map::RAM_BASE, mapped, Rights::Ram, &mut pages).unwrap();
    std::mem::forget(pages);
    let mpidrs: Vec<u64> = (0..vcpus).map(|n| map::mpidr(n, gic.version)).collect();
    let uart = Arc::new(Mutex::new(Pl011::new(4 << 10)));
    let slots = crate::addr::GuestRange::new(map::VIRTIO_BASE, 0x4000).unwrap();
    let power_key = Arc::new(Mutex::new(Pl061::new(1_000_000)));
    let bus = Bus::new(vec![
        Region::new("pl011", map::UART, None, uart.clone()),
        Region::new("pl061", map::PL061, Some(map::PL061_SPI), power_key.clone()).timed(),
        Region::new("virtio-mmio", slots, None, Arc::new(Mutex::new(EmptySlots))),
    ]);
    let vcpus = mpidrs.iter().enumerate().map(|(n, mpidr)| {
        let mut vcpu = Vcpu::new(VmId(id), VcpuId(n as u16));
        vcpu.mpidr = *mpidr;
        with(&mut vcpu);
        vcpu
    });
    let parts = Parts {
        id: VmId(id),
        name: format!("vm{id}"),
        ram,
        rom: None,
        stage2,
        stolen: StolenTime::new(SharedPage::leaked(), 1_000_000),
        bus: bus.ok().unwrap(),
        uart,
        power_key,
        vcpus: vcpus.collect(),
        vgic: Vgic::new(VgicConfig {
            version: gic.version,
            mpidrs,
            spis: 64,
            lists: 4,
            priority_bits: 5,
            emulated: gic.emulated,
        }),
        ids: IdRegs::new(&[0x11; 64], View { ipa_bits: 40, gic_system_registers: true }),
    };
    (Arc::new(Vm::new(parts)), memory)
}

/// The whole of a run: machine, VMs and their memory afterwards.
fn run(vms: &[u16], steps: Vec<Step>) -> (Fake, Vec<Arc<Vm>>) {
    run_on(Fake { steps: steps.into(), room: usize::MAX, ..Fake::default() }, vms)
}

fn run_on(fake: Fake, vms: &[u16]) -> (Fake, Vec<Arc<Vm>>) {
    run_with(fake, vms, Gic { version: GicVersion::V3, emulated: false })
}

pub(super) fn run_with(fake: Fake, vms: &[u16], gic: Gic) -> (Fake, Vec<Arc<Vm>>) {
    let (vms, memory): (Vec<_>, Vec<_>) =
        vms.iter().enumerate().map(|(id, &vcpus)| vm(id as u16, vcpus, gic)).unzip();
    let world = World::new(vms.clone(), 1, 1_000_000, Table::new(8, vms.len(), 1));
    for vm in world.vms().iter().flatten() {
        world.start(vm, 0x4020_0000, 0x4000_0000, Ticks(fake.now));
    }
    let mut cpu = CpuLoop::new(fake, &world, CpuId(0));
    cpu.watch_all();
    cpu.run();
    // The memory lives until nothing can touch it any more.
    drop(memory);
    (cpu.into_machine(), vms)
}

pub(super) fn step(f: impl FnMut(&mut Fake, &mut Vcpu) -> Exit + 'static) -> Step {
    Box::new(f)
}

/// HVC with this function; as after a real one, the PC is past it.
pub(super) fn hvc(vcpu: &mut Vcpu, function: u64, args: [u64; 3]) -> Exit {
    vcpu.regs.set_x(0, function);
    for (n, arg) in (1u8..).zip(args) {
        vcpu.regs.set_x(n, arg);
    }
    vcpu.regs.pc += 4;
    Exit::Hvc(0)
}

/// Each vCPU is told where its own record of stolen time lies; for all it is a page that only the guest's tables show.
#[test]
fn pv_time_st_names_the_callers_own_record() {
    let (_, vms) = run(
        &[1],
        vec![
            step(|_, vcpu| {
                vcpu.id = VcpuId(3);
                hvc(vcpu, 0xc500_0021, [0; 3])
            }),
            step(|_, vcpu| {
                assert_eq!(vcpu.regs.x(0), 0x090a_00c0);
                vcpu.id = VcpuId(64);
                hvc(vcpu, 0xc500_0021, [0; 3])
            }),
            step(|_, vcpu| {
                assert_eq!(vcpu.regs.x(0), u64::MAX);
                vcpu.id = VcpuId(0);
                hvc(vcpu, 0xc500_0021, [0; 3])
            }),
            step(|_, vcpu| {
                assert_eq!(vcpu.regs.x(0), map::PV_TIME.start().raw());
                hvc(vcpu, 0x8400_0008, [0; 3])
            }),
        ],
    );
    let vm = &vms[0];
    assert_eq!(vm.stage2_root, vm.stage2.lock().root());
    vm.stolen.set_ticks(VcpuId(0), Ticks(3));
    assert_eq!(vm.stolen.get(VcpuId(0)), 3_000);
}

/// A word load or store of x5 at `ipa`.
pub(super) fn mmio(ipa: u64, write: bool) -> Exit {
    let esr = 0x24 << 26 | 1 << 25 | 1 << 24 | 2 << 22 | 5 << 16 | u64::from(write) << 6 | 6;
    decode(esr, ipa, GuestPhysAddr::at(ipa))
}

pub(super) fn wfi() -> Exit {
    Exit::Wfi(Trap { esr: 1 << 26 | 1 << 25 })
}

#[test]
fn starts_as_the_boot_protocol_says_and_powers_off() {
    let (_, vms) = run(
        &[1],
        vec![step(|_, vcpu| {
            assert_eq!((vcpu.regs.pc, vcpu.regs.x(0), vcpu.regs.x(1)), (0x4020_0000, 0x4000_0000, 0));
            assert_eq!(vcpu.regs.pstate, pstate::EL1H | pstate::DAIF);
            hvc(vcpu, 0x8400_0000, [0; 3])
        })],
    );
    assert_eq!(vms[0].stopped(), Some(Reason::PoweredOff));
}

#[test]
fn calls_are_answered_and_unknown_ones_refused() {
    run(
        &[1],
        vec![
            step(|_, vcpu| hvc(vcpu, 0x8400_0000, [0; 3])),
            step(|_, vcpu| {
                assert_eq!(vcpu.regs.x(0), 0x1_0001);
                hvc(vcpu, 0x4b00_0000, [7, 8, 9])
            }),
            step(|_, vcpu| {
                assert_eq!((vcpu.regs.x(0) as i64, vcpu.regs.x(1)), (-1, 7));
                let pc = vcpu.regs.pc;
                vcpu.regs.set_x(0, 0x8400_0000);
                vcpu.regs.set_x(9, pc);
                Exit::Smc(0)
            }),
            // A trapped SMC is stepped over, an HVC has been already.
            step(|_, vcpu| {
                assert_eq!((vcpu.regs.x(0), vcpu.regs.pc), (0x1_0001, vcpu.regs.x(9) + 4));
                hvc(vcpu, 0x8400_0008, [0; 3])
            }),
        ],
    );
}

#[test]
fn what_is_written_to_the_port_comes_out_of_the_line() {
    let mut steps: Vec<Step> = Vec::new();
    for byte in b"hello" {
        steps.push(step(move |_, vcpu| {
            vcpu.regs.set_x(5, u64::from(*byte));
            mmio(map::UART.start().raw(), true)
        }));
    }
    let (machine, vms) = run(&[1], steps);
    assert_eq!(machine.output, b"hello");
    assert!(vms[0].spoke.load(std::sync::atomic::Ordering::Relaxed));
}

#[test]
fn a_full_line_loses_nothing() {
    let mut steps: Vec<Step> = Vec::new();
    for byte in 0..100u8 {
        steps.push(step(move |_, vcpu| {
            vcpu.regs.set_x(5, u64::from(byte));
            mmio(map::UART.start().raw(), true)
        }));
    }
    // Room comes back piece by piece, each with an interrupt.
    for _ in 0..10 {
        steps.push(step(|machine, _| {
            machine.room += 10;
            machine.pending.push_back(IntId::spi(1));
            Exit::Irq
        }));
    }
    let fake = Fake { steps: steps.into(), room: 3, ..Fake::default() };
    let (machine, _) = run_on(fake, &[1]);
    assert_eq!(machine.output, (0..100).collect::<Vec<u8>>());
}

#[test]
fn typed_bytes_reach_the_port() {
    let fr = map::UART.start().raw() + 0x18;
    let steps = vec![
        step(|machine, _| {
            machine.typed.extend(b"x");
            machine.pending.push_back(IntId::spi(1));
            Exit::Irq
        }),
        step(move |_, _| mmio(fr, false)),
        step(move |_, vcpu| {
            assert_eq!(vcpu.regs.x(5) & 1 << 4, 0, "RXFE is clear");
            mmio(fr - 0x18, false)
        }),
        step(|_, vcpu| {
            assert_eq!(vcpu.regs.x(5), u64::from(b'x'));
            hvc(vcpu, 0x8400_0008, [0; 3])
        }),
    ];
    run(&[1], steps);
}

#[test]
fn an_access_to_nothing_aborts_as_the_architecture_says() {
    run(
        &[1],
        vec![
            step(|_, vcpu| {
                vcpu.el1.set(El1::Vbar, 0x4021_0000);
                mmio(0x0500_0000, false)
            }),
            step(|_, vcpu| {
                assert_eq!(vcpu.regs.pc, 0x4021_0200, "current EL, SPx");
                assert_eq!(vcpu.el1.get(El1::Esr) & 0x3f, 0x10);
                assert_eq!(vcpu.el1.get(El1::Esr) >> 26, 0x25);
                assert_eq!((vcpu.el1.get(El1::Far), vcpu.el1.get(El1::Elr)), (0x0500_0000, 0x4020_0000));
                hvc(vcpu, 0x8400_0008, [0; 3])
            }),
        ],
    );
}

#[test]
fn an_abort_on_mapped_memory_is_tried_again() {
    run(
        &[1],
        vec![
            step(|_, vcpu| {
                vcpu.regs.set_x(9, vcpu.regs.pc);
                mmio(0x4000_1000, false)
            }),
            step(|_, vcpu| {
                assert_eq!(vcpu.regs.pc, vcpu.regs.x(9));
                hvc(vcpu, 0x8400_0008, [0; 3])
            }),
        ],
    );
}

#[test]
fn a_guest_whose_vector_aborts_is_stopped() {
    let abort = |ipa: u64| Abort { ipa: GuestPhysAddr::at(ipa), far: ipa, esr: 0x20 << 26 | 1 << 25 | 6 };
    let (_, vms) = run(
        &[1],
        vec![
            step(move |_, vcpu| {
                vcpu.el1.set(El1::Vbar, 0x1000_0000);
                Exit::InstructionAbort(abort(0x9000))
            }),
            step(move |_, vcpu| Exit::InstructionAbort(abort(vcpu.regs.pc))),
        ],
    );
    let Some(Reason::FaultLoop { ipa }) = vms[0].stopped() else { panic!("{:?}", vms[0].stopped()) };
    assert_eq!(ipa, GuestPhysAddr::at(0x1000_0200));
}

#[test]
fn an_unknown_exit_stops_that_vm_alone() {
    let (_, vms) = run(&[1, 1], vec![step(|_, _| Exit::Unknown(Trap { esr: 0x3f << 26 }))]);
    assert_eq!(vms[0].stopped(), Some(Reason::Unexpected { esr: 0x3f << 26 }));
    assert_eq!(vms[1].stopped(), Some(Reason::PoweredOff));
}

#[test]
fn registers_that_nothing_lists_are_undefined() {
    run(
        &[1],
        vec![
            step(|_, vcpu| {
                vcpu.el1.set(El1::Vbar, 0x4021_0000);
                Exit::SysReg(SysReg { reg: SysRegId::new(3, 4, 1, 1, 0), rt: 0, read: true })
            }),
            step(|_, vcpu| {
                assert_eq!((vcpu.regs.pc, vcpu.el1.get(El1::Esr) >> 26), (0x4021_0200, 0));
                hvc(vcpu, 0x8400_0008, [0; 3])
            }),
        ],
    );
}

#[test]
fn wfi_waits_for_the_emulated_timer_and_wakes() {
    let write = |op2, value: u64| {
        step(move |_, vcpu| {
            vcpu.regs.set_x(5, value);
            Exit::SysReg(SysReg { reg: SysRegId::new(3, 3, 14, 2, op2), rt: 5, read: false })
        })
    };
    let enable_ppi = step(|_, vcpu| {
        vcpu.regs.set_x(5, 1 << 30);
        mmio(0x080b_0100, true) // GICR_ISENABLER0 of vCPU 0
    });
    let group = step(|_, vcpu| {
        vcpu.regs.set_x(5, u64::from(u32::MAX));
        mmio(0x080b_0080, true) // GICR_IGROUPR0
    });
    let distributor = step(|_, vcpu| {
        vcpu.regs.set_x(5, 3);
        // What the guest does by itself: priority mask open, Group 1 on.
        vcpu.lists.vmcr = 0xff << 24 | 1 << 1 | 1;
        mmio(0x0800_0000, true) // GICD_CTLR
    });
    let (machine, vms) = run(
        &[1],
        vec![
            group,
            enable_ppi,
            distributor,
            write(2, 5_000), // CNTP_CVAL
            write(1, 1),     // CNTP_CTL
            step(|_, vcpu| {
                vcpu.lists.vmcr = 0xff << 24 | 1 << 1 | 1;
                wfi()
            }),
            step(|machine, vcpu| {
                assert_eq!(machine.now, 5_000);
                assert_eq!(vcpu.lists.lr[0] & 0xffff_ffff, 30, "the timer's interrupt is listed");
                hvc(vcpu, 0x8400_0008, [0; 3])
            }),
        ],
    );
    assert!(machine.idles >= 1);
    assert_eq!(vms[0].stopped(), Some(Reason::PoweredOff));
}

#[test]
fn a_second_vcpu_starts_where_it_is_told() {
    let on = |target, entry, context| move |vcpu: &mut Vcpu| hvc(vcpu, 0xc400_0003, [target, entry, context]);
    let (_, vms) = run(
        &[2],
        vec![
            step(move |_, vcpu| on(9, 0x4020_1000, 0)(vcpu)),
            step(move |_, vcpu| {
                assert_eq!(vcpu.regs.x(0), status::INVALID_PARAMETERS);
                on(1, 0x1000, 0)(vcpu)
            }),
            step(move |_, vcpu| {
                assert_eq!(vcpu.regs.x(0), status::INVALID_ADDRESS);
                on(1, 0x4020_1000, 77)(vcpu)
            }),
            step(move |_, vcpu| {
                assert_eq!(vcpu.regs.x(0), status::SUCCESS);
                on(1, 0x4020_1000, 0)(vcpu)
            }),
            step(|_, vcpu| {
                assert_eq!(vcpu.regs.x(0), status::ALREADY_ON);
                wfi()
            }),
            // The first waits: the second has its turn.
            step(|_, vcpu| {
                assert_eq!((vcpu.id, vcpu.regs.pc, vcpu.regs.x(0)), (VcpuId(1), 0x4020_1000, 77));
                hvc(vcpu, 0x8400_0008, [0; 3])
            }),
        ],
    );
    assert_eq!(vms[0].stopped(), Some(Reason::PoweredOff));
}

#[test]
fn a_vm_with_every_vcpu_off_has_stopped() {
    let (_, vms) = run(&[1], vec![step(|_, vcpu| hvc(vcpu, 0x8400_0002, [0; 3]))]);
    assert_eq!(vms[0].stopped(), Some(Reason::AllOff));
}

#[test]
fn two_vms_share_a_cpu_by_slices() {
    let spin = || {
        step(|machine: &mut Fake, _: &mut Vcpu| {
            // The guest computes until the slice ends.
            if let Some(at) = machine.deadline {
                machine.now = at.0;
                machine.pending.push_back(ppi::HYP_TIMER);
            }
            Exit::Irq
        })
    };
    let turns = Arc::new(Mutex::new(Vec::new()));
    let steps = (0..8)
        .map(|_| {
            let (turns, mut spin) = (turns.clone(), spin());
            step(move |machine, vcpu| {
                turns.lock().push(vcpu.vm.0);
                spin(machine, vcpu)
            })
        })
        .collect();
    let (machine, _) = run(&[1, 1], steps);
    assert_eq!(*turns.lock(), [0, 1, 0, 1, 0, 1, 0, 1]);
    assert!(machine.puts >= 8, "each switch writes the state back");
}

#[test]
fn a_guest_that_never_waits_is_watched() {
    // Ten seconds by this machine's counter of 1 MHz, armed before the first entry.
    run(
        &[1],
        vec![step(|machine, vcpu| {
            assert_eq!(machine.deadline, Some(Ticks(10_000_000)));
            hvc(vcpu, 0x8400_0008, [0; 3])
        })],
    );
}

#[test]
fn a_wake_by_something_else_leaves_the_emulated_timer_set() {
    let write = |op2, value: u64| {
        step(move |_, vcpu| {
            vcpu.regs.set_x(5, value);
            Exit::SysReg(SysReg { reg: SysRegId::new(3, 3, 14, 2, op2), rt: 5, read: false })
        })
    };
    run(
        &[2],
        vec![
            write(2, 5_000), // CNTP_CVAL
            write(1, 1),     // CNTP_CTL
            step(|_, vcpu| hvc(vcpu, 0xc400_0003, [1, 0x4020_1000, 0])),
            step(|_, _| wfi()),
            // The second runs while the first is parked with its timer; something wakes the first.
            step(|_, vcpu| {
                assert_eq!(vcpu.id, VcpuId(1));
                vcpu.regs.set_x(5, 1);
                Exit::SysReg(SysReg { reg: SysRegId::new(3, 0, 12, 11, 5), rt: 5, read: false })
            }),
            step(|machine, vcpu| {
                // Whoever runs now: the timer is still set, and before any slice or watchdog.
                assert!(machine.deadline.is_some_and(|at| at <= Ticks(5_000)), "{:?}", machine.deadline);
                hvc(vcpu, 0x8400_0008, [0; 3])
            }),
        ],
    );
}

#[test]
fn set_way_maintenance_flushes_the_ram_in_pieces_and_once() {
    let dc_isw = || {
        step(|_, vcpu: &mut Vcpu| {
            vcpu.regs.set_x(9, vcpu.regs.x(9) + 1);
            Exit::SysReg(SysReg { reg: SysRegId::new(1, 0, 7, 6, 2), rt: 0, read: false })
        })
    };
    let (machine, _) = run(&[1], (0..40).map(|_| dc_isw()).collect());
    let flushed: u64 = machine.published.iter().map(HostRange::size).sum();
    assert_eq!(flushed, RAM as u64);
    assert!(machine.published.iter().all(|piece| piece.size() <= 128 << 10));
}

#[test]
fn exits_are_counted_by_reason_when_asked() {
    let (vm, memory) = vm(0, 1, Gic { version: GicVersion::V3, emulated: false });
    let world = World::new(vec![vm], 1, 1_000_000, Table::new(8, 1, 1));
    world.start(world.vms()[0].as_ref().unwrap(), 0x4020_0000, 0x4000_0000, Ticks(0));
    let id = SysRegId::new(3, 0, 0, 4, 0);
    let steps = vec![
        step(|_, vcpu| hvc(vcpu, 0x8400_0000, [0; 3])),
        step(|_, _| mmio(0x0800_0004, false)),
        step(|_, _| mmio(0x0900_0018, false)),
        step(|_, _| mmio(0x0900_0018, false)),
        step(move |_, _| Exit::SysReg(SysReg { reg: id, rt: 1, read: true })),
        step(|_, _| Exit::Irq),
    ];
    let fake = Fake { steps: steps.into(), room: usize::MAX, ..Fake::default() };
    let mut cpu = CpuLoop::new(fake, &world, CpuId(0));
    cpu.count_exits();
    cpu.run();
    let counts = world.take_counts().unwrap();
    // The last exit is the power off, which the script ends with.
    for (reason, count) in
        [("PSCI", 2), ("GICD", 1), ("pl011", 2), ("ID register", 1), ("IRQ", 1), ("WFI", 0), ("no device", 0)]
    {
        assert_eq!(counts.of(0, reason), count, "{reason}: {counts:?}");
    }
    assert!(world.take_counts().is_none());
    drop(memory);
}
