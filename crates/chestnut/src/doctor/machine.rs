//! What the machine has, as far as the standard library and the kernel's own files say it.
//!
//! What cannot be known is `None`: other systems than Linux keep these facts elsewhere, and nothing is run to ask them.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use chestnut_nn::Isa;
use serde::Serialize;

/// Longest file of the kernel that is read, bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Processor, memory and system of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Operating system, such as `Debian GNU/Linux 12 (bookworm)` or `macos`.
    pub system: String,
    /// Instruction set architecture, such as `x86_64`.
    pub architecture: String,
    /// Model of the processor.
    pub processor: Option<String>,
    /// Extensions that the processor has, of those that matter for arithmetic.
    pub extensions: Vec<String>,
    /// What networks will run with here.
    pub kernels: String,
    /// Threads that may run at once.
    pub threads: usize,
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// Memory that is not in use, in bytes.
    pub available_bytes: Option<u64>,
}

impl Machine {
    /// The machine that this runs on.
    #[must_use]
    pub fn this() -> Self {
        let release = text("/etc/os-release").unwrap_or_default();
        let system = value(&release, "PRETTY_NAME=").map(|name| name.trim_matches('"').to_owned());
        let cpus = text("/proc/cpuinfo").unwrap_or_default();
        let memory = text("/proc/meminfo").unwrap_or_default();
        Self {
            system: system.unwrap_or_else(|| std::env::consts::OS.to_owned()),
            architecture: std::env::consts::ARCH.to_owned(),
            processor: value(&cpus, "model name").map(|name| name.trim_start_matches([':', ' ', '\t']).to_owned()),
            extensions: extensions().into_iter().map(str::to_owned).collect(),
            kernels: Isa::detect().to_string(),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: kibibytes(&memory, "MemTotal:"),
            available_bytes: kibibytes(&memory, "MemAvailable:"),
        }
    }

    /// Whether networks run without vector instructions, several times slower than they could.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        Isa::detect() == Isa::Portable
    }
}

#[cfg(target_arch = "x86_64")]
fn extensions() -> Vec<&'static str> {
    let all = [
        ("SSE4.2", is_x86_feature_detected!("sse4.2")),
        ("AVX", is_x86_feature_detected!("avx")),
        ("F16C", is_x86_feature_detected!("f16c")),
        ("FMA", is_x86_feature_detected!("fma")),
        ("AVX2", is_x86_feature_detected!("avx2")),
        ("AVX-512F", is_x86_feature_detected!("avx512f")),
        ("AVX-512VNNI", is_x86_feature_detected!("avx512vnni")),
        ("AVX-512BF16", is_x86_feature_detected!("avx512bf16")),
    ];
    all.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect()
}

#[cfg(target_arch = "aarch64")]
fn extensions() -> Vec<&'static str> {
    vec!["NEON"]
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn extensions() -> Vec<&'static str> {
    Vec::new()
}

fn text(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// What follows the first line start `name`.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).filter(|v| !v.is_empty())
}

fn kibibytes(text: &str, name: &str) -> Option<u64> {
    value(text, name)?.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Bytes that this user may still write where `path` lies, or will lie; `None` where it cannot be known.
#[must_use]
pub fn free_bytes(path: &Path) -> Option<u64> {
    let path = std::path::absolute(path).ok()?;
    free_at(path.ancestors().find(|folder| folder.exists())?)
}

#[cfg(unix)]
fn free_at(folder: &Path) -> Option<u64> {
    let about = rustix::fs::statvfs(folder).ok()?;
    about.f_bavail.checked_mul(about.f_frsize)
}

#[cfg(not(unix))]
fn free_at(_folder: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_files() {
        let memory = "MemTotal:       24684084 kB\nMemFree:  1 kB\nMemAvailable: 7 kB\nHugePages: 3\n";
        assert_eq!(kibibytes(memory, "MemTotal:"), Some(24_684_084 * 1024));
        assert_eq!((kibibytes(memory, "HugePages:"), kibibytes("", "MemTotal:")), (None, None));
        assert_eq!(value("a\nmodel name\t: X 7 \n", "model name"), Some(": X 7"));
    }

    #[test]
    fn this_machine() {
        let machine = Machine::this();
        assert!(machine.threads > 0 && !machine.architecture.is_empty());
        assert_eq!(machine.is_slow(), machine.kernels == "portable");
        if cfg!(target_os = "linux") {
            assert!(machine.memory_bytes > machine.available_bytes && machine.available_bytes > Some(0));
            let folder = tempfile::tempdir().expect("a folder");
            assert!(free_bytes(&folder.path().join("not/yet/there")).is_some());
        }
    }
}
