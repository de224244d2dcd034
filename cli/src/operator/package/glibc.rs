//! Will a binary start on Amazon Linux 2023?
//!
//! A binary built on a newer distribution names versions of the C library that Lambda does not have, and the loader
//! then ends it before `main`. The versions a binary needs stand in its section `.gnu.version_r`, the symbols that
//! need them in `.dynsym`; so this is known before anything is uploaded.

use std::path::Path;

use anyhow::{Context, Result, bail};
use object::Endianness;
use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader, Sym};

/// The C library of Amazon Linux 2023, which `provided.al2023` is.
const AMAZON_LINUX_2023: Version = Version(2, 34);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32);

impl Version {
    /// Reads `GLIBC_2.34`. Private and other version names have no order, and are not judged here.
    fn parse(name: &str) -> Option<Self> {
        let mut numbers = name.strip_prefix("GLIBC_")?.split('.').map(str::parse);
        Some(Self(numbers.next()?.ok()?, numbers.next()?.ok()?))
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "GLIBC_{}.{}", self.0, self.1)
    }
}

/// Refuses a binary that would not start, and names the versions that it lacks.
pub(super) fn check(worker: &str, binary: &Path) -> Result<()> {
    let data = std::fs::read(binary).with_context(|| format!("reading {}", binary.display()))?;
    let too_new = newer_than(&data, AMAZON_LINUX_2023).with_context(|| format!("reading the symbols of {}", binary.display()))?;
    if too_new.is_empty() {
        return Ok(());
    }
    let needs = too_new.iter().map(|(symbol, version)| format!("`{symbol}` of {version}")).collect::<Vec<_>>();
    bail!(
        "the binary of `{worker}` needs {}, and Amazon Linux 2023 has {AMAZON_LINUX_2023}; build on a machine with an \
         older C library (Amazon Linux 2023, Debian 11, Ubuntu 20.04, or a container of one)",
        needs.join(", ")
    )
}

/// The symbols that need a version after `limit`, newest first.
///
/// The linker marks a version as weak if only weak references name it. Such a version does not keep a binary from starting.
fn newer_than(data: &[u8], limit: Version) -> object::Result<Vec<(String, Version)>> {
    let header = FileHeader64::<Endianness>::parse(data)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, data)?;
    let symbols = sections.symbols(endian, data, elf::SHT_DYNSYM)?;
    let Some(versions) = sections.versions(endian, data)? else {
        return Ok(Vec::new());
    };
    let mut weak = Vec::new();
    if let Some((mut libraries, _)) = sections.gnu_verneed(endian, data)? {
        while let Some((_, mut needs)) = libraries.next()? {
            while let Some(need) = needs.next()? {
                if need.vna_flags.get(endian).0 & elf::VER_FLG_WEAK.0 != 0 {
                    weak.push(need.vna_other.get(endian));
                }
            }
        }
    }
    let mut found = Vec::new();
    for (index, symbol) in symbols.enumerate() {
        let version_index = versions.version_index(endian, index).index();
        if !symbol.is_undefined(endian) || weak.contains(&version_index) {
            continue;
        }
        let Some(version) = versions.version(version_index)? else { continue };
        let Some(version) = std::str::from_utf8(version.name()).ok().and_then(Version::parse) else { continue };
        if version > limit {
            let name = String::from_utf8_lossy(symbols.symbol_name(endian, symbol)?).into_owned();
            found.push((name, version));
        }
    }
    found.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_numbers() {
        assert!(Version::parse("GLIBC_2.9").unwrap() < Version::parse("GLIBC_2.34").unwrap());
        assert!(Version::parse("GLIBC_2.2.5").unwrap() < AMAZON_LINUX_2023);
        assert_eq!(Version::parse("GLIBC_PRIVATE"), None);
        assert_eq!(Version::parse("GCC_3.0"), None);
    }

    #[test]
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn the_glibc_version_that_a_binary_needs_is_named() {
        let data = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(newer_than(&data, Version(99, 0)).unwrap(), Vec::new());
        let found = newer_than(&data, Version(2, 0)).unwrap();
        let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert!(names.contains(&"memcpy"), "{names:?}");
        assert!(found.windows(2).all(|pair| pair[0].1 >= pair[1].1));
    }

    #[test]
    fn a_file_that_is_not_a_binary_is_an_error() {
        assert!(newer_than(b"#!/bin/sh", AMAZON_LINUX_2023).is_err());
    }
}
