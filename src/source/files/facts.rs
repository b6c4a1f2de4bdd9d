//! What the kernel's numbers mean: times, and who users and groups are.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::entry::Owner;

/// A time as the kernel gives it.
pub fn time(seconds: i64, nanoseconds: i64) -> Timestamp {
    let nanoseconds = i32::try_from(nanoseconds).unwrap_or(0);
    // A file system can hold times beyond the year 9999; nothing else can.
    Timestamp::new(seconds, nanoseconds).unwrap_or(if seconds < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

/// Names of users and groups, each looked up once.
#[derive(Debug, Default)]
pub struct Names {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Names {
    pub fn owner(&mut self, uid: u32, gid: u32) -> Owner {
        let user = self.users.entry(uid).or_insert_with(|| {
            uzers::get_user_by_uid(uid).map_or_else(String::new, |user| {
                user.name().to_string_lossy().into_owned()
            })
        });
        let group = self.groups.entry(gid).or_insert_with(|| {
            uzers::get_group_by_gid(gid).map_or_else(String::new, |group| {
                group.name().to_string_lossy().into_owned()
            })
        });
        Owner {
            uid,
            gid,
            user: user.clone(),
            group: group.clone(),
        }
    }
}
