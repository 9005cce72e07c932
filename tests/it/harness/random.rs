//! Numbers that a seed decides, so that a failure can be had again.

/// See the module.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// From 0 to below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }
}
