use std::{convert::Infallible, path::PathBuf, str::FromStr};

/// Folders, as `DIR` or `DIR,DIR`; an empty text names none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Folders(pub Vec<PathBuf>);

impl Folders {
    /// Folders of an optional setting; none if it is not given.
    pub fn of(setting: Option<&Self>) -> &[PathBuf] {
        setting.map_or(&[], |folders| &folders.0)
    }
}

impl FromStr for Folders {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let folders = text.split(',').map(str::trim).filter(|folder| !folder.is_empty());
        Ok(Folders(folders.map(PathBuf::from).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_split_at_commas() {
        let read = |text: &str| text.parse::<Folders>().unwrap().0;
        assert_eq!(read(""), Vec::<PathBuf>::new());
        assert_eq!(read("/data"), [PathBuf::from("/data")]);
        assert_eq!(read("/data, weights,"), ["/data", "weights"].map(PathBuf::from));
    }
}
