//! A set of CPUs, as the kernel writes it.

use rustix::thread::CpuSet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;

/// One or more CPUs of this machine. Where it has to be one, it is the first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cpus(CpuSet);

impl Cpus {
    /// A single CPU.
    pub fn one(cpu: usize) -> Cpus {
        Cpus::of([cpu]).expect("one is some")
    }

    /// `None` for no CPU at all. Numbers that the kernel's sets have no room for are left out.
    pub(crate) fn of(cpus: impl IntoIterator<Item = usize>) -> Option<Cpus> {
        let mut set = CpuSet::new();
        cpus.into_iter().filter(|cpu| *cpu < CpuSet::MAX_CPU).for_each(|cpu| set.set(cpu));
        (set.count() > 0).then_some(Cpus(set))
    }

    /// The CPU with the lowest number.
    pub fn first(self) -> usize {
        self.iter().next().expect("a set without a CPU isn't made")
    }

    /// How many there are.
    pub fn count(self) -> usize {
        self.iter().count()
    }

    /// Their numbers, lowest first.
    pub(crate) fn iter(self) -> impl Iterator<Item = usize> {
        (0..CpuSet::MAX_CPU).filter(move |cpu| self.0.is_set(*cpu))
    }

    pub(crate) fn contains(self, cpu: usize) -> bool {
        cpu < CpuSet::MAX_CPU && self.0.is_set(cpu)
    }

    /// Those of both.
    pub(crate) fn and(self, other: Cpus) -> Cpus {
        Cpus::of(self.iter().chain(other.iter())).expect("two sets that aren't empty")
    }

    pub(crate) fn set(self) -> CpuSet {
        self.0
    }

    /// "CPU 1", "CPUs 0-2".
    pub(crate) fn named(self) -> String {
        if self.count() == 1 { format!("CPU {self}") } else { format!("CPUs {self}") }
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        for cpu in self.iter() {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == cpu => *last = cpu,
                _ => ranges.push((cpu, cpu)),
            }
        }
        let range = |(first, last): &(usize, usize)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        };
        f.write_str(&ranges.iter().map(range).collect::<Vec<_>>().join(","))
    }
}

impl fmt::Debug for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cpus({self})")
    }
}

/// A number for one, the kernel's list for several: records of runs with one CPU a server are what they always were.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    One(usize),
    List(String),
}

impl Serialize for Cpus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let written =
            if self.count() == 1 { Written::One(self.first()) } else { Written::List(self.to_string()) };
        written.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Cpus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Cpus, D::Error> {
        let cpus = match Written::deserialize(deserializer)? {
            Written::One(cpu) => Cpus::of([cpu]),
            Written::List(list) => Cpus::of(parse_list(&list)),
        };
        cpus.ok_or_else(|| de::Error::custom("a set of CPUs names none"))
    }
}

/// Reads the kernel's list format: "0-2,5".
pub(crate) fn parse_list(list: &str) -> Vec<usize> {
    let mut cpus = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) {
            cpus.extend(first..=last.min(CpuSet::MAX_CPU));
        }
    }
    cpus
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus() {
        assert_eq!(parse_list("0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(parse_list("1"), [1]);
        assert_eq!(parse_list(""), Vec::<usize>::new());
    }

    #[test]
    fn one_is_written_as_a_number_and_several_as_a_list() {
        let several = Cpus::of([5, 0, 2, 1]).unwrap();
        for (cpus, written) in [(Cpus::one(1), "1"), (several, "\"0-2,5\"")] {
            assert_eq!(serde_json::to_string(&cpus).unwrap(), written);
            assert_eq!(serde_json::from_str::<Cpus>(written).unwrap(), cpus);
        }
        assert!(serde_json::from_str::<Cpus>("\"\"").is_err());
        assert_eq!((several.first(), several.count(), several.named()), (0, 4, "CPUs 0-2,5".to_owned()));
        assert!(Cpus::of([]).is_none() && !several.contains(3) && several.contains(5));
    }
}
