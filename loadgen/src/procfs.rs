//! What the kernel knows: CPU time and memory of the server, the machine under both, the limit on open files.
//!
//! Read only. Everything is an `Option`: a server on another machine has no `/proc` entry here, and a run goes on without.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::param::clock_ticks_per_second;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::units::{float, ratio};

/// CPU time since the process began.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cpu {
    pub(crate) user_secs: f64,
    pub(crate) system_secs: f64,
}

impl Cpu {
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            user_secs: self.user_secs - earlier.user_secs,
            system_secs: self.system_secs - earlier.system_secs,
        }
    }

    pub(crate) fn total_secs(self) -> f64 {
        self.user_secs + self.system_secs
    }
}

/// A process that is looked at from outside.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process(u32);

impl Process {
    pub(crate) fn with_id(id: u32) -> Option<Self> {
        Path::new(&format!("/proc/{id}"))
            .exists()
            .then_some(Self(id))
    }

    pub(crate) fn this() -> Self {
        Self(std::process::id())
    }

    /// The process that listens on this TCP port of this machine.
    pub(crate) fn listening_on(port: u16) -> Option<Self> {
        let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
            .iter()
            .filter_map(|path| fs::read_to_string(path).ok())
            .find_map(|table| listening_inode(&table, port).map(str::to_owned))?;
        let wanted = format!("socket:[{inode}]");
        let ids = fs::read_dir("/proc").ok()?.flatten();
        ids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .find(|id| holds(*id, &wanted))
            .map(Self)
    }

    pub(crate) fn cpu(self) -> Option<Cpu> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).ok()?;
        parse_cpu(&stat, float(clock_ticks_per_second()))
    }

    /// Resident memory in KB.
    pub(crate) fn resident_kb(self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }
}

fn listening_inode(table: &str, port: u16) -> Option<&str> {
    let suffix = format!(":{port:04X}");
    table.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let local = fields.nth(1)?;
        let state = fields.nth(1)?;
        // 0A is LISTEN.
        (local.ends_with(&suffix) && state == "0A").then(|| fields.nth(5))?
    })
}

fn holds(id: u32, socket: &str) -> bool {
    fs::read_dir(format!("/proc/{id}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|target| target.as_os_str() == socket)
}

fn parse_cpu(stat: &str, ticks_per_sec: f64) -> Option<Cpu> {
    // The name may hold spaces and brackets, so the fields are counted from the last bracket.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let (user, system) = (ticks()?, ticks()?);
    Some(Cpu {
        user_secs: ratio(float(user), ticks_per_sec),
        system_secs: ratio(float(system), ticks_per_sec),
    })
}

/// Where the figures come from.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) commit: Option<String>,
}

impl Machine {
    pub(crate) fn look() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            cpu: model.map_or_else(|| "unknown".into(), |(_, name)| name.trim().into()),
            cores: cores(),
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            commit: commit(),
        }
    }
}

/// CPU time of everything on this machine since it started.
pub(crate) fn machine_cpu_secs() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    parse_machine_cpu(&stat, float(clock_ticks_per_second()))
}

fn parse_machine_cpu(stat: &str, ticks_per_sec: f64) -> Option<f64> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> = fields
        .split_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; what follows is counted twice.
    let busy = [0, 1, 2, 5, 6, 7].iter().filter_map(|at| fields.get(*at));
    Some(ratio(float(busy.sum()), ticks_per_sec))
}

pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn commit() -> Option<String> {
    let output = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()?;
    let hash = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !hash.is_empty()).then_some(hash)
}

/// Makes room for so many open files; returns how many there may be.
pub(crate) fn raise_file_limit(wanted: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let soft = limit.current.unwrap_or(u64::MAX);
    if soft >= wanted {
        return soft;
    }
    let hard = limit.maximum.unwrap_or(u64::MAX);
    // Only the privileged may raise the hard limit; everyone else takes what it allows.
    for target in [wanted.max(hard), hard] {
        let raised = Rlimit {
            current: Some(target.min(wanted)),
            maximum: Some(target),
        };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            return target.min(wanted);
        }
    }
    soft
}

#[cfg(test)]
mod tests {
    use super::{Process, listening_inode, parse_cpu, parse_machine_cpu};

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "42 (a ) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0";
        let cpu = parse_cpu(stat, 100.0).expect("a stat line");
        assert!((cpu.user_secs - 2.5).abs() < 1e-9);
        assert!((cpu.system_secs - 0.5).abs() < 1e-9);
    }

    #[test]
    fn waiting_is_not_work() {
        let stat = "cpu  100 1 50 9999 777 2 3 4 88 99\ncpu0 1 1 1\n";
        let secs = parse_machine_cpu(stat, 100.0).expect("a stat file");
        assert!((secs - 1.6).abs() < 1e-9);
    }

    #[test]
    fn only_a_listener_counts() {
        let table = "  sl  local_address rem_address   st\n\
            0: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000 0 0 111 1\n\
            1: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 222 1\n";
        assert_eq!(listening_inode(table, 8080), Some("222"));
        assert_eq!(listening_inode(table, 8081), None);
    }

    #[test]
    fn this_process_has_cpu_and_memory() {
        assert!(Process::this().cpu().is_some());
        assert!(Process::this().resident_kb().is_some_and(|kb| kb > 0));
    }
}
