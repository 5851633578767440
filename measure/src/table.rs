//! The measurement table of `image.json`: launch digests by number of vCPUs and CPU model.

use crate::config::{LaunchConfig, VmmKind};
use crate::cpu::CpuModel;
use crate::digest::LaunchDigest;
use crate::rom::Rom;
use crate::snp::{MeasureError, VcpuPages, add_sections, measure_image};
use serde::{Deserialize, Serialize};

/// The CPU models with SEV-SNP, for which a table has rows.
pub const TABLE_CPUS: [CpuModel; 3] = [CpuModel::MILAN, CpuModel::GENOA, CpuModel::TURIN];

/// One launch and its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeasurementRow {
    /// CPU model, as `-cpu` names it, or its signature.
    pub cpu: String,
    /// Number of vCPUs.
    pub vcpus: u32,
    /// The launch digest, 96 lower-case hexadecimal digits.
    pub digest: LaunchDigest,
}

/// Rows by CPU model, then by number of vCPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MeasurementTable {
    /// The rows.
    pub rows: Vec<MeasurementRow>,
}

impl MeasurementTable {
    /// The digests of `rom` for 1 to `max_vcpus` vCPUs of each of `cpus`, launched by QEMU without
    /// a kernel.
    pub fn new(rom: &[u8], max_vcpus: u32, cpus: &[CpuModel]) -> Result<Self, MeasureError> {
        let rom = Rom::parse(rom)?;
        let mut before_vcpus = measure_image(&rom)?;
        let config = |cpu| LaunchConfig::new(VmmKind::Qemu, max_vcpus, cpu);
        add_sections(&mut before_vcpus, &rom, &config(CpuModel::MILAN))?;
        let mut rows = vec![];
        for &cpu in cpus {
            let config = config(cpu);
            config.check()?;
            let pages = VcpuPages::new(&rom, &config)?;
            let mut digest = before_vcpus.digest();
            for index in 0..max_vcpus {
                digest = pages.page(index).extend(digest);
                rows.push(MeasurementRow {
                    cpu: cpu.to_string(),
                    vcpus: index + 1,
                    digest,
                });
            }
        }
        Ok(Self { rows })
    }

    /// The row with this digest: which launch it is.
    pub fn find(&self, digest: LaunchDigest) -> Option<&MeasurementRow> {
        self.rows.iter().find(|row| row.digest == digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snp::measure_rom;
    use crate::testing::sample_rom;

    #[test]
    fn every_row_is_the_digest_of_its_launch() {
        let rom = sample_rom().build();
        let table = MeasurementTable::new(&rom, 4, &TABLE_CPUS).expect("a good image");
        assert_eq!(table.rows.len(), 12);
        for row in &table.rows {
            let cpu = row.cpu.parse().expect("a CPU model");
            let config = LaunchConfig::new(VmmKind::Qemu, row.vcpus, cpu);
            let measurement = measure_rom(&rom, &config).expect("a good image");
            assert_eq!(measurement.digest(), row.digest);
            assert_eq!(table.find(row.digest), Some(row));
        }
    }

    #[test]
    fn the_table_is_a_json_array_of_rows() {
        let rom = sample_rom().build();
        let table = MeasurementTable::new(&rom, 1, &[CpuModel::TURIN]).expect("a good image");
        let json = serde_json::to_string(&table).expect("plain structures");
        let digest = table.rows[0].digest;
        assert_eq!(
            json,
            format!(r#"[{{"cpu":"EPYC-Turin","vcpus":1,"digest":"{digest}"}}]"#)
        );
        assert_eq!(
            serde_json::from_str::<MeasurementTable>(&json).expect("our own"),
            table
        );
    }
}
