//! The switch that stops all actions: a file in the state folder, which anybody who may write there can make, whatever else works.
//! Not for: what stops by it.

use crate::store::OFF;
use std::path::PathBuf;

/// How often it is looked for, seconds.
const LOOK_S: f64 = 0.25;

/// Looks at the switch.
#[derive(Debug, Default)]
pub(super) struct Switch {
    file: Option<PathBuf>,
    looked_s: f64,
    on: Option<bool>,
}

impl Switch {
    /// Returns that of a state folder.
    pub(super) fn new(folder: Option<PathBuf>) -> Self {
        Self { file: folder.map(|folder| folder.join(OFF)), ..Self::default() }
    }

    /// Tells whether it is there. What cannot be looked at might be.
    pub(super) fn is_off(&self) -> bool {
        self.file.as_ref().is_some_and(|file| !matches!(file.try_exists(), Ok(false)))
    }

    /// Tells whether actions may be done now, if that has changed since it was last asked. A clock that was set back looks at once.
    pub(super) fn turned(&mut self, now_s: f64) -> Option<bool> {
        if (0.0..LOOK_S).contains(&(now_s - self.looked_s)) {
            return None;
        }
        self.looked_s = now_s;
        let on = !self.is_off();
        let before = self.on.replace(on);
        // At first it is on.
        (before.unwrap_or(true) != on).then_some(on)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_turns_it_off_and_its_end_on_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join(OFF);
        let mut switch = Switch::new(Some(folder.path().to_owned()));
        assert_eq!(switch.turned(1.0), None);
        std::fs::write(&file, "").expect("written");
        assert_eq!(switch.turned(1.1), None, "it was looked at just now");
        assert_eq!(switch.turned(1.3), Some(false));
        assert_eq!(switch.turned(2.0), None);
        std::fs::remove_file(&file).expect("removed");
        assert_eq!(switch.turned(0.5), Some(true));
        // An observer that finds it.
        std::fs::write(&file, "").expect("written");
        assert_eq!(Switch::new(Some(folder.path().to_owned())).turned(1.0), Some(false));
        assert_eq!(Switch::new(None).turned(1.0), None);
    }
}
