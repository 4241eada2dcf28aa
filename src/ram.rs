//! Guest RAM: checked copies in and out, never a reference into it. Stub to be replaced.
use crate::addr::{GuestPhysAddr, GuestRange, HostRange};

/// An access outside of the guest's RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfRam;

/// The RAM of one VM: chunks of host memory in the order of the guest's addresses.
#[derive(Debug)]
pub struct GuestRam {}

#[allow(unused_variables, missing_docs, reason = "stub")]
impl GuestRam {
    /// RAM from `start` on, made of `chunks`.
    ///
    /// # Safety
    /// The memory is mapped at EL2 (or the test process) at its own address and nobody else uses it.
    #[allow(unsafe_code, reason = "stub")]
    pub unsafe fn new(start: GuestPhysAddr, chunks: &[HostRange]) -> Self {
        Self {}
    }
    pub fn range(&self) -> GuestRange {
        GuestRange::default()
    }
    pub fn chunks(&self) -> impl Iterator<Item = (GuestPhysAddr, HostRange)> + '_ {
        core::iter::empty()
    }
    pub fn write(&self, at: GuestPhysAddr, bytes: &[u8]) -> Result<(), OutOfRam> {
        Err(OutOfRam)
    }
    pub fn read(&self, at: GuestPhysAddr, bytes: &mut [u8]) -> Result<(), OutOfRam> {
        Err(OutOfRam)
    }
    /// Zeroes a part.
    pub fn zero(&self, range: GuestRange) -> Result<(), OutOfRam> {
        Err(OutOfRam)
    }
}
