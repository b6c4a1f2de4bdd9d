//! Every single fault of a small repository goes through the three repairs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tillsafe::backend::{Backend, Class, MemBackend, Object};
use tillsafe::error::ExitCode;
use tillsafe::id::Id;
use tillsafe::repository::Repository;
use tillsafe::repository::pack::{BlobKind, PackedBlob};
use tillsafe::rng::SystemRng;

use tillsafe::repository::repair::{IndexReport, PacksReport};

use super::{assert_nothing_given_up, content, index, packs, repair_all, restorable, snapshots};
use crate::common::library::PASSWORD;
use crate::damage::kinds::{How, WAYS};
use crate::damage::{Small, full_check, master, named, open};

/// A copy without its lock: repairs want to be alone.
pub fn unlocked(small: &Small) -> Arc<MemBackend> {
    let backend = small.copy();
    for lock in small.of_class(Class::Locks) {
        backend.delete(lock).unwrap();
    }
    backend
}

/// What became of the faults of one kind.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    faults: usize,
    /// Those after which all six files are there.
    nothing_lost: usize,
    /// Those after which a check is clean.
    clean: usize,
}

/// Takes a repository with one fault through the three repairs; what cannot be mended is `beyond`.
fn mend(
    backend: &Arc<MemBackend>,
    password: &str,
    forget: bool,
    beyond: &[String],
    what: &str,
) -> Tally {
    let repository = open(backend, password).unwrap_or_else(|cause| panic!("{what}: {cause}"));
    let before = restorable(&repository);
    // What would be done is what is done, and looking does nothing.
    let at_first = content(backend.as_ref());
    let would = index(&repository, true).unwrap();
    assert_eq!(
        content(backend.as_ref()),
        at_first,
        "{what}: only looked at"
    );
    let did = index(&repository, false).unwrap();
    let changes = content(backend.as_ref()) != at_first;
    assert_eq!(would.all_mended, did.all_mended && !changes, "{what}");
    let would = IndexReport {
        all_mended: did.all_mended,
        ..would
    };
    assert_eq!(did, would, "{what}");
    assert_nothing_given_up(&before, &restorable(&repository), &format!("{what}, index"));
    let second = content(backend.as_ref());
    let would = packs(&repository, None, true).unwrap();
    assert_eq!(content(backend.as_ref()), second, "{what}: only looked at");
    let did = packs(&repository, None, false).unwrap();
    let changes = content(backend.as_ref()) != second;
    assert_eq!(would.all_mended, did.all_mended && !changes, "{what}");
    let would = PacksReport {
        all_mended: did.all_mended,
        ..would
    };
    assert_eq!(did, would, "{what}");
    assert_nothing_given_up(&before, &restorable(&repository), &format!("{what}, packs"));
    let third = content(backend.as_ref());
    let would = snapshots(&repository, forget, true).unwrap();
    assert_eq!(content(backend.as_ref()), third, "{what}: only looked at");
    let did = snapshots(&repository, forget, false).unwrap();
    assert_eq!(did.new_snapshots, would.new_snapshots, "{what}");
    let after = restorable(&repository);
    assert_nothing_given_up(&before, &after, &format!("{what}, snapshots"));

    let report = full_check(&repository);
    let mut left: Vec<&str> = named(&report);
    left.retain(|object| !beyond.iter().any(|beyond| beyond == object));
    let lacks = did.subjects.len();
    // The snapshots that lack something are kept unless they are to go.
    assert!(
        left.is_empty() || (!forget && lacks > 0),
        "{what}: {report:?}"
    );
    assert!(forget || report.lost_paths > 0 || lacks == 0, "{what}");
    assert_eq!(report.unreferenced_packs, 0, "{what}");
    // All is done: once more does nothing.
    let done = content(backend.as_ref());
    repair_all(&repository, forget).unwrap();
    assert_eq!(content(backend.as_ref()), done, "{what}: once more");
    Tally {
        faults: 1,
        nothing_lost: usize::from(after.len() == 6),
        clean: usize::from(report.damage.is_empty()),
    }
}

/// What no repair brings back.
fn beyond(object: Object) -> Vec<String> {
    match object {
        Object::Config | Object::Named(Class::Keys | Class::Snapshots, _) => {
            vec![object.to_string()]
        }
        Object::Named(..) => Vec::new(),
    }
}

fn kind_of(object: Object) -> &'static str {
    match object {
        Object::Config => "config",
        Object::Named(class, _) => class.folder(),
    }
}

