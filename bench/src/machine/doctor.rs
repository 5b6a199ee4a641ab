//! What will bias the numbers of this machine, and what to do about it.

use crate::failure::Result;
use crate::machine::disturbance::{CpuAccount, Disturbance};
use crate::machine::environment::{Environment, Filesystem};
use crate::machine::placement::{Distance, Placement, count_cpus, pin};
use crate::machine::slow_disk::SlowDisk;
use crate::machine::spin::spin;
use crate::server::calls;
use std::fmt;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// How long the doctor listens to the machine doing nothing.
const LISTENING: Duration = Duration::from_millis(1_000);
/// Between repetitions of the same work.
const SPINS: usize = 12;
const SPIN_SPREAD_MAX: f64 = 0.05;
/// Load average per CPU.
const LOAD_MAX: f64 = 0.3;
const DESCRIPTORS_MIN: u64 = 16_384;
const OTHERS_MAX: f64 = 0.05;
const STOLEN_MAX: f64 = 0.01;

/// What a client does that can't busy-poll without slowing the server down.
const SLEEPY: &str = "so the client sleeps between requests that are due, and sends them later";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Weight {
    Fine,
    Missing,
    Bias,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) weight: Weight,
    /// What was looked at: "CPU frequency".
    pub(crate) subject: &'static str,
    pub(crate) found: String,
    pub(crate) advice: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.weight {
            Weight::Fine => "ok     ",
            Weight::Missing => "missing",
            Weight::Bias => "BIAS   ",
        };
        write!(f, "{mark}  {}: {}", self.subject, self.found)?;
        if self.advice.is_empty() { Ok(()) } else { write!(f, "\n         {}", self.advice) }
    }
}

fn fine(subject: &'static str, found: impl Into<String>) -> Finding {
    Finding { weight: Weight::Fine, subject, found: found.into(), advice: String::new() }
}

fn missing(subject: &'static str, found: impl Into<String>, advice: &str) -> Finding {
    Finding { weight: Weight::Missing, subject, found: found.into(), advice: advice.to_owned() }
}

fn bias(subject: &'static str, found: impl Into<String>, advice: &str) -> Finding {
    Finding { weight: Weight::Bias, subject, found: found.into(), advice: advice.to_owned() }
}

/// [`bias`] or [`fine`].
fn judged(is_biased: bool, subject: &'static str, found: String, advice: &str) -> Finding {
    if is_biased { bias(subject, found, advice) } else { fine(subject, found) }
}

/// What the environment alone shows: quick, for the start of every run.
pub(crate) fn glance(environment: &Environment, placement: Placement) -> Vec<Finding> {
    vec![
        cores(placement),
        governor(environment),
        virtualised(environment),
        clock(environment),
        build(environment),
        load(environment),
        descriptors(environment),
        filesystem(environment.filesystem.as_ref()),
        ring(),
    ]
}

/// Everything, with a second of listening to the machine.
pub(crate) fn examine(corpus: &Path, repository: &Path) -> Result<Vec<Finding>> {
    let placement = Placement::choose()?;
    let environment = Environment::look(corpus, repository);
    let mut findings = glance(&environment, placement);
    pin(placement.client.first())?;
    findings.extend(listen(placement));
    findings.push(steadiness(placement)?);
    findings.push(counting());
    findings.push(slow_disk(corpus));
    Ok(findings)
}

fn cores(placement: Placement) -> Finding {
    match placement.distance {
        Distance::Machines | Distance::Cores | Distance::Packages => fine("cores", placement.to_string()),
        Distance::HyperThreads => bias(
            "cores",
            format!("{placement}: two threads of one core, each slows the other down; {SLEEPY}"),
            "switch hyper-threading off, or let this process use another core (taskset)",
        ),
        Distance::Same => bias(
            "cores",
            format!("{placement}: the client's work delays the server's; {SLEEPY}"),
            "use a machine with two cores; CPU time per request is still right, rates and times aren't",
        ),
    }
}

