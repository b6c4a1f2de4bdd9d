//! One conformance suite for every storage.

use std::sync::Arc;

use tillsafe::backend::{Backend, CachedBackend, Class, Error, LocalBackend, MemBackend, Object};
use tillsafe::durable::OsDisk;
use tillsafe::id::Id;
use tillsafe::rng::SystemRng;

use crate::common::Place;

/// Every storage, empty.
fn backends(place: &Place) -> Vec<(&'static str, Box<dyn Backend>)> {
    let local = LocalBackend::new(place.join("local"), Arc::new(OsDisk), Arc::new(SystemRng));
    let storage = Arc::new(MemBackend::default());
    let cache = LocalBackend::new(place.join("cache"), Arc::new(OsDisk), Arc::new(SystemRng));
    let cached = CachedBackend::new(storage, Arc::new(cache));
    vec![
        ("mem", Box::new(MemBackend::default())),
        ("local", Box::new(local)),
        ("cached", Box::new(cached)),
    ]
}

fn each(test: impl Fn(&str, &dyn Backend)) {
    let place = Place::new();
    for (name, backend) in backends(&place) {
        backend.create().unwrap();
        test(name, backend.as_ref());
    }
}

const LIMIT: u64 = 1 << 20;

fn object(class: Class, text: &str) -> Object {
    Object::Named(class, Id::of(text.as_bytes()))
}

#[test]
fn what_was_put_comes_back() {
    each(|name, backend| {
        for class in Class::ALL {
            let bytes = format!("{class:?} of {name}").into_bytes();
            backend.put_new(object(class, "a"), &bytes).unwrap();
            assert_eq!(
                backend.get(object(class, "a"), LIMIT).unwrap(),
                bytes,
                "{name}"
            );
            assert_eq!(
                backend.get_range(object(class, "a"), 2, 3).unwrap(),
                bytes[2..5],
                "{name}"
            );
        }
        backend.put_new(Object::Config, b"config").unwrap();
        assert_eq!(
            backend.get(Object::Config, LIMIT).unwrap(),
            b"config",
            "{name}"
        );
    });
}

#[test]
fn a_name_is_given_once() {
    each(|name, backend| {
        for object in [Object::Config, object(Class::Data, "a")] {
            backend.put_new(object, b"first").unwrap();
            let again = backend.put_new(object, b"second").unwrap_err();
            assert!(matches!(again, Error::AlreadyExists), "{name}: {again}");
            assert_eq!(backend.get(object, LIMIT).unwrap(), b"first", "{name}");
        }
    });
}

#[test]
fn what_is_not_there_is_not_found() {
    each(|name, backend| {
        let object = object(Class::Snapshots, "none");
        assert!(
            matches!(backend.get(object, LIMIT), Err(Error::NotFound)),
            "{name}"
        );
        assert!(
            matches!(backend.get_range(object, 0, 1), Err(Error::NotFound)),
            "{name}"
        );
        assert!(
            matches!(backend.delete(object), Err(Error::NotFound)),
            "{name}"
        );
        assert!(
            matches!(backend.get(Object::Config, LIMIT), Err(Error::NotFound)),
            "{name}"
        );
    });
}

#[test]
fn a_range_beyond_the_end_and_an_object_beyond_the_limit_are_errors() {
    each(|name, backend| {
        let object = object(Class::Data, "a");
        backend.put_new(object, &[7; 100]).unwrap();
        for (offset, length) in [(0, 101), (100, 1), (u64::MAX, 1)] {
            let refused = backend.get_range(object, offset, length);
            assert!(
                matches!(refused, Err(Error::NotFound)),
                "{name}: {offset} {length}"
            );
        }
        assert_eq!(backend.get_range(object, 100, 0).unwrap(), b"", "{name}");
        assert!(backend.get(object, 99).is_err(), "{name}");
        assert_eq!(backend.get(object, 100).unwrap().len(), 100, "{name}");
    });
}

#[test]
fn a_listing_is_one_class_with_sizes() {
    each(|name, backend| {
        for (text, size) in [("a", 1), ("b", 70_000)] {
            backend
                .put_new(object(Class::Data, text), &vec![0; size])
                .unwrap();
        }
        backend.put_new(object(Class::Index, "c"), b"c").unwrap();
        let mut expected = vec![(Id::of(b"a"), 1), (Id::of(b"b"), 70_000)];
        expected.sort_unstable();
        let listing = backend.list(Class::Data).unwrap();
        assert_eq!(listing.objects, expected, "{name}");
        assert!(listing.strays.is_empty(), "{name}");
        assert!(
            backend.list(Class::Keys).unwrap().objects.is_empty(),
            "{name}"
        );
        backend.delete(object(Class::Data, "a")).unwrap();
        assert_eq!(
            backend.list(Class::Data).unwrap().objects,
            expected
                .into_iter()
                .filter(|(id, _)| *id != Id::of(b"a"))
                .collect::<Vec<_>>(),
            "{name}"
        );
    });
}