/// A repository whose config is damaged is not written: each repair says so.
fn assert_refused(backend: &Arc<MemBackend>, what: &str) {
    let repository = open(backend, PASSWORD).unwrap();
    let before = content(backend.as_ref());
    for refused in [
        index(&repository, false).map(drop),
        packs(&repository, None, false).map(drop),
        snapshots(&repository, true, false).map(drop),
    ] {
        assert_eq!(refused.unwrap_err().exit_code(), ExitCode::Damage, "{what}");
    }
    assert_eq!(content(backend.as_ref()), before, "{what}");
}

/// One flipped bit in each byte.
#[test]
fn every_flipped_byte_is_mended_or_named() {
    let small = Small::make();
    let is_meant = |object: &&Object| !matches!(object, Object::Named(Class::Locks, _));
    let bytes: Vec<(Object, usize)> = small
        .objects
        .keys()
        .filter(is_meant)
        .flat_map(|object| (0..small.objects[object].len()).map(|offset| (*object, offset)))
        .collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
        while let Some((object, offset)) = bytes.get(next.fetch_add(1, Ordering::Relaxed)) {
            let what = format!("{object}, byte {offset}");
            let backend = unlocked(&small);
            backend.damage(*object, |bytes| bytes[*offset] ^= 1 << (offset % 8));
            if *object == Object::Config {
                assert_refused(&backend, &what);
                continue;
            }
            let (password, forget) = (small.password_beside(*object), offset % 2 == 0);
            let tally = mend(&backend, password, forget, &beyond(*object), &what);
            add(tallies.entry(kind_of(*object)).or_default(), tally);
        }
        tallies
    };
    let mut all: BTreeMap<&str, Tally> = BTreeMap::new();
    std::thread::scope(|scope| {
        for thread in [scope.spawn(work), scope.spawn(work)] {
            for (kind, tally) in thread.join().unwrap() {
                add(all.entry(kind).or_default(), tally);
            }
        }
    });
    print(&all);
    assert_eq!(all.len(), 4, "every class");
    assert_eq!(all["index"].clean, all["index"].faults);
    assert_eq!(all["index"].nothing_lost, all["index"].faults);
}

fn add(sum: &mut Tally, tally: Tally) {
    sum.faults += tally.faults;
    sum.nothing_lost += tally.nothing_lost;
    sum.clean += tally.clean;
}

fn print(all: &BTreeMap<&str, Tally>) {
    for (kind, tally) in all {
        let Tally {
            faults,
            nothing_lost,
            clean,
        } = tally;
        println!("{kind}: {faults} faults; {nothing_lost} lose nothing; {clean} checks clean");
    }
}

#[test]
fn each_kind_of_file_hurt_in_each_way_is_mended_or_named() {
    let small = Small::make();
    let mut all: BTreeMap<&str, Tally> = BTreeMap::new();
    for object in small.objects.keys() {
        if matches!(object, Object::Named(Class::Locks, _)) {
            continue;
        }
        for (how, forget) in WAYS.into_iter().flat_map(|how| [(how, false), (how, true)]) {
            let what = format!("{how:?} {object}, forget {forget}");
            let backend = unlocked(&small);
            how.hurt(&backend, *object);
            if *object == Object::Config {
                assert_refused(&backend, &what);
                continue;
            }
            let password = small.password_beside(*object);
            let tally = mend(&backend, password, forget, &beyond(*object), &what);
            add(all.entry(kind_of(*object)).or_default(), tally);
        }
    }
    print(&all);
    let data = all["data"];
    assert!(
        data.faults >= 40 && data.clean > data.faults / 2,
        "{data:?}"
    );
}

/// An index file as JSON, sealed with the right key.
pub fn put_index(backend: &MemBackend, index: &Value) -> Object {
    let plain = serde_json::to_vec(index).unwrap();
    let sealed = master(backend).seal(&plain, &SystemRng).unwrap();
    let object = Object::Named(Class::Index, Id::of(&sealed));
    backend.put_new(object, &sealed).unwrap();
    object
}

fn id_of(object: Object) -> Id {
    match object {
        Object::Named(_, id) => id,
        Object::Config => panic!("it has no id"),
    }
}

fn entry(blob: &PackedBlob) -> Value {
    json!({"id": blob.id, "type": blob.kind, "offset": blob.offset, "length": blob.length,
        "uncompressed_length": blob.plain_length})
}

pub fn pack_entry(pack: Object, blobs: &[PackedBlob]) -> Value {
    let blobs: Vec<Value> = blobs.iter().map(entry).collect();
    json!({"id": id_of(pack), "blobs": blobs})
}