fn governor(environment: &Environment) -> Finding {
    match environment.cpu.governor.as_deref() {
        None => fine("CPU frequency", "this machine has no governor to set"),
        Some("performance") => fine("CPU frequency", "governor performance"),
        Some(other) => bias(
            "CPU frequency",
            format!("governor {other}: the clock rate follows the load"),
            "cpupower frequency-set -g performance",
        ),
    }
}

fn virtualised(environment: &Environment) -> Finding {
    if environment.cpu.virtualised {
        return bias(
            "hypervisor",
            "this is a virtual machine: waking a CPU costs more, and others may take its time",
            "compare on bare metal where the last per cent matters; ratios hold better than numbers",
        );
    }
    fine("hypervisor", "none")
}

fn clock(environment: &Environment) -> Finding {
    match environment.cpu.clock_source.as_deref() {
        Some(source @ ("tsc" | "arch_sys_counter" | "kvm-clock")) => fine("clock", source),
        Some(source) => bias(
            "clock",
            format!("clock source {source}: each look at the clock costs a system call"),
            "boot with tsc=reliable, if the machine's counter is",
        ),
        None => fine("clock", "the kernel doesn't say which"),
    }
}

fn build(environment: &Environment) -> Finding {
    let level = &environment.build.opt_level;
    let found = format!("optimisation level {level}");
    judged(level != "3", "build", found, "cargo bench, or cargo run --release -p bench")
}

fn load(environment: &Environment) -> Finding {
    let cpus = count_cpus(environment.cpu.online.as_deref().unwrap_or_default());
    let noun = if cpus == 1 { "CPU" } else { "CPUs" };
    let average = environment.load_average.as_deref().and_then(|text| text.parse::<f64>().ok());
    match average {
        Some(average) => judged(
            average > LOAD_MAX * cpus as f64,
            "load",
            format!("{average} on {cpus} {noun} over the last minute"),
            "stop other work, and wait a minute",
        ),
        None => fine("load", "the kernel doesn't say"),
    }
}

fn descriptors(environment: &Environment) -> Finding {
    match environment.limits.descriptors {
        Some(limit) if limit < DESCRIPTORS_MIN => missing(
            "descriptors",
            format!("at most {limit} per process: too few for the scenarios with 8,000 connections"),
            "ulimit -n 20000, or a higher hard limit",
        ),
        Some(limit) => fine("descriptors", format!("{limit} per process")),
        None => fine("descriptors", "unlimited"),
    }
}

fn filesystem(found: Option<&Filesystem>) -> Finding {
    match found {
        Some(found) if found.is_memory() => bias(
            "corpus",
            format!("on {}, which only lives in memory: rings hand its reads to kernel threads", found.kind),
            "name a folder on a disk with --corpus",
        ),
        Some(found) => fine("corpus", format!("on {}", found.kind)),
        None => fine("corpus", "on a file system that the mount table doesn't name"),
    }
}

fn ring() -> Finding {
    match uring::available() {
        Ok(()) => fine("io_uring", "available"),
        Err(reason) => missing("io_uring", reason, "the other servers are compared without it"),
    }
}

fn listen(placement: Placement) -> Vec<Finding> {
    let before = CpuAccount::read(placement);
    thread::sleep(LISTENING);
    let later = CpuAccount::read(placement);
    let found = before.zip(later).and_then(|(before, later)| before.until(later, Duration::ZERO));
    let Some(Disturbance { others, stolen }) = found else {
        return vec![missing("quiet", "the kernel doesn't say what else runs", "")];
    };
    vec![
        judged(
            others > OTHERS_MAX,
            "other work",
            format!("other work takes {:.0} % of a CPU", others * 100.0),
            "stop other work; trials that it disturbs are repeated",
        ),
        judged(
            stolen > STOLEN_MAX,
            "stolen time",
            format!("the hypervisor takes {:.1} % of a CPU", stolen * 100.0),
            "wait for a quieter hour, or use a machine of your own",
        ),
    ]
}

fn steadiness(placement: Placement) -> Result<Finding> {
    let spins: Vec<f64> =
        (0..SPINS).map(|_| Ok(spin(placement.server.first())?.as_secs_f64())).collect::<Result<_>>()?;
    let least = spins.iter().copied().fold(f64::INFINITY, f64::min);
    let most = spins.iter().copied().fold(0.0, f64::max);
    let spread = most / least - 1.0;
    let found = format!("the same work takes up to {:.1} % longer from one time to the next", spread * 100.0);
    let advice = "fix the clock rate: performance governor, no turbo";
    Ok(judged(spread > SPIN_SPREAD_MAX, "steadiness", found, advice))
}

