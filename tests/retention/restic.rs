//! Stock restic, in two versions, judges the rules: the same snapshots, the same policies, the same
//! reasons.

use std::collections::BTreeMap;

use serde_json::Value;

use super::command::Forged;
use super::{Dice, Rules};
use crate::common::restic::Restic;
use crate::common::tools::{restics, skipped};

/// What keeps each snapshot, by its time; nothing if it goes.
type Reasons = BTreeMap<String, Vec<String>>;

/// Rules as words; ours and restic's are the same.
fn words(rules: &Rules) -> Vec<String> {
    let mut words = Vec::new();
    for (flag, number) in [
        ("--keep-last", rules.last),
        ("--keep-hourly", rules.hourly),
        ("--keep-daily", rules.daily),
        ("--keep-weekly", rules.weekly),
        ("--keep-monthly", rules.monthly),
        ("--keep-yearly", rules.yearly),
    ] {
        if number > 0 {
            words.extend([flag.to_owned(), number.to_string()]);
        }
    }
    if let Some(within) = rules.within {
        words.extend(["--keep-within".to_owned(), within.to_string()]);
    }
    for tags in &rules.tags {
        words.extend(["--keep-tag".to_owned(), tags.join(",")]);
    }
    words
}

fn ours(forged: &Forged, words: &[&str]) -> Reasons {
    let words = [&["forget", "--dry-run"], words].concat();
    let (code, objects) = forged.program.json(&words);
    assert_eq!(code, 0, "{words:?}: {objects:?}");
    let decisions = objects
        .iter()
        .filter(|object| object["message_type"] == "decision");
    let reasons = |object: &Value| {
        let all = object["reasons"].as_array().unwrap().iter();
        let all = all.map(|reason| reason.as_str().unwrap().to_owned());
        // What stays whatever the rules say is ours alone.
        let mut rules: Vec<String> = all
            .filter(|reason| !reason.starts_with("the last"))
            .collect();
        rules.sort();
        (object["time"].as_str().unwrap().to_owned(), rules)
    };
    decisions.map(reasons).collect()
}

fn theirs(restic: &std::path::Path, forged: &Forged, words: &[&str]) -> Reasons {
    let asked = ["forget", "--dry-run", "--json", "--group-by", "host,paths"];
    let run = Restic::on(restic, &forged.program).ok(&[&asked[..], words].concat());
    let groups: Value = serde_json::from_str(run.stdout.lines().next().unwrap()).unwrap();
    let mut found = Reasons::new();
    for group in groups.as_array().unwrap() {
        for gone in group["remove"].as_array().into_iter().flatten() {
            found.insert(gone["time"].as_str().unwrap().to_owned(), Vec::new());
        }
        for kept in group["reasons"].as_array().into_iter().flatten() {
            let matches = kept["matches"].as_array().unwrap().iter();
            let mut matches: Vec<String> = matches
                .map(|reason| reason.as_str().unwrap().to_owned())
                .collect();
            matches.sort();
            let time = kept["snapshot"]["time"].as_str().unwrap();
            found.insert(time.to_owned(), matches);
        }
    }
    found
}

/// Before 0.16, restic does not keep the oldest for its age.
fn without_oldest(mut reasons: Reasons) -> Reasons {
    for reasons in reasons.values_mut() {
        reasons.retain(|reason| !reason.starts_with("oldest"));
    }
    reasons
}

#[test]
fn every_snapshot_is_kept_for_restics_reasons() {
    let judges = restics();
    if judges.is_empty() {
        return skipped("retention beside restic", "no restic is there");
    }
    let forged = Forged::new();
    let mut dice = Dice::new(7);
    let mut minutes = 30;
    for number in 0..150 {
        // Hours, days, weeks and years apart; no two at the same second.
        minutes += match number % 5 {
            0 => dice.within(6..50),
            1 => dice.within(60..600),
            2 => dice.within(600..3000),
            3 => dice.within(3000..20_000),
            _ => dice.within(6..40_000),
        };
        let (host, tag) = (dice.once_in(3), dice.once_in(9));
        forged.add_minutes_ago(minutes, |file| {
            file.hostname = if host { "old" } else { "till" }.to_owned();
            if tag {
                file.tags = vec!["keep".to_owned(), "b".to_owned()];
            }
        });
    }
    let mut rules: Vec<Rules> = (0..24).map(|_| dice.rules()).collect();
    rules.push(Rules {
        tags: vec![
            vec!["keep".to_owned(), "b".to_owned()],
            vec!["no".to_owned()],
        ],
        yearly: 100,
        ..Rules::default()
    });
    rules.push(Rules {
        within: Some("1y5m7d2h".parse().unwrap()),
        ..Rules::default()
    });
    let mut kept = 0;
    for rules in &rules {
        let words = words(rules);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let ours = ours(&forged, &words);
        kept += ours.values().filter(|reasons| !reasons.is_empty()).count();
        for (name, restic) in &judges {
            let theirs = theirs(restic, &forged, &words);
            let same = match *name {
                "system restic" if !Restic::on(restic, &forged.program).is_current() => {
                    without_oldest(ours.clone()) == theirs
                }
                _ => ours == theirs,
            };
            assert!(
                same,
                "{name}: {words:?}\nours: {ours:#?}\ntheirs: {theirs:#?}"
            );
        }
    }
    println!(
        "{} policies, {kept} snapshots kept for the same reasons",
        rules.len()
    );
    assert!(kept > 300, "{kept}");
}
