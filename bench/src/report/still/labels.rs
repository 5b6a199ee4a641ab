//! Where labels lie, so that they don't run into each other.

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
    fn areas() {
        let area = |left, top| Area { left, top, width: 10.0, height: 10.0 };
        assert!(area(0.0, 0.0).overlaps(area(5.0, 5.0)) && !area(0.0, 0.0).overlaps(area(10.0, 0.0)));
        let page = Area { left: 0.0, top: 0.0, width: 100.0, height: 100.0 };
        let taken = [area(5.0, 5.0)];
        assert!(area(50.0, 50.0).is_free(&taken, page));
        assert!(!area(0.0, 0.0).is_free(&taken, page) && !area(-5.0, 50.0).is_free(&taken, page));
    }
}
