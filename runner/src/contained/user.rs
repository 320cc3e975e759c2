//! The user that an image names for its programs.

use std::fs::File;
use std::io::Read;

use crate::spec::StepUser;

/// Bytes of `passwd` and `group` that are looked at.
const FILE_LIMIT: u64 = 4 << 20;

/// Whom `name`, an image's `USER`, means in the file system of this process; `None` is root. `Err` says for people what
/// is wrong.
pub(super) fn resolve(name: &str) -> Result<Option<StepUser>, String> {
    resolve_in(name, &read("/etc/passwd"), &read("/etc/group"))
}

/// No such file is an empty one.
fn read(path: &str) -> String {
    let mut text = Vec::new();
    // What could be read is looked at.
    let _ = File::open(path).and_then(|file| file.take(FILE_LIMIT).read_to_end(&mut text));
    String::from_utf8_lossy(&text).into_owned()
}

fn resolve_in(name: &str, passwd: &str, group: &str) -> Result<Option<StepUser>, String> {
    let (user, of) = name.split_once(':').map_or((name, None), |(user, of)| (user, Some(of)));
    if user.is_empty() {
        return Ok(None);
    }
    let uid: Option<u32> = user.parse().ok();
    // Name, password, id, group: the fields of a line.
    let known = lines(passwd).find_map(|fields| {
        let id: u32 = fields.get(2)?.parse().ok()?;
        let gid: u32 = fields.get(3)?.parse().ok()?;
        (fields[0] == user || Some(id) == uid).then_some((id, gid))
    });
    let (uid, own_group) = match (known, uid) {
        (Some(known), _) => known,
        (None, Some(uid)) => (uid, 0),
        (None, None) => return Err(format!("the image's user {user} is not in its /etc/passwd")),
    };
    let named = |of: &str| lines(group).find(|fields| fields[0] == of)?.get(2)?.parse().ok();
    let gid = match of.filter(|of| !of.is_empty()) {
        None => own_group,
        Some(of) => of
            .parse()
            .ok()
            .or_else(|| named(of))
            .ok_or_else(|| format!("the image's group {of} is not in its /etc/group"))?,
    };
    Ok((uid != 0 || gid != 0).then_some(StepUser { uid, gid }))
}

fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1001::/home/node:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nstaff:x:50:\n";

    fn resolved(name: &str) -> Option<(u32, u32)> {
        resolve_in(name, PASSWD, GROUP).unwrap().map(|user| (user.uid, user.gid))
    }

    #[test]
    fn users_and_groups_have_names_or_numbers() {
        assert_eq!(resolved("node"), Some((1000, 1001)));
        assert_eq!(resolved("1000"), Some((1000, 1001)));
        assert_eq!(resolved("1000:50"), Some((1000, 50)));
        assert_eq!(resolved("node:staff"), Some((1000, 50)));
        assert_eq!(resolved("4711"), Some((4711, 0)));
    }

    #[test]
    fn root_is_nobody_else() {
        for name in ["", "root", "0", "0:0", "root:root"] {
            assert_eq!(resolved(name), None, "{name:?}");
        }
    }

    #[test]
    fn what_the_image_does_not_know_is_said() {
        assert!(resolve_in("app", PASSWD, GROUP).unwrap_err().contains("app"));
        assert!(resolve_in("node:app", PASSWD, GROUP).unwrap_err().contains("/etc/group"));
    }
}
