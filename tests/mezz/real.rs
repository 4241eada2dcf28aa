//! The real QEMU, with a few instructions in Mezzanine's place.

use super::*;

/// An Image that says `ready`, waits for a `q` from the PL011, prints Mezzanine's last line, and switches off.
fn image() -> Vec<u8> {
    let texts = b"ready\r\n\0[mz    0.000001] halt: ok\r\n\0";
    let print = |text: u32, at: u32| {
        // adr x1, text; ldrb w0, [x1], #1; cbz w0, past; str w0, [x2]; b ldrb
        let distance = text - at;
        let adr = 0x1000_0001 | (distance & 3) << 29 | (distance >> 2) << 5;
        [adr, 0x3840_1420, 0x3400_0060, 0xb900_0040, 0x17ff_fffd]
    };
    let (first, second, text) = (64 + 12, 64 + 12 + 40, 64 + 12 + 40 + 20 + 12);
    let mut code: Vec<u32> = vec![
        0xd2a1_2002, // mov x2, #0x9000000
        0x5280_6020, // mov w0, #0x301
        0xb900_3040, // str w0, [x2, #0x30]: UARTCR
    ];
    code.extend(print(text, first));
    code.extend([
        0xb940_1840, // ldr w0, [x2, #0x18]: UARTFR
        0x3727_ffe0, // tbnz w0, #4, ldr: nothing received
        0xb940_0040, // ldr w0, [x2]
        0x7101_c41f, // cmp w0, #'q'
        0x54ff_ff81, // b.ne first ldr
    ]);
    code.extend(print(text + 8, second));
    code.extend([0x52b0_8000, 0x7280_0100, 0xd400_0003]); // mov w0, #0x84000008; smc #0: PSCI SYSTEM_OFF
    let mut image = vec![0; 64];
    image[..4].copy_from_slice(&0x1400_0010_u32.to_le_bytes()); // b 64
    image[16..24].copy_from_slice(&0x1000_u64.to_le_bytes());
    image[56..60].copy_from_slice(b"ARM\x64");
    image.extend(code.iter().flat_map(|word| word.to_le_bytes()));
    image.extend(texts);
    image
}

fn run(bench: &Bench, args: &[&str], input: &[u8]) -> Done {
    bench.file("target/mezzanine.img", image());
    let mut command =
        bench.command(&["run", "--kernel", "Image", "--initrd", "initrd.gz", "--timeout", "300"]);
    command.args(args).env("MEZZ_QEMU", "qemu-system-aarch64");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    Done::of(child.wait_with_output().unwrap())
}

#[test]
fn it_takes_the_command_line_the_bundle_and_the_keys() {
    if !have("qemu-system-aarch64") {
        return;
    }
    for args in [
        &["--cpus", "2", "--options", "loglevel=debug"][..],
        &["--modules", "--cmdline", "console=ttyAMA0 a=1,2", "--cpu", "max"],
    ] {
        let done = run(&Bench::new(), args, b"no\x03q").status(0);
        assert!(done.out.contains("ready\r\n[mz    0.000001] halt: ok\r\n"), "{done:?}");
    }
}

#[test]
fn it_may_be_left() {
    if !have("qemu-system-aarch64") {
        return;
    }
    run(&Bench::new(), &[], b"\x01x").status(1).says(&["left before"]);
}

#[test]
fn what_it_refuses_is_a_failure() {
    if !have("qemu-system-aarch64") {
        return;
    }
    run(&Bench::new(), &["--cpu", "no-such-cpu"], b"")
        .status(1)
        .says(&["no-such-cpu", "without Mezzanine's last"]);
}