pub fn delete(backend: &MemBackend, objects: &[Object]) {
    for object in objects {
        backend.delete(*object).unwrap();
    }
}

fn swap(backend: &MemBackend, one: Object, other: Object) {
    let (first, second) = (
        backend.get(one, 1 << 20).unwrap(),
        backend.get(other, 1 << 20).unwrap(),
    );
    backend.damage(one, |bytes| *bytes = second);
    backend.damage(other, |bytes| *bytes = first);
}

/// Faults that no single bit makes: names exchanged, things said twice, and said otherwise.
#[test]
fn what_is_said_twice_otherwise_or_of_another_is_mended() {
    let small = Small::make();
    let packs: Vec<(Object, Vec<PackedBlob>)> = small
        .packs
        .iter()
        .map(|(pack, blobs)| (*pack, blobs.clone()))
        .collect();
    let indexes = small.of_class(Class::Index);
    let mut scenes = 0;
    let mut play = |what: &str, hurt: &dyn Fn(&MemBackend)| {
        for forget in [false, true] {
            let backend = unlocked(&small);
            hurt(&backend);
            let tally = mend(&backend, PASSWORD, forget, &[], what);
            assert_eq!((tally.clean, tally.nothing_lost), (1, 1), "{what}");
            scenes += 1;
        }
    };
    play("nothing", &|_| {});
    play("the index swapped", &|backend| {
        swap(backend, indexes[0], indexes[1]);
    });
    play("no index", &|backend| {
        delete(backend, &indexes);
    });
    for (number, (pack, blobs)) in packs.iter().enumerate() {
        for (other, _) in &packs[..number] {
            play(&format!("{pack} and {other} swapped"), &|backend| {
                swap(backend, *pack, *other);
            });
        }
        play(&format!("{pack} twice"), &|backend| {
            let bytes = backend.get(*pack, 1 << 20).unwrap();
            let copy = Object::Named(Class::Data, Id::of(b"another name"));
            backend.put_new(copy, &bytes).unwrap();
        });
        play(&format!("{pack} indexed twice"), &|backend| {
            put_index(backend, &json!({"packs": [pack_entry(*pack, blobs)]}));
        });
        play(&format!("{pack} marked as well"), &|backend| {
            put_index(
                backend,
                &json!({"packs": [], "packs_to_delete": [pack_entry(*pack, blobs)]}),
            );
        });
        let wrong: [fn(&mut PackedBlob); 5] = [
            |blob| blob.length -= 1,
            |blob| blob.offset += 1,
            |blob| blob.id = Id::of(b"nothing"),
            |blob| blob.plain_length = Some(1),
            |blob| {
                blob.kind = if blob.kind == BlobKind::Data {
                    BlobKind::Tree
                } else {
                    BlobKind::Data
                }
            },
        ];
        for (way, change) in wrong.into_iter().enumerate() {
            let mut changed = blobs.clone();
            changed.iter_mut().for_each(change);
            play(
                &format!("{pack} indexed otherwise as well, way {way}"),
                &|backend| {
                    put_index(backend, &json!({"packs": [pack_entry(*pack, &changed)]}));
                },
            );
            play(
                &format!("{pack} only indexed otherwise, way {way}"),
                &|backend| {
                    delete(backend, &indexes);
                    let all = packs.iter().map(|(other, blobs)| {
                        pack_entry(*other, if other == pack { &changed } else { blobs })
                    });
                    put_index(backend, &json!({"packs": all.collect::<Vec<_>>()}));
                },
            );
        }
        play(&format!("{pack} indexed in part"), &|backend| {
            put_index(backend, &json!({"packs": [pack_entry(*pack, &blobs[..1])]}));
        });
        play(&format!("{pack} said to hold nothing"), &|backend| {
            put_index(backend, &json!({"packs": [pack_entry(*pack, &[])]}));
        });
        play(
            &format!("{pack} also under a name that is not there"),
            &|backend| {
                let gone = Object::Named(Class::Data, Id::of(b"gone"));
                put_index(
                    backend,
                    &json!({"packs": [pack_entry(*pack, blobs), pack_entry(gone, blobs)]}),
                );
            },
        );
    }
    println!("{scenes} scenes");
    assert!(scenes > 100, "{scenes}");
}

