//! Scenarios whose outcome is known beforehand.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use sluice_simulation::{Deployment, Limit, Limits, Outage, Report, Scenario, ServiceTime, Times, run};

fn time(p50_ms: f64, p95_ms: f64) -> ServiceTime {
    ServiceTime { p50_ms, p95_ms }
}

/// A system that nothing slows down.
fn scenario(rate: f64, institutes: u32, seconds: f64) -> Scenario {
    let plenty = Limit { per_second: 1e6, burst: 1e6 };
    Scenario {
        rate,
        institutes,
        seconds,
        hot_share: None,
        burst_share: 0.0,
        outage: None,
        is_warm: true,
        seed: 1,
        deployment: Deployment { maximum_concurrency: 500, batch_size: 10, retry_base_seconds: 30.0, retry_minutes: 180.0 },
        times: Times {
            submit: time(20.0, 20.0),
            deduplicate: time(10.0, 10.0),
            parse: time(5.0, 5.0),
            store: time(50.0, 50.0),
            publish: time(15.0, 15.0),
            execution_ms: 30.0,
            poll_ms: 10.0,
            cold_ms: 0.0,
        },
        limits: Limits {
            route: plenty,
            lambda_concurrency: 100_000,
            lambda_scaling: plenty,
            get_id: plenty,
            get_credentials: plenty,
            partition_writes: plenty,
            index_partitions: 4,
            units_per_message: 2.0,
            prefix_puts: plenty,
            sns_publish: plenty,
        },
    }
}

/// Every message has one end.
fn ended(scenario: &Scenario) -> Report {
    let report = run(scenario).unwrap();
    assert_eq!(report.posted, report.refused + report.stored + report.held, "{report:?}");
    let expected = scenario.rate * scenario.seconds;
    assert!((report.posted as f64 - expected).abs() < 5.0 * expected.sqrt() + 1.0, "{} of {expected}", report.posted);
    report
}

#[test]
fn the_same_seed_gives_the_same_report_and_another_seed_another_one() {
    let one = Scenario { hot_share: Some(0.5), is_warm: false, ..scenario(50.0, 20, 60.0) };
    assert_eq!(run(&one), run(&one));
    assert_ne!(run(&one), run(&Scenario { seed: 2, ..one }));
}

#[test]
fn without_a_queue_a_message_takes_the_sum_of_its_times() {
    let all = ended(&scenario(5.0, 3, 300.0)).all.unwrap();
    // 20 + 10 to the queue + 30 + 10 + 5 + 50.
    assert!((all.p50_seconds / 0.125 - 1.0).abs() < 0.04, "{all:?}");
    assert!(all.p99_seconds < 0.2, "{all:?}");
}

#[test]
fn messages_beyond_the_concurrency_wait_and_the_report_names_the_limit() {
    let deployment = Deployment { maximum_concurrency: 2, batch_size: 1, ..scenario(1.0, 1, 1.0).deployment };
    // Two at a time of 0.11 s each and the poll: at most some 18 a second.
    let report = ended(&Scenario { deployment, ..scenario(36.0, 5, 120.0) });
    assert!((14.0..19.0).contains(&report.stored_per_second), "{}", report.stored_per_second);
    assert_eq!(report.first_bound().unwrap().name, "dispatch's invocations (MaximumConcurrency)");
    assert!(report.oldest_seconds > 60.0 && report.most_waiting > 1000, "{report:?}");
}

#[test]
fn a_hot_institute_waits_and_the_others_do_not() {
    let deployment = Deployment { maximum_concurrency: 20, batch_size: 2, ..scenario(1.0, 1, 1.0).deployment };
    let report = ended(&Scenario { deployment, hot_share: Some(0.9), ..scenario(500.0, 50, 60.0) });
    let (hot, worst) = (report.first.unwrap(), report.worst.unwrap());
    assert!(hot.p99_seconds > 5.0 * worst.p99_seconds, "{hot:?} {worst:?}");
    assert!(worst.p99_seconds < 5.0, "{worst:?}");
}

#[test]
fn one_institute_meets_its_partitions_at_three_thousand_messages_a_second_and_not_at_one_thousand() {
    let limits = Limits { partition_writes: Limit { per_second: 1000.0, burst: 1000.0 }, ..scenario(1.0, 1, 1.0).limits };
    let bound = |rate, partitions| {
        let limits = Limits { index_partitions: partitions, ..limits.clone() };
        let report = ended(&Scenario { limits, ..scenario(rate, 1, 60.0) });
        report.first_bound().map(|it| it.name)
    };
    let writes = Some("writes of a partition (the institute's index by arrival)");
    assert_eq!(bound(3000.0, 4), writes);
    assert_eq!(bound(1000.0, 4), None);
    assert_eq!(bound(1000.0, 1), writes, "with one partition");
}

#[test]
fn cold_sandboxes_of_many_institutes_meet_cognito_first() {
    let limits = Limits { get_id: Limit { per_second: 25.0, burst: 25.0 }, ..scenario(1.0, 1, 1.0).limits };
    let cold = Scenario { limits, is_warm: false, ..scenario(200.0, 1000, 30.0) };
    let report = ended(&cold);
    assert_eq!(report.first_bound().unwrap().name, "Cognito's GetId");
    // Once for each institute, and a few times more while the first answer is awaited.
    assert!((900..2000).contains(&report.identities), "{}", report.identities);
}

