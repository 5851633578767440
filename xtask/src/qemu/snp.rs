//! Guests on real SEV-SNP machines: what QEMU is told, and what the host must have. `docs/launch.md` explains it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use cloister_measure::CpuModel;
use cloister_protocol::evidence::MAX_ENCLOSURE_BYTES;

use super::{GuestOptions, Qemu};

/// The guest's policy unless another is asked for: SMT is allowed, bit 17 is always one; neither debugging nor
/// migration.
pub const DEFAULT_POLICY: u64 = 0x3_0000;

/// The first version of QEMU that knows SEV-SNP.
const QEMU_VERSION: (u32, u32) = (9, 1);

/// What is particular to a launch with SEV-SNP. Of all this only the CPU model is measured.
#[derive(Clone, Debug)]
pub struct SnpLaunch {
    /// The CPU model.
    pub cpu: CpuModel,
    /// The guest's policy.
    pub policy: u64,
    /// 32 bytes in base64, which reports repeat.
    pub host_data: Option<String>,
    /// ID block and ID auth in base64.
    pub id_block: Option<[String; 2]>,
}

/// A host on which no such guest can be launched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnpHostError {
    /// The module of KVM for AMD is not there, or too old to know of SEV-SNP.
    #[error(
        "{path} is not there: SEV-SNP needs an AMD EPYC processor, Linux 6.11 or newer with CONFIG_KVM_AMD_SEV, and the \
         module kvm_amd"
    )]
    NoKvmAmd {
        /// What was looked for.
        path: PathBuf,
    },
    /// KVM does not offer SEV-SNP.
    #[error(
        "{path} says {found:?}, so KVM has no SEV-SNP: check the BIOS (SMEE, SNP support, RMP table, ASIDs for SEV-ES, \
         IOMMU), that the kernel's command line has no iommu=pt, and `dmesg | grep -i -e sev -e ccp`"
    )]
    Off {
        /// What was read.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// A device is not there or may not be used.
    #[error(
        "{path}: {source}; QEMU needs to read and write it: check the modules kvm_amd and ccp, and your groups"
    )]
    Device {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Nothing says which CPU model suits the processor.
    #[error(
        "{0} names no EPYC processor with SEV-SNP; name the CPU model, for instance --cpu EPYC-Genoa"
    )]
    UnknownCpu(PathBuf),
    /// QEMU is too old.
    #[error("QEMU {0} does not know SEV-SNP; it takes 9.1 or newer")]
    OldQemu(String),
    /// The file of certificates cannot be used.
    #[error("{path}: {reason}")]
    Certificates {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl SnpLaunch {
    /// The machine, without the devices that every guest has.
    pub(super) fn machine(&self, options: &GuestOptions) -> Vec<OsString> {
        let memory_mib = options.memory_mib;
        let machine =
            "q35,smm=off,kernel-irqchip=split,confidential-guest-support=sev0,memory-backend=ram0";
        let memory =
            format!("memory-backend-memfd,id=ram0,size={memory_mib}M,share=on,prealloc=off");
        let options: [(&str, OsString); 11] = [
            ("-accel", "kvm".into()),
            ("-cpu", self.cpu.to_string().into()),
            ("-smp", options.cpus.to_string().into()),
            ("-m", format!("{memory_mib}M").into()),
            ("-machine", machine.into()),
            ("-object", memory.into()),
            ("-object", self.object().into()),
            ("-bios", options.rom.clone().into()),
            ("-display", "none".into()),
            ("-serial", "stdio".into()),
            ("-monitor", "none".into()),
        ];
        let words = options
            .into_iter()
            .flat_map(|(name, value)| [name.into(), value]);
        words
            .chain(["-no-reboot".into(), "-nodefaults".into()])
            .collect()
    }

    fn object(&self) -> String {
        // The C-bit is at the same place on all products with SEV-SNP, and the guest tries it out.
        let mut object = format!(
            "sev-snp-guest,id=sev0,cbitpos=51,reduced-phys-bits=1,policy={:#x},kernel-hashes=off",
            self.policy
        );
        if let Some(data) = &self.host_data {
            object += &format!(",host-data={data}");
        }
        if let Some([block, auth]) = &self.id_block {
            object += &format!(",id-block={block},id-auth={auth}");
        }
        object
    }
}

/// Whether KVM on this machine has SEV-SNP, and QEMU may use it.
///
/// # Errors
/// What is missing, and where to look.
pub fn check_host() -> Result<(), SnpHostError> {
    check_host_below(Path::new("/"))
}

fn check_host_below(root: &Path) -> Result<(), SnpHostError> {
    let path = root.join("sys/module/kvm_amd/parameters/sev_snp");
    let Ok(found) = fs::read_to_string(&path) else {
        return Err(SnpHostError::NoKvmAmd { path });
    };
    if !matches!(found.trim(), "Y" | "1") {
        let found = found.trim().to_owned();
        return Err(SnpHostError::Off { path, found });
    }
    for device in ["dev/kvm", "dev/sev"] {
        let path = root.join(device);
        let opened = fs::OpenOptions::new().read(true).write(true).open(&path);
        if let Err(source) = opened {
            return Err(SnpHostError::Device { path, source });
        }
    }
    Ok(())
}

/// Whether this QEMU knows SEV-SNP.
///
/// # Errors
/// [`SnpHostError::OldQemu`].
pub fn check_qemu(qemu: &Qemu) -> Result<(), SnpHostError> {
    let mut numbers = qemu.version().split(['.', ' ']).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= QEMU_VERSION => Ok(()),
        _ => Err(SnpHostError::OldQemu(qemu.version().to_owned())),
    }
}

