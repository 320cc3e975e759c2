//! When a schedule is due.

use croner::parser::{CronParser, Seconds, Year};
use jiff::{Timestamp, tz::TimeZoneDatabase};

use super::definition::Schedule;

impl Schedule {
    /// Whether it is one at all.
    ///
    /// # Errors
    /// The field that is wrong, and what of it.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if TimeZoneDatabase::bundled().get(&self.timezone).is_err() {
            let message = format!("{:?} is no time zone; write one like Europe/Berlin, or UTC", self.timezone);
            return Err(("timezone", message));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        parser.parse(&self.cron).map(drop).map_err(|error| ("cron", format!("{:?}: {error}", self.cron)))
    }

    /// The first moment after that one; none if there is no such day, or for what is no schedule.
    pub fn next_after(&self, moment: Timestamp) -> Option<Timestamp> {
        let zone = TimeZoneDatabase::bundled().get(&self.timezone).ok()?;
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let next = parser.parse(&self.cron).ok()?.find_next_occurrence(&moment.to_zoned(zone), false).ok()?;
        Some(next.timestamp()).filter(|next| *next > moment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(cron: &str, timezone: &str, after: &str) -> String {
        let schedule = Schedule { cron: cron.into(), timezone: timezone.into() };
        schedule.next_after(after.parse().unwrap()).map(|next| next.to_string()).unwrap_or_default()
    }

    #[test]
    fn the_hour_is_that_of_its_time_zone_in_summer_and_in_winter() {
        assert_eq!(next("0 3 * * *", "UTC", "2026-01-01T03:00:00Z"), "2026-01-02T03:00:00Z");
        assert_eq!(next("0 3 * * *", "Europe/Berlin", "2026-01-01T00:00:00Z"), "2026-01-01T02:00:00Z");
        assert_eq!(next("0 3 * * *", "Europe/Berlin", "2026-07-01T00:00:00Z"), "2026-07-01T01:00:00Z");
    }

    #[test]
    fn where_the_clock_jumps_each_day_has_it_once() {
        // Berlin has no 02:30 on 2026-03-29, and two of them on 2026-10-25.
        let (mut moment, mut days) = ("2026-03-27T12:00:00Z".to_owned(), Vec::new());
        for _ in 0..4 {
            moment = next("30 2 * * *", "Europe/Berlin", &moment);
            days.push(moment[..10].to_owned());
        }
        assert_eq!(days, ["2026-03-28", "2026-03-29", "2026-03-30", "2026-03-31"]);
        let first = next("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z");
        assert_eq!(&first[..10], "2026-10-25");
        assert_eq!(&next("30 2 * * *", "Europe/Berlin", &first)[..10], "2026-10-26");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_field() {
        let check = |cron: &str, timezone: &str| {
            Schedule { cron: cron.into(), timezone: timezone.into() }.check().map_err(|(field, _)| field)
        };
        assert_eq!(check("*/5 * * * 1-5", "Europe/Berlin"), Ok(()));
        assert_eq!(check("often", "UTC"), Err("cron"));
        assert_eq!(check("0 0 * * * *", "UTC"), Err("cron"));
        assert_eq!(check("0 0 * * *", "Nowhere/At_All"), Err("timezone"));
    }

    #[test]
    fn what_never_comes_is_none() {
        assert_eq!(next("0 0 30 2 *", "UTC", "2026-01-01T00:00:00Z"), "");
        assert_eq!(next("often", "UTC", "2026-01-01T00:00:00Z"), "");
        assert_eq!(next("* * * * *", "Nowhere/At_All", "2026-01-01T00:00:00Z"), "");
    }
}
