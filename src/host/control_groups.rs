//! The control groups of the process.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A limit of a control group.
#[derive(Debug, Clone, PartialEq)]
pub struct ControlGroupLimit<T> {
    /// The limit's value.
    pub value: T,
    /// The file that sets the limit.
    pub file: PathBuf,
}

/// Interface of a limit: the file's name in version 1 and 2 of control groups, and version 1's controller.
pub(super) struct Controller {
    pub name: &'static str,
    pub file: &'static str,
    pub file_of_1: &'static str,
}

/// The process's groups, as Linux lists them.
pub(super) fn of_this_process() -> String {
    fs::read_to_string("/proc/self/cgroup").unwrap_or_default()
}

/// Files that may set a limit for the listed groups, and for the groups above them.
pub(super) fn files(groups: &str, controller: &Controller) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, file) = match controllers {
            "" => (PathBuf::from("/sys/fs/cgroup"), controller.file),
            list if list.split(',').any(|name| name == controller.name) => {
                (Path::new("/sys/fs/cgroup").join(controller.name), controller.file_of_1)
            }
            _ => continue,
        };
        // In a container the path may be the host's. The group that it names is mounted at the root.
        let groups = Path::new(path.trim_start_matches('/')).ancestors();
        files.extend(groups.map(|group| root.join(group).join(file)));
    }
    files
}

/// The lowest of the limits that files set.
pub(super) fn least<T: PartialOrd>(
    files: Vec<PathBuf>,
    read: impl Fn(&Path) -> Option<T>,
) -> Option<ControlGroupLimit<T>> {
    let limits = files.into_iter().filter_map(|file| Some(ControlGroupLimit { value: read(&file)?, file }));
    limits.reduce(|least, next| if next.value < least.value { next } else { least })
}