/// Whether the guest can pass on this file of certificates.
///
/// # Errors
/// [`SnpHostError::Certificates`].
pub fn check_certificates(path: &Path) -> Result<(), SnpHostError> {
    let reason = match fs::metadata(path) {
        Err(error) => error.to_string(),
        Ok(file) if !file.is_file() => "not a file".to_owned(),
        Ok(file) if file.len() > MAX_ENCLOSURE_BYTES as u64 => {
            let bytes = file.len();
            format!("{bytes} bytes; the guest hands out at most {MAX_ENCLOSURE_BYTES}")
        }
        Ok(_) => return Ok(()),
    };
    let path = path.to_owned();
    Err(SnpHostError::Certificates { path, reason })
}

/// The CPU model that suits the processor of this machine.
///
/// # Errors
/// [`SnpHostError::UnknownCpu`].
pub fn host_cpu() -> Result<CpuModel, SnpHostError> {
    let path = PathBuf::from("/proc/cpuinfo");
    let text = fs::read_to_string(&path).unwrap_or_default();
    cpu_model(&text).ok_or(SnpHostError::UnknownCpu(path))
}

/// Reads the first processor's vendor, family and model.
fn cpu_model(cpuinfo: &str) -> Option<CpuModel> {
    let field = |name: &str| {
        let mut lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        lines.find_map(|(key, value)| (key.trim() == name).then(|| value.trim()))
    };
    let number = |name| field(name)?.parse::<u32>().ok();
    if field("vendor_id") != Some("AuthenticAMD") {
        return None;
    }
    match (number("cpu family")?, number("model")?) {
        (0x19, 0x00..=0x0f) => Some(CpuModel::MILAN),
        (0x19, 0x10..=0x1f | 0xa0..=0xaf) => Some(CpuModel::GENOA),
        (0x1a, 0x00..=0x11) => Some(CpuModel::TURIN),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_optional_is_added() {
        let launch = SnpLaunch {
            cpu: CpuModel::GENOA,
            policy: 0x2_0000,
            host_data: Some("aG9zdA==".to_owned()),
            id_block: Some(["YmxvY2s=".to_owned(), "YXV0aA==".to_owned()]),
        };
        assert_eq!(
            launch.object(),
            "sev-snp-guest,id=sev0,cbitpos=51,reduced-phys-bits=1,policy=0x20000,kernel-hashes=off,\
             host-data=aG9zdA==,id-block=YmxvY2s=,id-auth=YXV0aA=="
        );
    }

    #[test]
    fn a_host_without_sev_snp_is_told_what_to_check() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let complaint = || check_host_below(root.path()).map_err(|error| error.to_string());
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("in a folder")).expect("created");
            fs::write(path, text).expect("written");
        };
        assert!(complaint().is_err_and(|words| words.contains("Linux 6.11")));
        write("sys/module/kvm_amd/parameters/sev_snp", "N\n");
        assert!(complaint().is_err_and(|words| words.contains("iommu=pt")));
        write("sys/module/kvm_amd/parameters/sev_snp", "Y\n");
        assert!(complaint().is_err_and(|words| words.contains("dev/kvm")));
        write("dev/kvm", "");
        assert!(complaint().is_err_and(|words| words.contains("dev/sev")));
        write("dev/sev", "");
        assert_eq!(complaint(), Ok(()));
    }

    #[test]
    fn certificates_are_there_and_short() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let path = root.path().join("certificates.pem");
        assert!(check_certificates(&path).is_err());
        assert!(check_certificates(root.path()).is_err());
        fs::write(&path, vec![0; MAX_ENCLOSURE_BYTES]).expect("written");
        assert!(check_certificates(&path).is_ok());
        fs::write(&path, vec![0; MAX_ENCLOSURE_BYTES + 1]).expect("written");
        let error = check_certificates(&path).expect_err("refused").to_string();
        assert!(error.contains("65537 bytes"), "{error}");
    }

    #[test]
    fn the_model_follows_the_processor() {
        let cpuinfo = |vendor, family, model| {
            format!(
                "processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: {model}\nmodel name\t: x\n"
            )
        };
        for (family, model, expected) in [
            (25, 1, Some(CpuModel::MILAN)),
            (25, 17, Some(CpuModel::GENOA)),
            (25, 160, Some(CpuModel::GENOA)),
            (26, 2, Some(CpuModel::TURIN)),
            (25, 33, None),
            (23, 49, None),
        ] {
            let found = cpu_model(&cpuinfo("AuthenticAMD", family, model));
            assert_eq!(found, expected, "{family} {model}");
        }
        assert_eq!(cpu_model(&cpuinfo("GenuineIntel", 25, 1)), None);
        assert_eq!(cpu_model(""), None);
    }

    #[test]
    fn versions_of_qemu_are_told_apart() {
        let check = |version: &str| {
            let (program, version) = ("qemu".into(), version.to_owned());
            check_qemu(&Qemu { program, version })
        };
        for version in ["9.1.0", "9.2.4 (Debian 1:9.2.4)", "10.0.2", "11.0"] {
            assert!(check(version).is_ok(), "{version}");
        }
        for version in ["9.0.4", "7.2.17 (Debian 1:7.2)", "8.2", "", "x.y"] {
            assert!(check(version).is_err(), "{version}");
        }
    }
}
