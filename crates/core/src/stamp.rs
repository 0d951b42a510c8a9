//! Times as RFC 3339 writes them, in UTC. Not for: time zones.

/// Returns a time in seconds since 1970 as `2026-11-26T18:04:05.250Z`.
pub fn rfc3339(at_s: f64) -> String {
    let millis = (at_s.max(0.0) * 1e3).round() as u64;
    let (seconds, millis) = (millis / 1000, millis % 1000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// The date of a day since 1970. Years begin in March here, so that the day of leap years is their last.
fn civil(days: u64) -> (u64, u64, u64) {
    // Days of 400 years, of 100, of 4 and of one.
    const ERA: u64 = 146_097;
    let shifted = days + 719_468;
    let (era, day) = (shifted / ERA, shifted % ERA);
    let year = (day - day / 1460 + day / 36_524 - day / (ERA - 1)) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let of_month = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_date() {
        // As `date --utc --date=@N` has them.
        let table = [
            (0.0, "1970-01-01T00:00:00.000Z"),
            (951_782_400.0, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199.999_4, "2024-02-29T23:59:59.999Z"),
            (1_795_716_245.25, "2026-11-26T18:04:05.250Z"),
            (4_107_542_399.0, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400.0, "2100-03-01T00:00:00.000Z"),
            (-5.0, "1970-01-01T00:00:00.000Z"),
        ];
        for (at_s, expected) in table {
            assert_eq!(rfc3339(at_s), expected);
        }
    }
}
