//! What a reader of the results is warned of.

use crate::machine::disturbance::{OTHERS_MAX, STOLEN_MAX};
use crate::machine::doctor::{self, Weight};
use crate::machine::environment::Environment;
use crate::machine::placement::Placement;
use crate::record::trial::Trial;
use crate::run::corpus::Corpus;
use crate::run::scenario::Files;
use crate::run::site::sidecars;
use crate::run::trial::ATTEMPTS_MAX;
use crate::server::congestion::Control;
use std::collections::BTreeMap;

/// What is known beforehand to bias the numbers of this machine.
pub(crate) fn of_machine(environment: &Environment, placement: Placement, control: Control) -> Vec<String> {
    let mut warnings: Vec<String> = doctor::glance(environment, placement)
        .into_iter()
        .filter(|finding| finding.weight == Weight::Bias)
        .map(|finding| format!("{}: {}", finding.subject, finding.found))
        .collect();
    let default = environment.sysctls.get("net.ipv4.tcp_congestion_control").cloned().flatten();
    if let (Control::Default, Some("bbr")) = (control, default.as_deref()) {
        warnings.push(
            "net.ipv4.tcp_congestion_control is bbr and couldn't be overruled: its pacing shapes large answers \
             more than the servers do"
                .to_owned(),
        );
    }
    warnings
}

/// What the files that are served lack.
pub(crate) fn of_corpus(corpus: &Corpus) -> Option<String> {
    let is_short = !corpus.entries(Files::Site).is_empty() && !sidecars::has_zstd();
    is_short.then(|| {
        "zstd(1) isn't installed, so the site has no .zst files, and servers that prefer them send others"
            .to_owned()
    })
}

/// Threads that could have left the server's CPU, a line per name and server.
fn misplaced(trials: &[Trial]) -> Vec<String> {
    let mut found: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
    for trial in trials {
        for thread in &trial.misplaced {
            let kind = if thread.is_ring_worker() { "iou-wrk" } else { thread.name.as_str() };
            *found.entry((trial.target.as_str(), kind, thread.cpus.as_str())).or_insert(0) += 1;
        }
    }
    let line = |((target, name, cpus), trials): ((&str, &str, &str), usize)| {
        format!("{target}: thread {name} could run on CPUs {cpus}, in {trials} trials")
    };
    found.into_iter().map(line).collect()
}

/// What the trials give to warn of.
pub(crate) fn of_trials(trials: &[Trial]) -> Vec<String> {
    let mut warnings = misplaced(trials);
    warnings.extend(disturbed(trials));
    warnings
}

pub(crate) fn forget(warnings: &mut Vec<String>, said: &[String]) {
    warnings.retain(|warning| !said.contains(warning));
}

/// How many trials stand although something disturbed them, or nearly so.
fn disturbed(trials: &[Trial]) -> Option<String> {
    let last = |trial: &&Trial| trial.counts() && trial.place.attempt + 1 == ATTEMPTS_MAX;
    let count = trials.iter().filter(last).count();
    (count > 0).then(|| {
        format!(
            "{count} of {} trials stand after {} that other work (over {:.0} % of a CPU), the hypervisor (over \
             {:.0} %) or an uneven clock rate disturbed; repeat on a quiet machine",
            trials.len(),
            ATTEMPTS_MAX - 1,
            OTHERS_MAX * 100.0,
            STOLEN_MAX * 100.0
        )
    })
}

pub(crate) fn unmeasured(trials: &[Trial]) -> BTreeMap<String, String> {
    let reasons = trials.iter().flat_map(|trial| trial.unmeasured.clone());
    reasons.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::trial::tests::trial;

    #[test]
    fn what_an_interrupted_run_warned_of_is_not_said_again() {
        let mut disturbed = trial("epoll", 0, 5_000.0);
        disturbed.place.attempt = ATTEMPTS_MAX - 1;
        let trials = [trial("uring", 0, 5_000.0), disturbed];
        let said = of_trials(&trials);
        assert_eq!(said.len(), 1);
        let mut warnings = vec!["a virtual machine".to_owned()];
        warnings.extend(said);
        forget(&mut warnings, &of_trials(&trials));
        assert_eq!(warnings, ["a virtual machine"]);
    }
}
