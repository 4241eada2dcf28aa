//! What a device tree cannot say of a board, and what to fall back on when there is no tree to read.
//!
//! A board is one const under `boards/NAME/board.rs` and one row here; everything else comes from its tree.

use crate::addr::HostPhysAddr;
use crate::fdt::Conduit;

#[path = "../boards/qemu-virt/board.rs"]
mod qemu_virt;

/// A board.
#[derive(Debug)]
pub struct Board {
    /// Its folder under `boards/`.
    pub name: &'static str,
    /// A name in the `compatible` of its tree's root.
    pub compatible: &'static str,
    /// A PL011 that works as the firmware left it: where to complain about a tree that names no console.
    pub early_pl011: Option<HostPhysAddr>,
    /// How its firmware is called, where it answers PSCI.
    pub conduit: Option<Conduit>,
}

/// All boards. The first is the one that a machine without a readable tree is taken for.
pub const BOARDS: &[Board] = &[qemu_virt::BOARD];

/// The board whose name appears somewhere in what should have been its tree, or else the first.
pub fn guess(tree: &[u8]) -> Option<&'static Board> {
    let mentions = |board: &&Board| {
        let name = board.compatible.as_bytes();
        tree.windows(name.len()).any(|window| window == name)
    };
    BOARDS.iter().find(mentions).or(BOARDS.first())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boards_can_be_told_apart() {
        for (n, board) in BOARDS.iter().enumerate() {
            assert!(!board.name.is_empty() && !board.compatible.is_empty());
            assert!(BOARDS[n + 1..].iter().all(|other| other.name != board.name));
            assert!(BOARDS[n + 1..].iter().all(|other| other.compatible != board.compatible));
        }
    }

    #[test]
    fn a_damaged_tree_still_names_its_board() {
        assert_eq!(guess(b"..linux,dummy-virt..").unwrap().name, "qemu-virt");
        assert_eq!(guess(b"").unwrap().name, BOARDS[0].name);
    }
}
