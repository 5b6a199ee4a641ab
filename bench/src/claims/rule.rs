//! Rules: how a claim's verdict follows from what was measured or shown.

use crate::claims::bound::Bound;
use crate::claims::field::FieldRule;
use crate::claims::quantity::Quantity;
use serde::Deserialize;

/// One rule of a claim.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Written")]
pub(crate) struct Rule {
    /// The sentence for its result, with `{number}` or `{turn}` where it has one.
    pub(crate) says: String,
    pub(crate) test: Test,
}

/// What a rule looks at.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Test {
    /// A scene came out as the claim says.
    Shown { scene: String },
    /// One server's number.
    Value { of: Of, at: Option<f64>, bound: Bound },
    /// Two servers' numbers.
    Ratio { of: Pair, at: Option<f64>, bound: Bound },
    /// How a ratio differs between two points.
    Change { of: Pair, from: f64, to: f64, bound: Bound },
    /// What one more on the axis adds; less what it adds to the server `beside`.
    Slope { of: Of, beside: Option<String>, bound: Bound },
    /// From where on, or up to where, a ratio or a number keeps a bound.
    Turns { of: Turning, bound: Bound },
    /// How far along the axis a server has come.
    Limit { scenario: String, target: String, bound: Bound },
    /// Whether nobody else costs much less.
    Cheapest { scenario: String, at: Option<f64>, among: Vec<String>, expected: String, tolerance: f64 },
    /// Who is the cheapest, for the record: it decides nothing.
    Field(FieldRule),
    /// Requests per second, as wrk counts them.
    Wrk { target: String, bound: Bound },
    /// What the harness can't measure.
    Untold { because: String },
}

/// One server's number in a scenario.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Of {
    pub(crate) scenario: String,
    pub(crate) target: String,
    pub(crate) measure: Quantity,
}

/// Two servers' numbers in a scenario.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pair {
    pub(crate) scenario: String,
    pub(crate) above: String,
    pub(crate) below: String,
    pub(crate) measure: Quantity,
}

/// What has a bound along an axis.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Turning {
    Ratio(Pair),
    Value(Of),
}

/// The kinds by their names.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Shown,
    Value,
    Ratio,
    Change,
    Slope,
    Turns,
    Limit,
    Cheapest,
    Field,
    Wrk,
    Untold,
}

/// A rule as it is written: every word that any kind knows.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    kind: Kind,
    says: String,
    scene: Option<String>,
    scenario: Option<String>,
    target: Option<String>,
    beside: Option<String>,
    above: Option<String>,
    below: Option<String>,
    measure: Option<Quantity>,
    at: Option<f64>,
    from: Option<f64>,
    to: Option<f64>,
    at_least: Option<f64>,
    at_most: Option<f64>,
    among: Option<Vec<String>>,
    expected: Option<String>,
    tolerance: Option<f64>,
    because: Option<String>,
    row: Option<String>,
    column: Option<String>,
}

impl TryFrom<Written> for Rule {
    type Error = String;

    fn try_from(mut written: Written) -> Result<Rule, String> {
        let test = written.test()?;
        if let Some(word) = written.left_over() {
            return Err(format!("{word:?} means nothing to a rule of the kind {:?}", written.kind));
        }
        Ok(Rule { says: written.says, test })
    }
}

fn need<T>(word: &str, found: Option<T>) -> Result<T, String> {
    found.ok_or_else(|| format!("a rule lacks {word:?}"))
}