/// Packs that are marked for deletion stay so, with their times, and those that are gone are forgotten.
#[test]
fn marks_survive_with_their_times() {
    let small = Small::make();
    let backend = unlocked(&small);
    for object in small.of_class(Class::Index) {
        backend.delete(object).unwrap();
    }
    let mut entries: Vec<Value> = small
        .packs
        .iter()
        .map(|(pack, blobs)| pack_entry(*pack, blobs))
        .collect();
    let mut marked = entries.pop().unwrap();
    let id = marked["id"].clone();
    marked["time"] = "2026-11-20T10:00:00Z".into();
    let mut gone = marked.clone();
    gone["id"] = json!(Id::of(b"gone"));
    let old = put_index(
        &backend,
        &json!({"packs": entries, "packs_to_delete": [marked, gone]}),
    );
    let repository = open(&backend, PASSWORD).unwrap();
    let before = restorable(&repository);
    let report = index(&repository, false).unwrap();
    assert_eq!(
        (report.gone_packs, report.new_files, report.removed_files),
        (1, 1, 1)
    );
    assert!(backend.get(old, 1 << 20).is_err());
    let (object, sealed) = content(backend.as_ref())
        .into_iter()
        .find(|(object, _)| matches!(object, Object::Named(Class::Index, _)))
        .unwrap();
    let plain = master(backend.as_ref()).open(&sealed).unwrap();
    let plain = tillsafe::repository::compress::decompress_unsized(&plain[1..], 1 << 20).unwrap();
    let new: Value = serde_json::from_slice(&plain).unwrap();
    assert_eq!(
        new["packs_to_delete"].as_array().unwrap().len(),
        1,
        "{object}: {new}"
    );
    let mark = &new["packs_to_delete"][0];
    assert_eq!(
        (&mark["id"], &mark["time"]),
        (&id, &"2026-11-20T10:00:00Z".into())
    );
    assert_eq!(restorable(&repository), before);
}

/// With the index gone nobody knows what lies in a pack without a header. It goes only by its name.
#[test]
fn a_pack_that_nobody_can_describe_goes_only_when_it_is_named() {
    let small = Small::make();
    let backend = unlocked(&small);
    for object in small.of_class(Class::Index) {
        backend.delete(object).unwrap();
    }
    let (pack, _) = small.packs.iter().next().unwrap();
    backend.damage(*pack, |bytes| {
        let last = bytes.len() - 5;
        bytes[last] ^= 1;
    });
    let repository = open(&backend, PASSWORD).unwrap();
    let before = restorable(&repository);
    let report = index(&repository, false).unwrap();
    assert!(
        !report.all_mended
            && report
                .notes
                .iter()
                .any(|note| note.object == pack.to_string())
    );
    let report = packs(&repository, None, false).unwrap();
    assert!(
        !report.all_mended && report.removed_packs == 0,
        "{report:?}"
    );
    assert!(backend.get(*pack, 1 << 20).is_ok());
    let only = [id_of(*pack)].into();
    let report = packs(&repository, Some(&only), false).unwrap();
    assert!(report.all_mended && report.removed_packs == 1, "{report:?}");
    assert!(backend.get(*pack, 1 << 20).is_err());
    assert_eq!(restorable(&repository), before);
    snapshots(&repository, true, false).unwrap();
    assert_eq!(restorable(&repository), before);
    assert_eq!(full_check(&repository).damage, []);
}

/// All packs but those given are left alone, whatever is wrong with them.
#[test]
fn only_the_packs_that_are_named_are_repaired() {
    let small = Small::make();
    let backend = unlocked(&small);
    let packs_there: Vec<Object> = small.packs.keys().copied().collect();
    for pack in &packs_there {
        How::Flip.hurt(&backend, *pack);
    }
    let repository = open(&backend, PASSWORD).unwrap();
    let before = restorable(&repository);
    for pack in &packs_there {
        let others = content(backend.as_ref());
        let report = packs(&repository, Some(&[id_of(*pack)].into()), false).unwrap();
        assert_eq!(
            (report.packs_read, report.removed_packs),
            (1, 1),
            "{report:?}"
        );
        let left = content(backend.as_ref());
        let stay = packs_there.iter().filter(|other| *other != pack);
        for other in stay {
            assert_eq!(left.get(other), others.get(other), "{pack}");
        }
        assert_nothing_given_up(&before, &restorable(&repository), &pack.to_string());
    }
    assert_lacks_nothing_of(&repository);
}

fn assert_lacks_nothing_of(repository: &Repository) {
    snapshots(repository, true, false).unwrap();
    assert_eq!(full_check(repository).damage, []);
}
