//! Whether the kernel killed something of this container for memory.

use std::fs;

/// How many processes of this container the kernel has killed for memory; `None` where it does
/// not say.
pub(crate) fn oom_kills() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    places(&groups).into_iter().find_map(|place| count(&fs::read_to_string(place).ok()?))
}

/// The files that may say so. Within a container its own group is mounted at the top, whatever
/// path the kernel tells.
fn places(groups: &str) -> Vec<String> {
    let mut places = Vec::new();
    for group in groups.lines() {
        let mut parts = group.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let path = path.trim_end_matches('/');
        if controllers.is_empty() {
            places.push(format!("/sys/fs/cgroup{path}/memory.events"));
            places.push("/sys/fs/cgroup/memory.events".to_owned());
        } else if controllers.split(',').any(|name| name == "memory") {
            places.push(format!("/sys/fs/cgroup/memory{path}/memory.oom_control"));
            places.push("/sys/fs/cgroup/memory/memory.oom_control".to_owned());
        }
    }
    places
}

/// Both versions have a line of this name.
fn count(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_version_tells_in_oom_control() {
        let places = places("5:cpu,cpuacct:/x\n4:memory:/kubepods/pod1/c\n1:name=systemd:/\n");
        assert_eq!(places[0], "/sys/fs/cgroup/memory/kubepods/pod1/c/memory.oom_control");
        assert_eq!(places[1], "/sys/fs/cgroup/memory/memory.oom_control");
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), Some(3));
    }

    #[test]
    fn the_second_version_tells_in_events() {
        assert_eq!(places("0::/\n")[0], "/sys/fs/cgroup/memory.events");
        assert_eq!(count("low 0\noom 2\noom_kill 1\noom_group_kill 0\n"), Some(1));
        assert_eq!(count("low 0\n"), None);
    }
}
