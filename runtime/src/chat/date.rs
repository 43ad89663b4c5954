//! A calendar date and its formatting: what `strftime_now` in a chat template needs.

use std::time::{SystemTime, UNIX_EPOCH};

/// A moment in the proleptic Gregorian calendar, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateTime {
    /// The year.
    pub year: i64,
    /// 1 to 12.
    pub month: u32,
    /// 1 to 31.
    pub day: u32,
    /// 0 to 23.
    pub hour: u32,
    /// 0 to 59.
    pub minute: u32,
    /// 0 to 59.
    pub second: u32,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

impl DateTime {
    /// The present moment. The standard library knows no time zone, so this is UTC's date.
    pub fn now() -> DateTime {
        let seconds = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => after.as_secs() as i64,
            Err(before) => -(before.duration().as_secs() as i64),
        };
        DateTime::from_unix(seconds)
    }

    /// The moment `seconds` after 1970-01-01 00:00:00 UTC.
    pub fn from_unix(seconds: i64) -> DateTime {
        // Days to year, month and day: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms" (civil_from_days).
        // Years begin in March, so that the leap day is the last of its year; 400 years are an era of 146097 days.
        let of_day = seconds.rem_euclid(86_400) as u32;
        let days = seconds.div_euclid(86_400) + 719_468;
        let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * of_year + 2) / 153;
        let day = (of_year - (153 * month_from_march + 2) / 5 + 1) as u32;
        let month = (if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 }) as u32;
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        DateTime { year, month, day, hour: of_day / 3600, minute: of_day / 60 % 60, second: of_day % 60 }
    }

    fn is_leap(year: i64) -> bool {
        year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
    }

    /// 0 for January. The fields are anyone's to set, so a month that is none counts as the nearest.
    fn month_from_0(&self) -> usize {
        self.month.clamp(1, 12) as usize - 1
    }

    /// 0 for the first of January.
    fn day_of_year(&self) -> u32 {
        let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334][self.month_from_0()];
        self.day.saturating_sub(1).saturating_add(before + u32::from(self.month > 2 && DateTime::is_leap(self.year)))
    }

    /// 0 for Sunday.
    fn weekday(&self) -> usize {
        let y = self.year - 1;
        let days =
            365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + i64::from(self.day_of_year()) + 1;
        days.rem_euclid(7) as usize
    }

    /// C's `strftime` in the C locale: its date and time directives, with glibc's `-` for "no padding".
    ///
    /// # Errors
    /// The directive that is not one of them.
    pub fn format(&self, format: &str) -> Result<String, String> {
        let mut out = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let mut directive = chars.next();
            let padded = directive != Some('-');
            if !padded {
                directive = chars.next();
            }
            let number = |value: i64, width: usize| {
                if padded { format!("{value:0width$}") } else { value.to_string() }
            };
            let small = |value: u32| number(value.into(), 2);
            let hour12 = (self.hour % 12 + 11) % 12 + 1;
            let piece = match directive {
                Some('Y') => self.year.to_string(),
                Some('y') => number(self.year.rem_euclid(100), 2),
                Some('C') => number(self.year.div_euclid(100), 2),
                Some('m') => small(self.month),
                Some('d') => small(self.day),
                Some('e') if padded => format!("{:2}", self.day),
                Some('e') => self.day.to_string(),
                Some('j') => number(i64::from(self.day_of_year()) + 1, 3),
                Some('B') => MONTHS[self.month_from_0()].to_string(),
                Some('b' | 'h') => MONTHS[self.month_from_0()][..3].to_string(),
                Some('A') => WEEKDAYS[self.weekday()].to_string(),
                Some('a') => WEEKDAYS[self.weekday()][..3].to_string(),
                Some('w') => self.weekday().to_string(),
                Some('u') => ((self.weekday() + 6) % 7 + 1).to_string(),
                Some('H') => small(self.hour),
                Some('I') => small(hour12),
                Some('M') => small(self.minute),
                Some('S') => small(self.second),
                Some('p') => if self.hour < 12 { "AM" } else { "PM" }.to_string(),
                Some('F') => self.format("%Y-%m-%d")?,
                Some('D' | 'x') => self.format("%m/%d/%y")?,
                Some('T' | 'X') => self.format("%H:%M:%S")?,
                Some('R') => self.format("%H:%M")?,
                Some('c') => self.format("%a %b %e %H:%M:%S %Y")?,
                Some('Z') => "UTC".to_string(),
                Some('z') => "+0000".to_string(),
                Some('n') => "\n".to_string(),
                Some('t') => "\t".to_string(),
                Some('%') => "%".to_string(),
                other => {
                    return Err(format!(
                        "%{}{}",
                        if padded { "" } else { "-" },
                        other.map_or(String::new(), String::from)
                    ));
                }
            };
            out.push_str(&piece);
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against GNU date: `TZ=UTC LC_ALL=C date -d @SECONDS '+…'`.
    #[test]
    fn fields_that_are_no_date_make_a_text_all_the_same() {
        for (month, day) in [(0, 0), (13, 32), (u32::MAX, u32::MAX / 2)] {
            let date = DateTime { year: 2024, month, day, hour: 99, minute: 99, second: 99 };
            assert!(!date.format("%Y %m %d %j %B %b %A %a %w %u %H %I %M %S").unwrap().is_empty());
        }
    }

    #[test]
    fn dates_are_those_of_gnu_date() {
        let format = "%Y %y %C %m %d %e %-d %-m %j %B %b %A %a %w %u %H %I %-I %M %S %p %F %D %T %R %c %%";
        for (seconds, expected) in [
            (
                0,
                "1970 70 19 01 01  1 1 1 001 January Jan Thursday Thu 4 4 00 12 12 00 00 AM 1970-01-01 01/01/70 00:00:00 00:00 Thu Jan  1 00:00:00 1970 %",
            ),
            (
                951_826_153,
                "2000 00 20 02 29 29 29 2 060 February Feb Tuesday Tue 2 2 12 12 12 09 13 PM 2000-02-29 02/29/00 12:09:13 12:09 Tue Feb 29 12:09:13 2000 %",
            ),
            (
                1_735_689_599,
                "2024 24 20 12 31 31 31 12 366 December Dec Tuesday Tue 2 2 23 11 11 59 59 PM 2024-12-31 12/31/24 23:59:59 23:59 Tue Dec 31 23:59:59 2024 %",
            ),
            (
                4_107_542_400,
                "2100 00 21 03 01  1 1 3 060 March Mar Monday Mon 1 1 00 12 12 00 00 AM 2100-03-01 03/01/00 00:00:00 00:00 Mon Mar  1 00:00:00 2100 %",
            ),
            (
                -1,
                "1969 69 19 12 31 31 31 12 365 December Dec Wednesday Wed 3 3 23 11 11 59 59 PM 1969-12-31 12/31/69 23:59:59 23:59 Wed Dec 31 23:59:59 1969 %",
            ),
        ] {
            assert_eq!(DateTime::from_unix(seconds).format(format).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn unknown_directives_are_named() {
        assert_eq!(DateTime::from_unix(0).format("%d %Q"), Err("%Q".into()));
        assert_eq!(DateTime::from_unix(0).format("%-"), Err("%-".into()));
        assert_eq!(DateTime::from_unix(0).format("%"), Err("%".into()));
    }
}
