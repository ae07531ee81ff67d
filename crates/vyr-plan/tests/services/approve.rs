//! Approvals of a services plan are counted as those of a network plan: same code, own parent.

use jiff::Timestamp;
use vyr_plan::plan::TrustRoot;
use vyr_plan::{Approval, ApprovalError, Root, Signed, approve};

use crate::shop::{applied, plan, shop, with};

fn unsigned(digest: vyr_base::Digest) -> Signed {
    let text = Approval { plan: digest, expires: Timestamp::MAX }.to_text().into_bytes();
    Signed { name: "nobody.approval".into(), text, signature: b"none".to_vec() }
}

#[test]
fn a_services_plan_needs_its_own_parent_and_a_higher_epoch() {
    let first = applied(plan(&shop(), None));
    let next = applied(plan(&with(&[("scale.min = 2", "scale.min = 1")]), Some(&first)));
    let over = |root: Root<'_, _>, of: &vyr_plan::Applied<_>| {
        approve(&of.plan, &of.digest, root, &[unsigned(of.digest)], Timestamp::MIN)
    };
    let root = Root::Plan(&first.plan, first.digest);
    let few = over(root, &next).expect_err("nobody signed");
    assert!(matches!(few, ApprovalError::TooFew { found: 0, threshold: 1, .. }), "{few}");
    let replayed = over(Root::Plan(&next.plan, next.digest), &first).expect_err("it is older");
    assert!(matches!(replayed, ApprovalError::Replayed { epoch: 1, applied: 2 }), "{replayed}");
    let same = over(Root::Plan(&first.plan, next.digest), &next).expect_err("another parent");
    assert!(matches!(same, ApprovalError::Parent), "{same}");
}

#[test]
fn the_threshold_of_services_is_their_own() {
    let plan = plan(&shop(), None);
    assert_eq!(plan.trust.threshold, 1, "threshold_services, and not the network's two");
    let none = with(&[("threshold_services = 1, ", "")]);
    assert_eq!(crate::shop::plan(&none, None).trust.threshold, 2, "absent: as many");
    let keys = TrustRoot { threshold: 0, operators: Vec::new(), from: Vec::new() };
    let digest = plan.digest().expect("one");
    let nobody = approve(&plan, &digest, Root::Keys(&keys), &[], Timestamp::MIN);
    nobody.expect_err("a root without keys approves nothing");
}
