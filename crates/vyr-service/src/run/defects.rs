//! Defects that tests plant, so that the tests of the invariants can be seen to fail. In the product
//! none is ever there.

/// A rule that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Defect {
    /// An old instance goes before a new one serves.
    DrainBeforeReady,
    /// Slots are replaced all at once.
    SurgeTwice,
    /// A machine is ended before the ingress has left it.
    StopBeforeLeft,
    /// The ingress is told of instances, and not of a plan.
    WaysNotTold,
}

#[cfg(test)]
thread_local! {
    static SEEDED: std::cell::Cell<Option<Defect>> = const { std::cell::Cell::new(None) };
}

/// Whether a rule is left out.
#[cfg(test)]
pub(super) fn seeded(defect: Defect) -> bool {
    SEEDED.get() == Some(defect)
}

/// Whether a rule is left out.
#[cfg(not(test))]
pub(super) const fn seeded(_: Defect) -> bool {
    false
}

/// Leaves a rule out while `f` runs.
#[cfg(test)]
pub(super) fn with<T>(defect: Option<Defect>, f: impl FnOnce() -> T) -> T {
    SEEDED.set(defect);
    let done = f();
    SEEDED.set(None);
    done
}
