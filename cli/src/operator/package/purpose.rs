//! What the workers are built for: a profile and a processor.

use serde::{Deserialize, Serialize};

/// The cargo profile of the workers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Built fast, not optimized.
    #[default]
    Dev,
    /// What runs on AWS, and what benchmarks measure.
    Release,
}

/// The processor the functions run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Architecture {
    /// Intel and AMD.
    #[value(name = "x86_64")]
    X86_64,
    /// Graviton.
    #[value(name = "arm64")]
    Arm64,
}

impl Architecture {
    /// The architecture of this machine.
    #[must_use]
    pub fn host() -> Self {
        if cfg!(target_arch = "aarch64") { Self::Arm64 } else { Self::X86_64 }
    }

    /// Its name in CloudFormation.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Arm64 => "arm64",
        }
    }

    pub(super) fn target(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// The target to name to cargo; `None` if it is the compiler's own.
    pub(super) fn cross_target(self) -> Option<&'static str> {
        let native = self == Self::host() && cfg!(all(target_os = "linux", target_env = "gnu"));
        (!native).then(|| self.target())
    }
}

/// What to build the workers for.
#[derive(Debug, Clone, Copy)]
pub enum Purpose {
    /// To run on this very machine, under the local AWS.
    Local(Profile),
    /// To run on AWS: release, for the architecture, and against a C library that Amazon Linux 2023 has.
    Aws(Architecture),
}