impl Written {
    /// Takes what the kind needs.
    fn test(&mut self) -> Result<Test, String> {
        Ok(match self.kind {
            Kind::Shown => Test::Shown { scene: need("scene", self.scene.take())? },
            Kind::Value => Test::Value { of: self.of()?, at: self.at.take(), bound: self.bound()? },
            Kind::Ratio => Test::Ratio { of: self.pair()?, at: self.at.take(), bound: self.bound()? },
            Kind::Change => Test::Change {
                of: self.pair()?,
                from: need("from", self.from.take())?,
                to: need("to", self.to.take())?,
                bound: self.bound()?,
            },
            Kind::Slope => Test::Slope { of: self.of()?, beside: self.beside.take(), bound: self.bound()? },
            Kind::Turns => {
                let of = if self.target.is_some() { Turning::Value(self.of()?) } else { self.turning()? };
                Test::Turns { of, bound: self.bound()? }
            }
            Kind::Limit => Test::Limit {
                scenario: need("scenario", self.scenario.take())?,
                target: need("target", self.target.take())?,
                bound: self.bound()?,
            },
            Kind::Cheapest => Test::Cheapest {
                scenario: need("scenario", self.scenario.take())?,
                at: self.at.take(),
                among: need("among", self.among.take())?,
                expected: need("expected", self.expected.take())?,
                tolerance: need("tolerance", self.tolerance.take())?,
            },
            Kind::Field => Test::Field(FieldRule {
                scenario: need("scenario", self.scenario.take())?,
                at: self.at.take(),
                among: need("among", self.among.take())?,
                row: need("row", self.row.take())?,
                column: need("column", self.column.take())?,
            }),
            Kind::Wrk => Test::Wrk { target: need("target", self.target.take())?, bound: self.bound()? },
            Kind::Untold => Test::Untold { because: need("because", self.because.take())? },
        })
    }

    fn of(&mut self) -> Result<Of, String> {
        Ok(Of {
            scenario: need("scenario", self.scenario.take())?,
            target: need("target", self.target.take())?,
            measure: need("measure", self.measure.take())?,
        })
    }

    fn pair(&mut self) -> Result<Pair, String> {
        Ok(Pair {
            scenario: need("scenario", self.scenario.take())?,
            above: need("above", self.above.take())?,
            below: need("below", self.below.take())?,
            measure: need("measure", self.measure.take())?,
        })
    }

    /// A ratio; or one server's number, if there is none below the line.
    fn turning(&mut self) -> Result<Turning, String> {
        if self.below.is_some() {
            return self.pair().map(Turning::Ratio);
        }
        Ok(Turning::Value(Of {
            scenario: need("scenario", self.scenario.take())?,
            target: need("above", self.above.take())?,
            measure: need("measure", self.measure.take())?,
        }))
    }

    fn bound(&mut self) -> Result<Bound, String> {
        match (self.at_least.take(), self.at_most.take()) {
            (Some(value), None) => Ok(Bound::AtLeast(value)),
            (None, Some(value)) => Ok(Bound::AtMost(value)),
            _ => Err("a rule needs one bound, \"at-least\" or \"at-most\"".to_owned()),
        }
    }

    /// A word that the kind didn't take.
    fn left_over(&self) -> Option<&'static str> {
        let texts = [
            ("scene", &self.scene),
            ("scenario", &self.scenario),
            ("target", &self.target),
            ("beside", &self.beside),
            ("above", &self.above),
            ("below", &self.below),
            ("expected", &self.expected),
            ("because", &self.because),
            ("row", &self.row),
            ("column", &self.column),
        ];
        let numbers = [
            ("at", self.at),
            ("from", self.from),
            ("to", self.to),
            ("at-least", self.at_least),
            ("at-most", self.at_most),
            ("tolerance", self.tolerance),
        ];
        let texts = texts.into_iter().filter(|(_, found)| found.is_some()).map(|(word, _)| word);
        let numbers = numbers.into_iter().filter(|(_, found)| found.is_some()).map(|(word, _)| word);
        let others = [("measure", self.measure.is_some()), ("among", self.among.is_some())];
        let others = others.into_iter().filter(|(_, is_there)| *is_there).map(|(word, _)| word);
        texts.chain(numbers).chain(others).next()
    }
}

impl Test {
    /// The scenario that it needs.
    pub(crate) fn scenario(&self) -> Option<&str> {
        match self {
            Test::Shown { .. } | Test::Wrk { .. } | Test::Untold { .. } => None,
            Test::Value { of, .. } | Test::Slope { of, .. } => Some(&of.scenario),
            Test::Ratio { of, .. } | Test::Change { of, .. } => Some(&of.scenario),
            Test::Turns { of: Turning::Ratio(of), .. } => Some(&of.scenario),
            Test::Turns { of: Turning::Value(of), .. } => Some(&of.scenario),
            Test::Limit { scenario, .. } | Test::Cheapest { scenario, .. } => Some(scenario),
            Test::Field(FieldRule { scenario, .. }) => Some(scenario),
        }
    }