fn counting() -> Finding {
    match calls::available() {
        Ok(()) => fine("counting", "system calls and ring operations can be counted"),
        Err(reason) => missing(
            "counting",
            reason,
            "needs root, or kernel.perf_event_paranoid = -1 and a readable /sys/kernel/tracing",
        ),
    }
}

fn slow_disk(corpus: &Path) -> Finding {
    let (_slow, record) = SlowDisk::prepare(corpus);
    match record.reads_per_second {
        Some(_) => fine("slow disk", record.means),
        None => missing("slow disk", record.means, "needs root and a writable control group"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::cpus::Cpus;
    use crate::machine::placement::allowed_cpus;

    #[test]
    fn one_core_a_governor_and_a_debug_build_are_told() {
        let mut environment = Environment::look(Path::new("/"), Path::new("/"));
        environment.cpu.governor = Some("powersave".to_owned());
        environment.build.opt_level = "1".to_owned();
        environment.limits.descriptors = Some(1024);
        environment.cpu.online = Some("0".to_owned());
        environment.load_average = Some("9.00".to_owned());
        environment.filesystem = Some(Filesystem { kind: "tmpfs".to_owned(), options: String::new() });
        let placement = Placement { server: Cpus::one(0), client: Cpus::one(0), distance: Distance::Same };
        let findings = glance(&environment, placement);
        let of = |subject: &str| findings.iter().find(|finding| finding.subject == subject).unwrap();
        for subject in ["cores", "CPU frequency", "build", "load", "corpus"] {
            assert_eq!(of(subject).weight, Weight::Bias, "{subject}");
            assert!(!of(subject).advice.is_empty(), "{subject}");
        }
        assert!(of("cores").found.contains("sleeps"), "{}", of("cores").found);
        assert_eq!(of("descriptors").weight, Weight::Missing);
        assert!(of("build").to_string().starts_with("BIAS     build: optimisation level 1\n"));
    }

    /// The run is pinned to one CPU when it looks, and the load is that of all.
    #[test]
    fn the_load_is_of_all_cpus() {
        pin(allowed_cpus().unwrap()[0]).unwrap();
        let mut environment = Environment::look(Path::new("/"), Path::new("/"));
        for (online, average, weight, found) in [
            ("0", "0.31", Weight::Bias, "0.31 on 1 CPU over the last minute"),
            ("0-1", "0.6", Weight::Fine, "0.6 on 2 CPUs over the last minute"),
            ("0-1", "0.61", Weight::Bias, "0.61 on 2 CPUs over the last minute"),
            ("0-3,6", "1.49", Weight::Fine, "1.49 on 5 CPUs over the last minute"),
        ] {
            environment.cpu.online = Some(online.to_owned());
            environment.load_average = Some(average.to_owned());
            let finding = load(&environment);
            assert_eq!((finding.weight, finding.found.as_str()), (weight, found), "{online}");
        }
    }

    #[test]
    fn a_machine_in_order_has_nothing_to_mend() {
        let mut environment = Environment::look(Path::new("/"), Path::new("/"));
        environment.cpu.governor = Some("performance".to_owned());
        environment.cpu.virtualised = false;
        environment.cpu.clock_source = Some("tsc".to_owned());
        environment.build.opt_level = "3".to_owned();
        environment.limits.descriptors = None;
        environment.load_average = Some("0.00".to_owned());
        environment.filesystem = Some(Filesystem { kind: "ext4".to_owned(), options: String::new() });
        let placement = Placement { server: Cpus::one(1), client: Cpus::one(0), distance: Distance::Cores };
        let findings = glance(&environment, placement);
        for finding in findings.iter().filter(|finding| finding.subject != "io_uring") {
            assert_eq!((finding.weight, finding.advice.as_str()), (Weight::Fine, ""), "{finding}");
        }
    }
}
