//! A node that cannot write down what it decides: it says so, shows and does nothing that is not written,
//! and goes on by itself.

use std::fs;

use vyr_api::operator::Services;

use crate::disk_full::SmallDisk;
use crate::place::{Place, block, in_time, is_root, until};
use crate::shop::{Deploys, ONE, Shop, applied, outcome, services, settled, still};

/// What it shows, once it says that it stands still.
async fn stuck(client: &mut vyr_api::Client) -> Services {
    until("a node that stands still", async || {
        let told = services(client).await;
        (!told.stuck.is_empty()).then_some(told)
    })
    .await
}

#[test]
fn what_is_not_written_is_neither_shown_nor_done() {
    let (place, mut shop) = (Place::new(), Shop::new());
    block(async {
        let daemon = place.ready().await;
        let mut client = daemon.client().await;
        let one = shop.plan(ONE, &shop.web(0, 1), None);
        assert_eq!(outcome(shop.take(&mut client, &one).await.1).await.0, "succeeded");
        let before = settled(&daemon).await;

        let state = place.data().join("services/state.json");
        let aside = place.path("state.json");
        fs::rename(&state, &aside).expect("ours");
        fs::create_dir(&state).expect("room");
        let two = shop.plan(ONE, &shop.web(1, 2), Some(&applied(&one)));
        let (taken, mut steps) = shop.take(&mut client, &two).await;
        let told = stuck(&mut client).await;
        assert!(told.stuck.contains("state.json"), "{}", told.stuck);
        assert_eq!(still(told), still(before), "what was shown stays");
        // Who waits for it is told, and not that it has ended.
        let step = in_time("a step", steps.message()).await.expect("open").expect("a step");
        assert!(step.said.contains("the node stands still"), "{step:?}");
        // It takes no other one meanwhile.
        let three = shop.plan(ONE, &shop.web(0, 3), Some(&applied(&two)));
        let refused = shop.approved(&three).to(&mut client).await.map(drop);
        let refused = refused.expect_err("nothing can be written");
        assert_eq!((refused.category.as_str(), refused.retryable), ("transient", true));
        assert!(refused.message.contains("state.json"), "{refused:?}");
        assert!(refused.hint.expect("a hint").contains("goes on by itself"));
        assert_eq!(Deploys::of(place.data()).refused.len(), 1);
        assert_eq!(shop.asked(), 0, "nothing was ordered");

        fs::remove_dir(&state).expect("empty");
        fs::rename(&aside, &state).expect("room");
        let told = until("a node that goes on", async || {
            let told = services(&mut client).await;
            told.stuck.is_empty().then_some(told)
        })
        .await;
        assert_eq!((&told.plan_digest, &told.deploying), (&taken.plan_digest, &taken.deploy));
        until("the image is asked for", async || (shop.asked() > 0).then_some(())).await;
        shop.close();
        let (outcome, why) = outcome(steps).await;
        assert!(outcome == "failed" && why.contains("image_pull_failed"), "{outcome}: {why}");
        assert_eq!(Deploys::of(place.data()).end(&taken.deploy).0, "failed");
    });
}

#[test]
fn a_full_disk_stops_services_where_they_are_until_there_is_room() {
    const TEST: &str =
        "deploys_stuck::a_full_disk_stops_services_where_they_are_until_there_is_room";
    if !is_root(TEST) {
        return;
    }
    let Some(disk) = SmallDisk::mount(TEST) else { return };
    let (place, mut shop) = (Place::with_data(disk.data()), Shop::new());
    block(async {
        let daemon = place.ready().await;
        let mut client = daemon.client().await;
        let one = shop.plan(ONE, &shop.web(1, 1), None);
        let (taken, steps) = shop.take(&mut client, &one).await;
        until("the image is asked for", async || (shop.asked() > 0).then_some(())).await;
        let before = services(&mut client).await;
        assert_eq!(before.slots[0].instances[0].state, "booting", "{before:?}");
        disk.fill();
        // What comes of it cannot be written.
        shop.close();
        let told = stuck(&mut client).await;
        assert!(told.stuck.contains("full") || told.stuck.contains("space"), "{}", told.stuck);
        assert_eq!(still(told), still(before), "what was shown stays");
        let two = shop.plan(ONE, &shop.web(0, 2), Some(&applied(&one)));
        let refused = shop.approved(&two).to(&mut client).await.map(drop);
        let refused = refused.expect_err("the disk is full");
        assert_eq!((refused.category.as_str(), refused.retryable), ("transient", true));
        disk.clear();
        let (outcome, why) = outcome(steps).await;
        assert!(outcome == "failed" && why.contains("image_pull_failed"), "{outcome}: {why}");
        let told = settled(&daemon).await;
        assert_eq!((told.stuck.as_str(), told.plan_digest), ("", taken.plan_digest));
        assert_eq!(Deploys::of(place.data()).end(&taken.deploy).0, "failed");
    });
}
