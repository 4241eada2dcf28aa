//! The plugin's reasons in the words of the manuals.

/// Pages of the guest's machine; the longest prefix that fits comes first.
const PAGES: [(&str, &str); 9] = [
    ("0x80a", "GICR"),
    ("0x80b", "GICR"),
    ("0x808", "ITS"),
    ("0x800", "GICD"),
    ("0x801", "GICC"),
    ("0x900", "PL011"),
    ("0x901", "PL031"),
    ("0x903", "PL061"),
    ("0xa00", "virtio-mmio"),
];

/// Redistributors, after the first one's: 128 KiB for each vCPU.
fn is_redistributor(address: &str) -> bool {
    let address = address.trim_start_matches("0x");
    u64::from_str_radix(address, 16).is_ok_and(|address| (0x80a_0000..0x8ff_0000).contains(&address))
}

/// Registers that a kernel is seen to touch.
const REGISTERS: [(&str, &str); 18] = [
    ("S1_0_C7_C14_2", "DC CISW"),
    ("S1_0_C7_C10_2", "DC CSW"),
    ("S3_0_C12_C11_5", "ICC_SGI1R_EL1"),
    ("S3_0_C12_C11_6", "ICC_ASGI1R_EL1"),
    ("S3_0_C12_C12_5", "ICC_SRE_EL1"),
    ("S3_0_C12_C11_1", "ICC_DIR_EL1"),
    ("S3_3_C0_C0_1", "CTR_EL0"),
    ("S3_1_C0_C0_0", "CCSIDR_EL1"),
    ("S3_1_C0_C0_1", "CLIDR_EL1"),
    ("S3_2_C0_C0_0", "CSSELR_EL1"),
    ("S3_0_C1_C0_1", "ACTLR_EL1"),
    ("S2_0_C0_C2_2", "MDSCR_EL1"),
    ("S2_0_C1_C0_4", "OSLAR_EL1"),
    ("S2_0_C1_C3_4", "OSDLR_EL1"),
    ("S3_3_C14_C2_1", "CNTP_CTL_EL0"),
    ("S3_3_C14_C2_2", "CNTP_CVAL_EL0"),
    ("S3_3_C14_C0_1", "CNTPCT_EL0"),
    ("S3_3_C9_C12_0", "PMCR_EL0"),
];

/// Functions of HVC and SMC.
const CALLS: [(&str, &str); 16] = [
    ("0x80000000", "SMCCC_VERSION"),
    ("0x80000001", "SMCCC_ARCH_FEATURES"),
    ("0x84000000", "PSCI_VERSION"),
    ("0xc4000001", "CPU_SUSPEND"),
    ("0x84000002", "CPU_OFF"),
    ("0xc4000003", "CPU_ON"),
    ("0xc4000004", "AFFINITY_INFO"),
    ("0x84000006", "MIGRATE_INFO_TYPE"),
    ("0x84000008", "SYSTEM_OFF"),
    ("0x84000009", "SYSTEM_RESET"),
    ("0x8400000a", "PSCI_FEATURES"),
    ("0x84000050", "TRNG_VERSION"),
    ("0x84000051", "TRNG_FEATURES"),
    ("0x84000052", "TRNG_GET_UUID"),
    ("0xc4000053", "TRNG_RND64"),
    ("0x8600ff01", "vendor UID"),
];

fn register(code: &str) -> Option<String> {
    if let Some((_, name)) = REGISTERS.iter().find(|(known, _)| *known == code) {
        return Some((*name).into());
    }
    // op0 = 3, op1 = 0, CRn = 0, CRm = 1 to 7: identification.
    let rest = code.strip_prefix("S3_0_C0_C")?;
    let (row, _) = rest.split_once('_')?;
    (1..=7).contains(&row.parse::<u32>().ok()?).then(|| "ID registers".into())
}

/// A reason as people say it; an unknown one stays as it is.
pub(crate) fn nice(reason: &str) -> String {
    let words: Vec<&str> = reason.split(' ').collect();
    match words.as_slice() {
        [way @ ("read" | "write"), address, rest @ ..] => {
            let address = address.trim_end_matches(',');
            let device = if address.len() == 9 {
                PAGES.iter().find(|(page, _)| address.starts_with(page))
            } else {
                None
            };
            match device {
                Some((_, name)) if rest.is_empty() => format!("{name} {way}"),
                Some((_, name)) => format!("{name} {way}, {}", rest.join(" ")),
                None if is_redistributor(address) => {
                    let rest = if rest.is_empty() { String::new() } else { format!(", {}", rest.join(" ")) };
                    format!("GICR {way}{rest}")
                }
                None => reason.into(),
            }
        }
        [way @ ("MRS" | "MSR"), code] => {
            register(code).map_or_else(|| reason.into(), |name| format!("{way} {name}"))
        }
        [way @ ("HVC" | "SMC"), _, code] => {
            let name = CALLS.iter().find(|(known, _)| known == code);
            name.map_or_else(|| reason.into(), |(_, name)| format!("{way} {name}"))
        }
        _ => reason.into(),
    }
}