#[test]
fn two_writers_of_one_name_leave_one_whole_object() {
    each(|name, backend| {
        let object = object(Class::Data, "a");
        let put = |byte: u8| backend.put_new(object, &vec![byte; 300_000]).is_ok();
        let (first, second) = std::thread::scope(|scope| {
            let first = scope.spawn(|| put(1));
            let second = put(2);
            (first.join().unwrap(), second)
        });
        assert!(first ^ second, "{name}: exactly one succeeds");
        let expected = vec![if first { 1 } else { 2 }; 300_000];
        assert_eq!(backend.get(object, LIMIT).unwrap(), expected, "{name}");
    });
}

#[test]
fn a_missing_folder_is_not_empty_and_is_made_when_needed() {
    let place = Place::new();
    let backend = LocalBackend::new(place.join("local"), Arc::new(OsDisk), Arc::new(SystemRng));
    backend.create().unwrap();
    for class in Class::ALL {
        std::fs::remove_dir(place.join("local").join(class.folder())).unwrap();
        let listed = backend.list(class);
        // Whoever takes a lock makes that folder; copy tools leave it out.
        let is_right = match class {
            Class::Locks => listed.is_ok_and(|listing| listing.objects.is_empty()),
            _ => matches!(listed, Err(Error::NotFound)),
        };
        assert!(is_right, "{class:?}");
    }
    // Only the innermost folder is missing in a repository that restic or a copy tool made.
    std::fs::create_dir(place.join("local/data")).unwrap();
    backend.put_new(object(Class::Data, "a"), b"a").unwrap();
    assert_eq!(backend.list(Class::Data).unwrap().objects.len(), 1);
}

#[test]
fn strays_are_named_and_a_missing_root_is_an_error() {
    let place = Place::new();
    let backend = LocalBackend::new(place.join("local"), Arc::new(OsDisk), Arc::new(SystemRng));
    assert!(backend.put_new(object(Class::Keys, "a"), b"a").is_err());
    backend.create().unwrap();
    std::fs::write(place.join("local/snapshots/notes.txt"), "x").unwrap();
    std::fs::create_dir(
        place
            .join("local/index")
            .join(Id::of(b"folder").to_string()),
    )
    .unwrap();
    assert_eq!(
        backend.list(Class::Snapshots).unwrap().strays,
        ["notes.txt"]
    );
    let index = backend.list(Class::Index).unwrap();
    assert!(index.objects.is_empty() && index.strays.len() == 1);
}

#[test]
fn objects_are_for_their_owner_alone_and_nothing_temporary_stays() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let backend = LocalBackend::new(place.join("local"), Arc::new(OsDisk), Arc::new(SystemRng));
    backend.create().unwrap();
    backend.put_new(object(Class::Keys, "a"), b"a").unwrap();
    let _ = backend.put_new(object(Class::Keys, "a"), b"b");
    let names: Vec<_> = std::fs::read_dir(place.join("local/keys"))
        .unwrap()
        .map(|item| item.unwrap().path())
        .collect();
    assert_eq!(names.len(), 1, "{names:?}");
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&names[0]), 0o400);
    assert_eq!(mode(&place.join("local")), 0o700);
    assert_eq!(mode(&place.join("local/keys")), 0o700);
}

/// Whether the kernel has what the object begins with in its memory; `None` where the disk is never passed by.
fn is_cached(place: &Place, object: Object) -> Option<bool> {
    use rustix::io::{Errno, ReadWriteFlags, preadv2};
    use tillsafe::durable::file_system::{EXT, XFS, kind_of_held};
    let file = std::fs::File::open(place.join("local").join(object.to_string())).unwrap();
    let is_known = [EXT, XFS].contains(&kind_of_held(&file).unwrap());
    let mut byte = [0];
    let into = &mut [std::io::IoSliceMut::new(&mut byte)];
    is_known.then(|| match preadv2(&file, into, 0, ReadWriteFlags::NOWAIT) {
        Ok(_) => true,
        Err(cause) => {
            assert_eq!(cause, Errno::AGAIN);
            false
        }
    })
}

#[test]
fn packs_do_not_push_out_what_others_have_in_the_cache() {
    let place = Place::new();
    let local = LocalBackend::new(place.join("local"), Arc::new(OsDisk), Arc::new(SystemRng));
    local.create().unwrap();
    for length in [1 << 20, (1 << 20) + 1] {
        let bytes = vec![7; length];
        for class in [Class::Data, Class::Index] {
            let object = object(class, &length.to_string());
            local.put_new(object, &bytes).unwrap();
            let cached = is_cached(&place, object);
            assert!(cached.is_none_or(|cached| cached == (class == Class::Index)));
            assert_eq!(local.get(object, 2 * LIMIT).unwrap(), bytes);
        }
    }
}