    /// The servers that it needs.
    pub(crate) fn targets(&self) -> Vec<&str> {
        match self {
            Test::Shown { .. } | Test::Untold { .. } => Vec::new(),
            Test::Value { of, .. } => vec![&of.target],
            Test::Slope { of, beside, .. } => {
                std::iter::once(of.target.as_str()).chain(beside.as_deref()).collect()
            }
            Test::Ratio { of, .. } | Test::Change { of, .. } => vec![&of.above, &of.below],
            Test::Turns { of: Turning::Ratio(of), .. } => vec![&of.above, &of.below],
            Test::Turns { of: Turning::Value(of), .. } => vec![&of.target],
            Test::Limit { target, .. } | Test::Wrk { target, .. } => vec![target],
            Test::Cheapest { among, .. } | Test::Field(FieldRule { among, .. }) => {
                among.iter().map(String::as_str).collect()
            }
        }
    }

    /// The points that it needs; none for all, or the only one.
    pub(crate) fn points(&self) -> Vec<f64> {
        match self {
            Test::Value { at, .. }
            | Test::Ratio { at, .. }
            | Test::Cheapest { at, .. }
            | Test::Field(FieldRule { at, .. }) => at.iter().copied().collect(),
            Test::Change { from, to, .. } => vec![*from, *to],
            _ => Vec::new(),
        }
    }

    /// What its number is held against.
    pub(crate) fn bound(&self) -> Option<f64> {
        match self {
            Test::Value { bound, .. }
            | Test::Ratio { bound, .. }
            | Test::Change { bound, .. }
            | Test::Slope { bound, .. }
            | Test::Turns { bound, .. }
            | Test::Limit { bound, .. }
            | Test::Wrk { bound, .. } => Some(bound.value()),
            Test::Cheapest { tolerance, .. } => Some(*tolerance),
            Test::Shown { .. } | Test::Untold { .. } | Test::Field(_) => None,
        }
    }

    /// The scene that it needs.
    pub(crate) fn scene(&self) -> Option<&str> {
        if let Test::Shown { scene } = self { Some(scene) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Rule, String> {
        toml::from_str(&format!("says = \"x\"\n{text}")).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn rules_are_read_whole_or_not_at_all() {
        let ratio = "kind = \"ratio\"\nscenario = \"load\"\nat = 64\nabove = \"a\"\nbelow = \"b\"\n";
        let whole = format!("{ratio}measure = \"p99\"\nat-least = 5");
        let of = Pair {
            scenario: "load".to_owned(),
            above: "a".to_owned(),
            below: "b".to_owned(),
            measure: Quantity::P99,
        };
        let test = Test::Ratio { of, at: Some(64.0), bound: Bound::AtLeast(5.0) };
        assert_eq!(parse(&whole), Ok(Rule { says: "x".to_owned(), test }));
        let table = [
            (format!("{ratio}at-least = 5"), "a rule lacks \"measure\""),
            (format!("{ratio}measure = \"p99\""), "a rule needs one bound, \"at-least\" or \"at-most\""),
            (format!("{whole}\nat-most = 3"), "a rule needs one bound, \"at-least\" or \"at-most\""),
            (format!("{whole}\nscene = \"C3\""), "\"scene\" means nothing to a rule of the kind Ratio"),
            ("kind = \"shown\"".to_owned(), "a rule lacks \"scene\""),
            (
                "kind = \"shown\"\nscene = \"C3\"\nat = 3".to_owned(),
                "\"at\" means nothing to a rule of the kind Shown",
            ),
            ("kind = \"untold\"".to_owned(), "a rule lacks \"because\""),
        ];
        for (text, expected) in table {
            assert_eq!(parse(&text).unwrap_err(), expected, "{text}");
        }
        assert!(parse("kind = \"guess\"").unwrap_err().starts_with("unknown variant `guess`"));
        assert!(parse("kind = \"untold\"\nbecause = \"\"\nspeed = 1").unwrap_err().contains("unknown field"));
    }

    #[test]
    fn a_value_can_turn_as_well() {
        let text = "kind = \"turns\"\nscenario = \"load\"\nabove = \"a\"\nmeasure = \"p99\"\nat-most = 5";
        let rule = parse(text).unwrap();
        assert_eq!((rule.test.scenario(), rule.test.targets()), (Some("load"), vec!["a"]));
        assert_eq!(parse(&text.replace("above", "target")), Ok(rule));
    }
}
