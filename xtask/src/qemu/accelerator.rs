//! Hardware virtualization where it is real, emulation elsewhere.

use std::path::Path;

/// How QEMU runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// Hardware virtualization.
    Kvm,
    /// The CPU is emulated in software.
    Tcg,
}

impl Accelerator {
    /// KVM if the CPU's own virtualization is behind it. A `/dev/kvm` without `kvm_intel` or `kvm_amd` is a software
    /// KVM, in which ring 0 dies at the first scalar SSE instruction.
    pub fn detect() -> Self {
        Self::detect_below(Path::new("/"))
    }

    fn detect_below(root: &Path) -> Self {
        let hardware = ["kvm_intel", "kvm_amd"]
            .iter()
            .any(|module| root.join("sys/module").join(module).is_dir());
        let device = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(root.join("dev/kvm"));
        if hardware && device.is_ok() {
            Self::Kvm
        } else {
            Self::Tcg
        }
    }

    /// The value of QEMU's `-accel`.
    pub fn option(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    /// The value of QEMU's `-cpu`. An emulated CPU does without instructions for SHA-256: QEMU runs each as a function
    /// call, which takes five times as long as ordinary integer instructions for the same.
    pub fn cpu(self) -> &'static str {
        match self {
            Self::Kvm => "host",
            Self::Tcg => "max,-sha-ni",
        }
    }

    /// What people are told.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Kvm => "hardware KVM",
            Self::Tcg => {
                "software-emulated CPU (QEMU TCG: about 50 times slower than the real one)"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_software_kvm_does_not_count() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let make = |path: &str| std::fs::create_dir_all(root.path().join(path)).expect("created");
        assert_eq!(Accelerator::detect_below(root.path()), Accelerator::Tcg);
        make("dev");
        make("sys/module/kvm_pvm");
        std::fs::write(root.path().join("dev/kvm"), "").expect("written");
        assert_eq!(Accelerator::detect_below(root.path()), Accelerator::Tcg);
        make("sys/module/kvm_amd");
        assert_eq!(Accelerator::detect_below(root.path()), Accelerator::Kvm);
        std::fs::remove_file(root.path().join("dev/kvm")).expect("removed");
        assert_eq!(Accelerator::detect_below(root.path()), Accelerator::Tcg);
    }
}
