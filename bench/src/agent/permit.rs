//! What an agent does for a harness, and what not.

use crate::agent::message::LoadOrder;
use ipnet::IpNet;
use std::net::IpAddr;
use std::time::Duration;

/// The addresses of private networks (RFC 1918, RFC 4193) and of the machine itself. Link-local ones aren't among them:
/// some of these answer to everybody on a machine with its secrets.
const PRIVATE: [&str; 6] =
    ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7"];

/// Classes of one load. Scenarios have three at most.
const CLASSES_MAX: usize = 16;

/// An agent's bounds.
#[derive(Clone, Debug)]
pub(crate) struct Permit {
    targets: Vec<IpNet>,
    connections_max: usize,
    /// Requests per second of open loops.
    rate_max: f64,
    window_max: Duration,
}

impl Permit {
    /// Load for these networks alone, or for private ones where none is named.
    pub(crate) fn new(
        targets: &[IpNet],
        connections_max: usize,
        rate_max: f64,
        window_max: Duration,
    ) -> Permit {
        let private = || PRIVATE.iter().filter_map(|network| network.parse().ok()).collect();
        let targets = if targets.is_empty() { private() } else { targets.to_vec() };
        Permit { targets, connections_max, rate_max, window_max }
    }

    /// Why it won't give this load.
    pub(crate) fn check(&self, order: &LoadOrder) -> Result<(), String> {
        // An IPv4 address may come as an IPv6 one (RFC 4291, section 2.5.5.2).
        let target: IpAddr = order.target.ip().to_canonical();
        if !self.targets.iter().any(|network| network.contains(&target)) {
            let allowed: Vec<String> = self.targets.iter().map(ToString::to_string).collect();
            return Err(format!(
                "load for {target} isn't allowed, only for {}; to allow it there: --target-allow",
                allowed.join(", ")
            ));
        }
        if order.classes.len() > CLASSES_MAX {
            return Err(format!("it takes {CLASSES_MAX} classes at most"));
        }
        let connections = order.classes.iter().map(|class| class.connections).fold(0, usize::saturating_add);
        if connections > self.connections_max {
            return Err(format!(
                "{connections} connections are over its {}; to allow it there: --connections-max",
                self.connections_max
            ));
        }
        let rate: f64 = order.classes.iter().filter_map(|class| class.rate_max()).sum();
        if rate.is_nan() || rate > self.rate_max {
            return Err(format!(
                "{rate:.0} requests per second are over its {:.0}; to allow it there: --rate-max",
                self.rate_max
            ));
        }
        Ok(())
    }

    /// Why it won't give load for so long.
    pub(crate) fn check_window(&self, window: Duration) -> Result<(), String> {
        if window <= self.window_max {
            return Ok(());
        }
        let seconds = |time: Duration| time.as_secs_f64();
        Err(format!(
            "{:.0} s of load are over its {:.0} s; to allow it there: --duration-max",
            seconds(window),
            seconds(self.window_max)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::message::tests::order;
    use crate::load::class::{Arrivals, Pacing};

    fn permit(targets: &[&str]) -> Permit {
        let targets: Vec<IpNet> = targets.iter().map(|network| network.parse().unwrap()).collect();
        Permit::new(&targets, 100, 1_000.0, Duration::from_secs(5))
    }

    #[test]
    fn only_private_addresses_unless_others_are_named() {
        let table: [(&str, bool, bool); 13] = [
            ("127.0.0.1:80", true, false),
            ("10.1.2.3:80", true, false),
            ("172.31.0.1:80", true, false),
            ("192.168.7.7:80", true, false),
            ("[::1]:80", true, false),
            ("[fd00::1]:80", true, false),
            ("[::ffff:10.0.0.1]:80", true, false),
            ("172.32.0.1:80", false, false),
            ("169.254.169.254:80", false, false),
            ("8.8.8.8:80", false, false),
            ("[2001:db8::1]:80", false, false),
            ("[::ffff:8.8.8.8]:80", false, false),
            ("198.51.100.9:80", false, true),
        ];
        for (target, by_default, named) in table {
            let order = LoadOrder { target: target.parse().unwrap(), ..order() };
            assert_eq!(permit(&[]).check(&order).is_ok(), by_default, "{target}");
            assert_eq!(permit(&["198.51.100.0/24"]).check(&order).is_ok(), named, "{target}");
        }
        let order = LoadOrder { target: "8.8.8.8:80".parse().unwrap(), ..order() };
        let refused = permit(&["10.0.0.0/8"]).check(&order).unwrap_err();
        assert_eq!(
            refused,
            "load for 8.8.8.8 isn't allowed, only for 10.0.0.0/8; to allow it there: --target-allow"
        );
    }

    #[test]
    fn each_bound_is_one() {
        let with = |connections: usize, per_second: f64, factor: f64| {
            let mut order = order();
            order.classes.truncate(1);
            order.classes[0].connections = connections;
            let steps = vec![(Duration::from_secs(1), factor)];
            order.classes[0].pacing = Pacing::Open { per_second, arrivals: Arrivals::Poisson, steps };
            order
        };
        assert_eq!(permit(&[]).check(&with(100, 1_000.0, 1.0)), Ok(()));
        for (order, flag) in [
            (with(101, 1.0, 1.0), "--connections-max"),
            (with(usize::MAX, 1.0, 1.0), "--connections-max"),
            (with(1, 1_001.0, 1.0), "--rate-max"),
            (with(1, 600.0, 2.0), "--rate-max"),
            (with(1, f64::NAN, 1.0), "--rate-max"),
        ] {
            let refused = permit(&[]).check(&order).unwrap_err();
            assert!(refused.ends_with(flag), "{refused}");
        }
        let mut many = order();
        many.classes = vec![many.classes[0].clone(); CLASSES_MAX + 1];
        assert!(permit(&[]).check(&many).is_err());
        assert_eq!(permit(&[]).check_window(Duration::from_secs(5)), Ok(()));
        assert!(
            permit(&[]).check_window(Duration::from_millis(5_001)).unwrap_err().ends_with("--duration-max")
        );
    }
}
