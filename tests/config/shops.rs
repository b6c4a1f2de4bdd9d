//! `backup` of shops: one, several, all, and what becomes of the others if one fails.

use std::fs;

use super::{USB, World, as_text};
use crate::common::library::snapshots;
use crate::common::program::Run;

const MARA: &str = "[shop.mara]
repository = \"usb\"
[[shop.mara.database]]
engine = \"sqlite\"
path = \"PLACE/mara/shop.db\"
[[shop.mara.files]]
path = \"PLACE/mara/pictures\"
";
const ILSE: &str = "[shop.ilse]
repository = \"usb\"
files = [{ path = \"PLACE/ilse\" }]
";

#[test]
fn a_shop_is_backed_up_by_its_name_and_restored_by_it() {
    let world = World::new();
    let usb = world.repository("usb");
    world.shop("mara", 20);
    world.write(&(USB.to_owned() + MARA));
    let run = world.ok(&["backup", "mara"]);
    assert!(run.stdout.contains("shop.db: "), "{}", run.text());
    assert!(
        run.stdout.contains(as_text(&usb.repository)),
        "{}",
        run.text()
    );
    let all = snapshots(&usb.backend());
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].file.tags, ["shop=mara"]);
    let paths = [world.text("mara/pictures"), world.text("mara/shop.db")];
    assert_eq!(all[0].file.paths, paths);
    world.ok(&[
        "restore",
        "latest",
        "--shop",
        "mara",
        "--target",
        &world.text("back"),
    ]);
    let back = format!(
        "{}{}",
        world.text("back"),
        world.text("mara/pictures/teapot.jpg")
    );
    assert_eq!(
        fs::read(back).unwrap(),
        fs::read(world.path("mara/pictures/teapot.jpg")).unwrap()
    );
}

#[test]
fn all_shops_are_tried_and_the_worst_is_the_end() {
    let world = World::new();
    let usb = world.repository("usb");
    world.shop("ilse", 5);
    world.write(&(USB.to_owned() + MARA + ILSE));
    let run = world.run(&["backup"]);
    assert_eq!(run.code, 14, "{}", run.text());
    assert!(run.stderr.contains("error: shop mara: "), "{}", run.text());
    assert!(
        run.stdout
            .contains("1 of 2 shops saved whole; look at: mara (exit code 14)"),
        "{}",
        run.text()
    );
    assert_eq!(snapshots(&usb.backend()).len(), 1);
    // The first that occurs in the contract's order, whatever the order of the shops.
    fs::write(world.path("ilse/broken.db"), b"SQLite format 3\0broken").unwrap();
    let objects = Run::of(&mut world.command(&["--json", "backup", "ilse", "mara"])).objects();
    let summary = objects.last().unwrap();
    assert_eq!(summary["exit_code"], 14);
    assert_eq!(summary["repository"], as_text(&usb.repository));
    let codes: Vec<_> = summary["shops"]
        .as_array()
        .unwrap()
        .iter()
        .map(|shop| (shop["shop"].clone(), shop["exit_code"].clone()))
        .collect();
    assert_eq!(
        codes,
        [("ilse".into(), 3.into()), ("mara".into(), 14.into())]
    );
    let quiet = world.run(&["-q", "backup", "ilse"]);
    assert_eq!(quiet.code, 3);
}
