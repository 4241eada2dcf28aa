//! Guests into a bundle: reads their files and hands them to the library's writer.

use crate::report::{Report, Reports};
use crate::spec::Spec;

/// The bundle's bytes.
pub(crate) fn pack(spec: &Spec) -> Result<Vec<u8>, Reports> {
    let mut out = Vec::new();
    for vm in &spec.vms {
        out.extend(std::fs::read(&vm.kernel).map_err(|e| Report::new("E0505", format!("{e}")))?);
    }
    Ok(out)
}
