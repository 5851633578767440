//! TCB versions: the security patch levels (SPL) of what the hardware runs (AMD 56860, table `TCB_VERSION`).

use core::fmt;

/// A TCB version as a report has it: 8 bytes whose layout depends on the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawTcb(pub [u8; 8]);

/// Where the levels stand in a [`RawTcb`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcbLayout {
    /// Milan and Genoa: boot loader, TEE, four zeros, SNP, microcode.
    Milan,
    /// Turin: FMC, boot loader, TEE, SNP, three zeros, microcode.
    Turin,
}

/// One of the levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// First mutable code: Turin only.
    Fmc,
    /// The secure processor's boot loader.
    BootLoader,
    /// The secure processor's operating system.
    Tee,
    /// The SNP firmware.
    Snp,
    /// Microcode of the cores.
    Microcode,
}

impl Component {
    /// Every component.
    pub const ALL: [Self; 5] = [
        Self::Fmc,
        Self::BootLoader,
        Self::Tee,
        Self::Snp,
        Self::Microcode,
    ];

    /// The name in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fmc => "FMC",
            Self::BootLoader => "boot loader",
            Self::Tee => "TEE",
            Self::Snp => "SNP",
            Self::Microcode => "microcode",
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A TCB version, level by level. `fmc` is zero where the layout has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tcb {
    /// First mutable code.
    pub fmc: u8,
    /// Boot loader.
    pub boot_loader: u8,
    /// Secure processor's operating system.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Microcode.
    pub microcode: u8,
}

impl Tcb {
    /// Reads a raw version; `None` when a byte that the layout leaves unused is not zero.
    pub fn decode(raw: RawTcb, layout: TcbLayout) -> Option<Self> {
        let tcb = match (layout, raw.0) {
            (TcbLayout::Milan, [boot_loader, tee, 0, 0, 0, 0, snp, microcode]) => Self {
                fmc: 0,
                boot_loader,
                tee,
                snp,
                microcode,
            },
            (TcbLayout::Turin, [fmc, boot_loader, tee, snp, 0, 0, 0, microcode]) => Self {
                fmc,
                boot_loader,
                tee,
                snp,
                microcode,
            },
            _ => return None,
        };
        Some(tcb)
    }

    /// One of the levels.
    pub const fn level(&self, component: Component) -> u8 {
        match component {
            Component::Fmc => self.fmc,
            Component::BootLoader => self.boot_loader,
            Component::Tee => self.tee,
            Component::Snp => self.snp,
            Component::Microcode => self.microcode,
        }
    }

    /// Level by level the higher of the two.
    pub fn highest(self, other: Self) -> Self {
        Self {
            fmc: self.fmc.max(other.fmc),
            boot_loader: self.boot_loader.max(other.boot_loader),
            tee: self.tee.max(other.tee),
            snp: self.snp.max(other.snp),
            microcode: self.microcode.max(other.microcode),
        }
    }

    /// The first level that is below that of `floor`.
    pub fn below(&self, floor: &Self) -> Option<Component> {
        Component::ALL
            .into_iter()
            .find(|component| self.level(*component) < floor.level(*component))
    }
}

impl fmt::Display for Tcb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.fmc != 0 {
            write!(f, "FMC {:#04x}, ", self.fmc)?;
        }
        write!(
            f,
            "boot loader {:#04x}, TEE {:#04x}, SNP {:#04x}, microcode {:#04x}",
            self.boot_loader, self.tee, self.snp, self.microcode
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_of_real_reports() {
        let genoa = RawTcb([0x0a, 0, 0, 0, 0, 0, 0x17, 0x54]);
        let tcb = Tcb::decode(genoa, TcbLayout::Milan).unwrap();
        assert_eq!(
            (tcb.boot_loader, tcb.tee, tcb.snp, tcb.microcode),
            (10, 0, 23, 84)
        );
        let turin = RawTcb([0, 1, 0, 2, 0, 0, 0, 0x47]);
        let tcb = Tcb::decode(turin, TcbLayout::Turin).unwrap();
        assert_eq!(
            (tcb.fmc, tcb.boot_loader, tcb.tee, tcb.snp, tcb.microcode),
            (0, 1, 0, 2, 0x47)
        );
        assert_eq!(Tcb::decode(turin, TcbLayout::Milan), None);
        assert_eq!(
            Tcb::decode(RawTcb([0, 0, 0, 0, 1, 0, 0, 0]), TcbLayout::Turin),
            None
        );
    }

    #[test]
    fn the_first_level_below_a_floor() {
        let floor = Tcb {
            snp: 4,
            microcode: 0x51,
            ..Tcb::default()
        };
        assert_eq!(floor.below(&floor), None);
        assert_eq!(Tcb { snp: 9, ..floor }.below(&floor), None);
        assert_eq!(
            Tcb {
                snp: 3,
                microcode: 0,
                ..floor
            }
            .below(&floor),
            Some(Component::Snp)
        );
    }
}