#[test]
fn identity_ids_are_asked_for_once_and_not_by_each_sandbox() {
    let limits = Limits { get_id: Limit { per_second: 25.0, burst: 25.0 }, ..scenario(1.0, 1, 1.0).limits };
    let report = ended(&Scenario { limits, is_warm: false, ..scenario(500.0, 20, 60.0) });
    assert!(report.first_bound().is_none() && (20..=40).contains(&report.identities), "{report:?}");
}

#[test]
fn after_a_short_outage_everything_is_stored_and_after_a_long_one_it_is_held() {
    let outage = |seconds, retry_minutes| {
        let base = scenario(10.0, 5, 120.0);
        let deployment = Deployment { retry_minutes, ..base.deployment };
        ended(&Scenario { outage: Some(Outage { from: 30.0, seconds }), deployment, ..base })
    };
    let short = outage(600.0, 180.0);
    assert_eq!((short.held, short.stored), (0, short.posted));
    assert!(short.ended_at_seconds > 630.0, "{short:?}");
    let long = outage(4000.0, 10.0);
    assert!(long.held > 800 && long.stored > 200, "{long:?}");
}

#[test]
fn a_rate_limit_refuses_and_a_burst_at_the_hour_meets_it() {
    let limits = Limits { route: Limit { per_second: 100.0, burst: 200.0 }, ..scenario(1.0, 1, 1.0).limits };
    let even = ended(&Scenario { limits: limits.clone(), ..scenario(50.0, 5, 120.0) });
    assert_eq!((even.refused, even.quotas.len()), (0, 0));
    let base = scenario(50.0, 5, 3600.0);
    let burst = ended(&Scenario { limits, burst_share: 0.5, ..base });
    // 90,000 of 180,000 messages in a minute.
    assert!(burst.refused > 80_000, "{}", burst.refused);
    assert_eq!(burst.first_bound().unwrap().name, "the API's rate limit (SubmitRateLimit)");
    assert!(burst.first_bound().unwrap().first_at_seconds < 5.0);
}

#[test]
fn an_accounts_concurrency_binds_where_it_is_ten() {
    let limits = Limits { lambda_concurrency: 10, ..scenario(1.0, 1, 1.0).limits };
    let deployment = Deployment { maximum_concurrency: 10, ..scenario(1.0, 1, 1.0).deployment };
    let report = ended(&Scenario { limits, deployment, ..scenario(100.0, 5, 30.0) });
    assert_eq!(report.first_bound().unwrap().name, "Lambda's concurrency of the account");
    assert!(report.most_busy <= 10);
}

#[test]
fn a_senseless_scenario_is_refused_with_a_sentence() {
    let good = || scenario(10.0, 5, 60.0);
    let limits = good().limits;
    let nothing = Limit { per_second: 0.0, burst: 1.0 };
    let deployment = good().deployment;
    let table: [(Scenario, &str); 17] = [
        (Scenario { rate: 0.0, ..good() }, "a rate is more than 0 and at most 10,000 messages a second, and not 0"),
        (Scenario { rate: f64::NAN, ..good() }, "a rate is more than 0 and at most 10,000 messages a second, and not NaN"),
        (Scenario { rate: 10_001.0, ..good() }, "a rate is more than 0 and at most 10,000 messages a second, and not 10001"),
        (Scenario { institutes: 0, ..good() }, "there are 1 to 5,000 institutes, and not 0"),
        (Scenario { institutes: 5_001, ..good() }, "there are 1 to 5,000 institutes, and not 5001"),
        (Scenario { seconds: -1.0, ..good() }, "messages come in for more than 0 and at most 86,400 seconds, and not for -1"),
        (
            Scenario { rate: 10_000.0, seconds: 86_400.0, ..good() },
            "864000000 messages are too many to simulate: at most 40000000",
        ),
        (Scenario { hot_share: Some(1.5), ..good() }, "an institute sends a share from 0 to 1 of the messages, and not 1.5"),
        (Scenario { hot_share: Some(0.5), institutes: 1, ..good() }, "a single institute sends all messages"),
        (Scenario { burst_share: -0.1, ..good() }, "a share from 0 to 1 of the messages comes at the hour, and not -0.1"),
        (
            Scenario { outage: Some(Outage { from: 10.0, seconds: 0.0 }), ..good() },
            "an outage begins at a time and lasts for more than 0 and at most 86,400 seconds",
        ),
        (Scenario { outage: Some(Outage { from: 60.0, seconds: 1.0 }), ..good() }, "an outage begins while messages come in"),
        (
            Scenario { deployment: Deployment { maximum_concurrency: 1, ..deployment }, ..good() },
            "MaximumConcurrency is from 2 to 1,000, and not 1",
        ),
        (
            Scenario { deployment: Deployment { batch_size: 11, ..deployment }, ..good() },
            "DispatchBatchSize is from 1 to 10, and not 11",
        ),
        (
            Scenario { times: Times { store: time(50.0, 10.0), ..good().times }, ..good() },
            "Store takes a time, and rarely less than usual: 50 and 10 ms are none",
        ),
        (Scenario { limits: Limits { get_id: nothing, ..limits.clone() }, ..good() }, "the quota `getId` allows nothing"),
        (
            Scenario { limits: Limits { lambda_concurrency: 0, ..limits }, ..good() },
            "the quota `lambdaConcurrency` allows nothing",
        ),
    ];
    for (scenario, says) in table {
        assert_eq!(run(&scenario).unwrap_err().to_string(), says);
    }
}
