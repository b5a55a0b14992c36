//! Whom keys tell, and how: patterns of units.

use keys_protocol::{How, UnitOutcome};
use keys_tests::{Host, Release, Session, Telling};

/// A pattern stands for the services that systemctl itself would restart by it, each restarted once whatever else names
/// it; one that stands for none is said to, and is no failure.
#[test]
fn a_pattern_tells_the_loaded_services_that_match_it() {
    const PATTERN: &str = "lab-run-[0-9].service";
    for release in Release::ALL {
        let host = Host::served(release);
        host.service("run-3", "");
        host.services(&[("run-1", ""), ("run-2", ""), ("run-x", ""), ("other", "")]);
        let list = format!("systemctl list-units --plain --no-legend '{PATTERN}' | cut -d' ' -f1");
        let loaded = host.run(&list).succeeded().text();
        assert_eq!(
            loaded, "lab-run-1.service\nlab-run-2.service\n",
            "{release:?}"
        );

        let telling = Telling::of(&host, &[PATTERN, "run-1", "reload:lab-none-*.service"]);
        let plan = telling
            .operator
            .keys("plan --include pigeon")
            .exited(2)
            .text();
        assert!(
            plan.contains("lab-none-*.service: no unit matches\n"),
            "{plan}"
        );
        assert!(
            plan.contains("lab-run-2.service: would be restarted\n"),
            "{plan}"
        );
        telling.send("1").is(
            0,
            &[
                "lab-none-*.service: not_running no unit matches",
                "lab-run-1.service: restarted",
                "lab-run-2.service: restarted",
            ],
        );
        let starts = ["run-1", "run-2", "run-3", "run-x", "other"].map(|name| host.starts(name));
        assert_eq!(starts, [2, 2, 0, 1, 1], "{release:?}");
        let left = host.run("ls -A /run/keys/.current/.pending").succeeded();
        assert_eq!(left.text(), "", "{release:?}: all is struck off");
    }
}

/// What a pusher of the first version cannot read, it is not sent: its push ends as it would have then.
#[test]
fn a_pusher_that_knows_no_patterns_hears_of_units_alone() {
    let host = Host::served(Release::Trixie);
    host.services(&[("run-1", "")]);
    let ended = Session::push(&host.inside(), &[("a", b"1"), ("b", b"1")], |push| {
        push.tell(0, "lab-run-*.service", How::Restart);
        push.tell(1, "lab-none-*.service", How::Restart);
    });
    let units = ended.report.expect("a report").units;
    let units: Vec<_> = units
        .iter()
        .map(|unit| (unit.unit.as_str(), unit.outcome))
        .collect();
    assert_eq!(units, [("lab-run-1.service", UnitOutcome::Restarted)]);
}
