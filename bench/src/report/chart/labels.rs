//! Labels that don't run into each other.

/// Moves labels along a line so that neighbours are at least `gap` apart and all lie between `low` and `high`,
/// each as near to where it belongs as that allows. The result has the order of `wanted`.
pub(crate) fn spread(wanted: &[f64], gap: f64, low: f64, high: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|one, other| wanted[*one].total_cmp(&wanted[*other]));
    // Labels that touch form a block, which lies where its members want it on average.
    let mut blocks: Vec<(f64, Vec<usize>)> = Vec::new();
    for index in order {
        blocks.push((wanted[index], vec![index]));
        settle(&mut blocks, wanted, gap, low, high);
    }
    let mut placed = vec![0.0; wanted.len()];
    for (middle, members) in blocks {
        for (rank, index) in members.iter().enumerate() {
            placed[*index] = middle + (rank as f64 - (members.len() - 1) as f64 / 2.0) * gap;
        }
    }
    placed
}

/// Keeps the last block inside, and joins blocks that touch.
fn settle(blocks: &mut Vec<(f64, Vec<usize>)>, wanted: &[f64], gap: f64, low: f64, high: f64) {
    let half = |members: &[usize]| (members.len() - 1) as f64 / 2.0 * gap;
    let inside = |middle: f64, members: &[usize]| {
        let reach = half(members);
        if low + reach > high - reach {
            f64::midpoint(low, high)
        } else {
            middle.clamp(low + reach, high - reach)
        }
    };
    while let Some((middle, members)) = blocks.pop() {
        let middle = inside(middle, &members);
        match blocks.last() {
            Some((before, others)) if middle - half(&members) < before + half(others) + gap - 1e-9 => {
                let mut joined = others.clone();
                joined.extend(members);
                let sum: f64 = joined.iter().map(|index| wanted[*index]).sum();
                let middle = sum / joined.len() as f64;
                blocks.pop();
                blocks.push((middle, joined));
            }
            _ => {
                blocks.push((middle, members));
                return;
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Area {
    pub(crate) left: f64,
    pub(crate) top: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

impl Area {
    /// Whether the two have a point in common, edges left out.
    pub(crate) fn overlaps(self, other: Area) -> bool {
        self.left < other.left + other.width
            && other.left < self.left + self.width
            && self.top < other.top + other.height
            && other.top < self.top + self.height
    }

    pub(crate) fn is_within(self, other: Area) -> bool {
        other.left <= self.left
            && other.top <= self.top
            && self.left + self.width <= other.left + other.width
            && self.top + self.height <= other.top + other.height
    }

    pub(crate) fn is_free(self, taken: &[Area], page: Area) -> bool {
        self.is_within(page) && !taken.iter().any(|taken| taken.overlaps(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_keep_apart_and_inside() {
        let table: [(&[f64], &[f64]); 5] = [
            (&[10.0, 50.0], &[10.0, 50.0]),
            (&[20.0, 20.0], &[15.0, 25.0]),
            (&[0.0, 1.0, 2.0], &[0.0, 10.0, 20.0]),
            (&[100.0, 99.0], &[100.0, 90.0]),
            (&[], &[]),
        ];
        for (wanted, expected) in table {
            assert_eq!(spread(wanted, 10.0, 0.0, 100.0), expected, "{wanted:?}");
        }
    }

    #[test]
    fn many_labels_never_touch() {
        let mut random = crate::random::Random::new(3);
        for _ in 0..200 {
            let wanted: Vec<f64> = (0..21).map(|_| random.below(400) as f64).collect();
            let mut placed = spread(&wanted, 17.0, 0.0, 400.0);
            placed.sort_by(f64::total_cmp);
            assert!(placed.windows(2).all(|pair| pair[1] - pair[0] > 16.999), "{placed:?}");
            assert!(placed[0] > -0.001 && placed[20] < 400.001, "{placed:?}");
        }
    }

    #[test]
    fn areas() {
        let area = |left, top| Area { left, top, width: 10.0, height: 10.0 };
        assert!(area(0.0, 0.0).overlaps(area(5.0, 5.0)) && !area(0.0, 0.0).overlaps(area(10.0, 0.0)));
        let page = Area { left: 0.0, top: 0.0, width: 100.0, height: 100.0 };
        let taken = [area(5.0, 5.0)];
        assert!(area(50.0, 50.0).is_free(&taken, page));
        assert!(!area(0.0, 0.0).is_free(&taken, page) && !area(-5.0, 50.0).is_free(&taken, page));
    }
}
