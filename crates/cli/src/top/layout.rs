//! How high each table is. Pure. Not for: what stands in it.

/// Lines of a table beside its rows: its title, and the names of its columns.
pub(super) const TITLE: u16 = 1;
pub(super) const NAMES: u16 = 1;

/// What a table would like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Its rows; at least one, so that it can say that there is none.
    pub rows: u16,
    /// Whether it has names of columns.
    pub names: bool,
    /// Most rows that it gets before all others have theirs.
    pub rows_max: u16,
}

impl Wanted {
    fn frame(self) -> u16 {
        TITLE + if self.names { NAMES } else { 0 }
    }
}

/// Shares lines out among tables, from the top; none for a table that is not there. Each gets a row first, as long as there is
/// room; then rows go round among those that want more; what is left goes to the last one.
pub(super) fn heights<const N: usize>(room: u16, wanted: [Option<Wanted>; N]) -> [u16; N] {
    let mut heights = [0; N];
    let mut left = room;
    for (height, wanted) in heights.iter_mut().zip(wanted) {
        let Some(wanted) = wanted else { continue };
        // A table without room for a row is left out.
        let least = wanted.frame() + 1;
        if left >= least {
            *height = least;
            left -= least;
        }
    }
    for limited in [true, false] {
        loop {
            let mut given = false;
            for (height, wanted) in heights.iter_mut().zip(wanted) {
                let Some(wanted) = wanted.filter(|_| *height > 0 && left > 0) else { continue };
                let rows = *height - wanted.frame();
                let most = if limited { wanted.rows.min(wanted.rows_max) } else { wanted.rows };
                if rows < most {
                    *height += 1;
                    left -= 1;
                    given = true;
                }
            }
            if !given {
                break;
            }
        }
    }
    if let Some(last) = heights.iter_mut().rev().find(|height| **height > 0) {
        *last += left;
    }
    heights
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: u16) -> Option<Wanted> {
        Some(Wanted { rows, names: true, rows_max: 8 })
    }

    #[test]
    fn lines_are_shared_out() {
        let cases = [
            // All fit; the rest is the last one's.
            (21, [table(2), table(3), table(4)], [4, 5, 12]),
            // Not all fit: rows go round.
            (21, [table(2), table(50), table(50)], [4, 9, 8]),
            (21, [table(50), table(1), table(50)], [9, 3, 9]),
            // A crowd of workers leaves room for the others on a large screen.
            (60, [table(100), table(2), table(20)], [34, 4, 22]),
            // Too small for three tables: the first ones stay.
            (8, [table(9), table(9), table(9)], [4, 4, 0]),
            (2, [table(9), table(9), table(9)], [0, 0, 0]),
            (21, [None, table(2), table(4)], [0, 4, 17]),
        ];
        for (room, wanted, expected) in cases {
            assert_eq!(heights(room, wanted), expected, "{room} {wanted:?}");
        }
    }
}
