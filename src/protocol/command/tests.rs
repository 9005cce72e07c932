use std::num::NonZeroU16;

use super::*;

const DEPTH_MAX: usize = 32;
const ID: &str = "550e8400-e29b-41d4-a716-446655440000";

fn publish_text(payload: &str) -> String {
    format!(
        r#"{{"type":"publish","topic":"orders","message":{{"id":"{ID}","payload":{payload}}},"request_id":"r"}}"#
    )
}

#[track_caller]
fn parsed(text: &str) -> Command<'_> {
    parse(text, DEPTH_MAX).expect("a valid command")
}

/// Asserts a refusal whose message holds `words`, with the request id `"r"` echoed.
#[track_caller]
fn assert_bad(text: &str, words: &str) {
    let bad = parse(text, DEPTH_MAX).expect_err(text);
    assert!(bad.message.contains(words), "{text}: {}", bad.message);
    assert_eq!(
        bad.request_id.map(|id| id.as_json()),
        Some("\"r\""),
        "{text}"
    );
}

/// The same where no request id can be read.
#[track_caller]
fn assert_bad_anonymous(text: &str, words: &str) {
    let bad = parse(text, DEPTH_MAX).expect_err(text);
    assert!(bad.message.contains(words), "{text}: {}", bad.message);
    assert_eq!(bad.request_id, None, "{text}");
}

#[test]
fn every_command_of_the_contract_is_read() {
    let request_id = RequestId::from_json("\"r\"").ok();
    let topic = || TopicName::trusted("orders");
    for (text, command) in [
        (
            r#"{"type":"auth","api_key":"k\u0031","request_id":"r"}"#,
            Command::Auth {
                request_id,
                proof: Some(Proof::ApiKey("k1".into())),
            },
        ),
        (
            r#"{"type":"subscribe","topic":"orders","client_id":"s1","last_n":5,"request_id":"r"}"#,
            Command::Subscribe {
                request_id,
                topic: topic(),
                replay: Replay::Last(5),
                policy: Policy::All,
            },
        ),
        (
            r#"{"type":"unsubscribe","topic":"orders","client_id":7,"request_id":"r"}"#,
            Command::Unsubscribe {
                request_id,
                topic: topic(),
            },
        ),
        (
            r#" { "type" : "ping" , "request_id" : "r" } "#,
            Command::Ping { request_id },
        ),
        (r#"{"type":"ping"}"#, Command::Ping { request_id: None }),
        (
            r#"{"type":"ping","request_id":null}"#,
            Command::Ping { request_id: None },
        ),
    ] {
        assert_eq!(parsed(text), command);
    }
    assert_eq!(
        parsed(&publish_text(r#"{"any":"JSON value"}"#)),
        Command::Publish(Publish {
            request_id,
            topic: topic(),
            id: ID.into(),
            payload: r#"{"any":"JSON value"}"#,
            ack: true,
            once: false,
        })
    );
}

#[test]
fn payloads_survive_byte_for_byte() {
    let digits = "9".repeat(30);
    for payload in [
        "1.0",
        "1e400",
        "-0",
        "-1E-999",
        digits.as_str(),
        "null",
        "false",
        "\"\"",
        r#"{"a":1,"a":2,"":{}}"#,
        r#""\u00e9\/\n\ud83d\ude00 \"\\""#,
        r#""\ud800""#,
        r#"{"\udfff":["\ud800x"]}"#,
        "{ \"b\" :\t[ 1 ,\r\n2 ] , \"a\" : { } }",
        "\"é日😀\u{2028}\u{7f}\"",
    ] {
        for around in ["", " ", "\n\t \r"] {
            let text = publish_text(&format!("{around}{payload}{around}"));
            let Command::Publish(publish) = parsed(&text) else {
                unreachable!("{text}")
            };
            assert_eq!(publish.payload, payload);
        }
    }
}

#[test]
fn deep_payloads_are_refused_and_shallow_ones_are_not() {
    let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
    let text = publish_text(&nested(DEPTH_MAX));
    assert!(matches!(parsed(&text), Command::Publish(_)));
    assert_bad(&publish_text(&nested(DEPTH_MAX + 1)), "at most 32 levels");
    let text = format!(r#"{{"type":"ping","request_id":"r","x":{}}}"#, nested(1000));
    assert!(matches!(parsed(&text), Command::Ping { .. }));
    let wide = format!("[{}0]", "[],".repeat(1000));
    assert!(matches!(parsed(&publish_text(&wide)), Command::Publish(_)));
    let text = publish_text(&format!("\"{}\"", "[{".repeat(1000)));
    assert!(matches!(parsed(&text), Command::Publish(_)));
}

#[test]
fn a_flood_of_brackets_neither_panics_nor_overflows() {
    for count in [64 << 10, 10 << 20] {
        let open = "[".repeat(count);
        assert_bad_anonymous(&open, "invalid JSON");
        assert_bad_anonymous(&publish_text(&open), "invalid JSON");
    }
    assert_bad_anonymous(&r#"{"a":"#.repeat(64 << 10), "invalid JSON");
    let closed = "[".repeat(64 << 10) + &"]".repeat(64 << 10);
    assert_bad(&publish_text(&closed), "too deep");
    assert!(parse(&publish_text(&closed), usize::MAX).is_ok());
}

#[test]
fn text_that_is_no_command_says_why() {
    for (text, words) in [
        ("", "invalid JSON: EOF while parsing a value at column 0"),
        (r#"{"type":"ping""#, "at column 14"),
        (
            r#"{"type":"ping",}"#,
            "invalid JSON: key must be a string at column 16",
        ),
        ("{\"type\":\n\"ping\"\n x}", "at line 3 column 2"),
        (r#"{"type":"ping"} {}"#, "trailing characters at column 17"),
        (r#"{"type":"ping","request_id":"r","a":01}"#, "invalid JSON"),
        ("{\"type\":\"pi\nng\"}", "invalid JSON: control character"),
        ("\u{feff}{}", "invalid JSON"),
        ("[]", "a command must be a JSON object"),
        ("1e400", "a command must be a JSON object"),
        ("null", "a command must be a JSON object"),
        (r#""ping""#, "a command must be a JSON object"),
        ("{}", "type is required"),
    ] {
        assert_bad_anonymous(text, words);
    }
}

#[test]
fn unknown_types_are_named_with_the_allowed_ones() {
    let allowed = "auth, subscribe, unsubscribe, publish";
    assert_bad(r#"{"request_id":"r"}"#, "type is required");
    assert_bad(r#"{"type":null,"request_id":"r"}"#, allowed);
    assert_bad(r#"{"type":1,"request_id":"r"}"#, "type must be a string");
    assert_bad(
        r#"{"type":"Ping","request_id":"r"}"#,
        "Unknown message type: 'Ping'",
    );
    assert_bad(r#"{"type":"Ping","request_id":"r"}"#, allowed);
    let long = format!(r#"{{"type":"x{}","request_id":"r"}}"#, "é".repeat(9999));
    let bad = parse(&long, DEPTH_MAX).expect_err("an unknown type");
    assert!(bad.message.contains("é…'"), "{}", bad.message);
    assert!(bad.message.len() < 150);
}

#[test]
fn topics_are_required_and_checked() {
    for kind in ["subscribe", "unsubscribe", "publish"] {
        for (topic, words) in [
            ("null", "topic is required"),
            ("7", "topic must be a string"),
            (r#""\ud800""#, "topic must be a string"),
            (r#""""#, "topic name is empty"),
            (r#""a\u0007""#, "control character"),
        ] {
            assert_bad(
                &format!(r#"{{"type":"{kind}","topic":{topic},"request_id":"r"}}"#),
                words,
            );
        }
        assert_bad(
            &format!(r#"{{"type":"{kind}","request_id":"r"}}"#),
            "topic is required",
        );
    }
}

#[test]
fn messages_are_checked_field_by_field() {
    let with = |message: &str| {
        format!(r#"{{"type":"publish","request_id":"r","topic":"t","message":{message}}}"#)
    };
    for (message, words) in [
        ("null", "message is required"),
        ("1e400", "message must be an object"),
        ("[]", "message must be an object"),
        ("{}", "message.id is required"),
        (r#"{"id":null,"payload":1}"#, "message.id is required"),
        (r#"{"id":5,"payload":1}"#, "message.id must be a string"),
        (r#"{"id":"5","payload":1}"#, MESSAGE_ID_NOT_UUID_TEXT),
        (r#"{"id":"","payload":1}"#, MESSAGE_ID_NOT_UUID_TEXT),
    ] {
        assert_bad(&with(message), words);
    }
    assert_bad(
        r#"{"type":"publish","request_id":"r","topic":"t"}"#,
        "message is required",
    );
    let text = with(&format!(
        r#"{{"x":[{{}}],"payload":1,"\u0069d":"\u0035{}","id2":1e999}}"#,
        &ID[1..]
    ));
    let Command::Publish(publish) = parsed(&text) else {
        unreachable!()
    };
    assert_eq!((publish.id.as_ref(), publish.payload), (ID, "1"));
    let text = with(&format!(r#"{{"id":"{ID}"}}"#));
    assert!(matches!(parsed(&text), Command::Publish(publish) if publish.payload == "null"));
}

#[test]
fn ids_may_have_any_spelling_of_a_uuid() {
    let simple = ID.replace('-', "");
    for id in [
        ID,
        &ID.to_uppercase(),
        &simple,
        &format!("{{{ID}}}"),
        &format!("urn:uuid:{ID}"),
    ] {
        let text = publish_text("1").replace(ID, id);
        let Command::Publish(publish) = parsed(&text) else {
            unreachable!()
        };
        assert_eq!(publish.id, id);
        assert_eq!(json::string(id), format!("\"{id}\""));
    }
}

#[test]
fn ack_is_a_bool_and_true_by_default() {
    let with = |ack: &str| publish_text("1").replacen('{', &format!(r#"{{"ack":{ack},"#), 1);
    for (ack, wanted) in [("true", true), ("false", false), ("null", true)] {
        let text = with(ack);
        let Command::Publish(publish) = parsed(&text) else {
            unreachable!()
        };
        assert_eq!(publish.ack, wanted);
    }
    for ack in ["0", "\"true\"", "[]"] {
        assert_bad(&with(ack), "ack must be true or false");
    }
}

#[track_caller]
fn replay_of(fields: &str) -> Result<Replay<'static>, String> {
    let text = format!(r#"{{"type":"subscribe","topic":"t","request_id":"r",{fields}}}"#);
    match parse(&text, DEPTH_MAX) {
        Ok(Command::Subscribe { replay, .. }) => Ok(match replay {
            Replay::None => Replay::None,
            Replay::Last(count) => Replay::Last(count),
            Replay::Since { epoch, seq } => Replay::Since {
                epoch: epoch.into_owned().into(),
                seq,
            },
        }),
        Ok(other) => unreachable!("{other:?}"),
        Err(bad) => {
            assert_eq!(bad.request_id.map(|id| id.as_json()), Some("\"r\""));
            Err(bad.message.into_owned())
        }
    }
}

#[test]
fn last_n_is_a_count_of_any_size() {
    for (last_n, replay) in [
        ("null", Replay::None),
        ("0", Replay::Last(0)),
        ("5", Replay::Last(5)),
        ("18446744073709551615", Replay::Last(u64::MAX)),
        ("18446744073709551616", Replay::Last(u64::MAX)),
        (&"9".repeat(400), Replay::Last(u64::MAX)),
        ("-1", Replay::Last(0)),
        ("-0", Replay::Last(0)),
        ("-99999999999999999999", Replay::Last(0)),
    ] {
        assert_eq!(replay_of(&format!(r#""last_n":{last_n}"#)), Ok(replay));
    }
    for last_n in ["1.0", "-1.5", "1e3", "\"5\"", "true", "[5]"] {
        assert_eq!(
            replay_of(&format!(r#""last_n":{last_n}"#)),
            Err("last_n must be an integer".to_owned())
        );
    }
}

#[test]
fn since_wins_over_last_n() {
    let since = |epoch: &str, seq| {
        Ok(Replay::Since {
            epoch: epoch.to_owned().into(),
            seq,
        })
    };
    for (fields, replay) in [
        (r#""since":{"epoch":"9f","seq":41}"#, since("9f", 41)),
        (
            r#""since":{"seq":0,"x":[],"epoch":"\u0039f"},"last_n":5"#,
            since("9f", 0),
        ),
        (r#""since":null,"last_n":5"#, Ok(Replay::Last(5))),
        (r#""since":null"#, Ok(Replay::None)),
    ] {
        assert_eq!(replay_of(fields), replay);
    }
    for (since, words) in [
        ("41", "since must be an object"),
        ("[\"9f\",41]", "since must be an object"),
        (r#"{"seq":41}"#, "since.epoch is required"),
        (r#"{"epoch":null,"seq":41}"#, "since.epoch is required"),
        (r#"{"epoch":9,"seq":41}"#, "since.epoch must be a string"),
        (r#"{"epoch":"9f"}"#, "since.seq must be a non-negative"),
        (r#"{"epoch":"9f","seq":-1}"#, "since.seq must be"),
        (r#"{"epoch":"9f","seq":1.5}"#, "since.seq must be"),
        (r#"{"epoch":"9f","seq":"1"}"#, "since.seq must be"),
    ] {
        let error = replay_of(&format!(r#""since":{since}"#)).expect_err(since);
        assert!(error.contains(words), "{since}: {error}");
    }
}

#[test]
fn bad_request_ids_are_not_echoed() {
    let long = format!("\"{}\"", "x".repeat(1025));
    for (request_id, words) in [
        ("5", "request_id must be a string"),
        ("{}", "request_id must be a string"),
        (r#""\udc00""#, "request_id must be a string"),
        (&long, "request_id has 1025 bytes: at most 1024"),
    ] {
        assert_bad_anonymous(
            &format!(r#"{{"type":"ping","request_id":{request_id}}}"#),
            words,
        );
    }
}

#[test]
fn keys_may_be_escaped_repeated_and_unknown() {
    let text =
        r#"{"\ud800":1,"t\u0079pe":"auth","x":{"type":"auth"},"type":"ping","id":[],"payload":0}"#;
    assert_eq!(parsed(text), Command::Ping { request_id: None });
    let text = r#"{"type":"ping","message":1e400,"request_id":"r","topic":7}"#;
    assert!(matches!(parsed(text), Command::Ping { .. }));
}

#[test]
fn an_auth_without_a_usable_key_is_still_one() {
    for api_key in ["", r#","api_key":null"#, r#","api_key":1"#] {
        let text = format!(r#"{{"type":"auth","request_id":"r"{api_key}}}"#);
        let request_id = RequestId::from_json("\"r\"").ok();
        let auth = Command::Auth {
            request_id,
            proof: None,
        };
        assert_eq!(parsed(&text), auth);
    }
    let bad = parse(r#"{"type":"auth","request_id":1}"#, DEPTH_MAX).expect_err("no id");
    assert!(bad.is_auth);
}

#[test]
fn no_damage_to_a_command_panics() {
    let commands = [
        publish_text(r#"{"a":[1.5e3,"\u00e9\n\ud83d\ude00é",null,{"b":true}]}"#),
        r#"{"type":"subscribe","topic":"é","last_n":5,"since":{"epoch":"9f","seq":41},"request_id":"r"}"#
            .to_owned(),
        r#"{"type":"auth","api_key":"k\t","request_id":"\u00e9"}"#.to_owned(),
    ];
    // splitmix64 from a fixed seed: every run damages the same bytes.
    let mut state = 7_u64;
    let mut random = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).to_le_bytes()
    };
    let mut tried = 0;
    let mut try_bytes = |bytes: &[u8]| {
        if let Ok(text) = str::from_utf8(bytes) {
            tried += 1;
            match parse(text, 3) {
                Ok(Command::Publish(publish)) => {
                    serde_json::from_str::<serde::de::IgnoredAny>(publish.payload)
                        .expect("a payload is valid JSON");
                }
                Ok(_) => {}
                Err(bad) => assert!(!bad.message.is_empty()),
            }
        }
    };
    for command in &commands {
        for at in 0..command.len() {
            try_bytes(&command.as_bytes()[..at]);
            for bit in 0..8 {
                let mut bytes = command.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                try_bytes(&bytes);
            }
            for _ in 0..20 {
                let mut bytes = command.clone().into_bytes();
                let [byte, other, count, ..] = random();
                bytes[at] = b"\"\\{}[],:0-e.n \xc3\n"[usize::from(byte) % 16];
                let other = usize::from(other) % bytes.len();
                bytes.drain(other..(other + usize::from(count) % 4).min(command.len()));
                try_bytes(&bytes);
            }
        }
    }
    assert!(tried > 5_000, "{tried}");
}

#[test]
fn raw_control_characters_are_legal_in_no_string() {
    for text in [
        "{\"type\":\"ping\",\"\u{f}\":1}",
        "{\"type\":\"ping\",\"\\n\u{1}\":1}",
        "{\"ty\tpe\":1,\"type\":\"ping\"}",
        "{\"type\":\"subscribe\",\"topic\":\"t\",\"since\":{\"\n\":0,\"epoch\":\"e\",\"seq\":1}}",
        "{\"type\":\"publish\",\"topic\":\"t\",\"message\":{\"\r\":0,\"payload\":1}}",
    ] {
        assert!(parse(text, DEPTH_MAX).is_err(), "{text:?}");
    }
    assert!(parse("{\n\t\"type\" :\r\n\"ping\",\"\\n\":1}", DEPTH_MAX).is_ok());
}

#[test]
fn a_policy_is_one_of_those_that_there_are() {
    let policy = |topic: &str, fields: &str| {
        let text = format!(r#"{{"type":"subscribe","topic":"{topic}"{fields}}}"#);
        match parse(&text, DEPTH_MAX) {
            Ok(Command::Subscribe { policy, .. } | Command::SubscribePattern { policy, .. }) => {
                Ok(policy)
            }
            Ok(command) => panic!("{command:?}"),
            Err(bad) => Err(bad.message),
        }
    };
    let latest = |rate| Policy::Latest {
        max_rate: NonZeroU16::new(rate),
    };
    for topic in ["orders", "orders.*"] {
        for (fields, wanted) in [
            ("", Policy::All),
            (r#","policy":null,"max_rate":null"#, Policy::All),
            (r#","policy":"latest""#, latest(0)),
            (r#","pol\u0069cy":"l\u0061test""#, latest(0)),
            (r#","max_rate":10"#, latest(10)),
            (
                r#","max_rate":0,"max_rate":1000,"policy":"latest""#,
                latest(1000),
            ),
            (r#","x":{"policy":"newest"}"#, Policy::All),
        ] {
            assert_eq!(policy(topic, fields), Ok(wanted), "{fields}");
        }
        for (fields, words) in [
            (r#","policy":"newest""#, "latest"),
            (r#","policy":1,"max_rate":1"#, "latest"),
            (r#","policy":["latest"]"#, "latest"),
            (r#","policy":"latest","max_rate":0"#, "1 to 1000"),
            (r#","max_rate":1001"#, "1 to 1000"),
            (r#","max_rate":-5"#, "1 to 1000"),
            (r#","max_rate":1.0"#, "1 to 1000"),
            (r#","max_rate":"5""#, "1 to 1000"),
            (r#","max_rate":true"#, "1 to 1000"),
            (r#","max_rate":99999999999999999999"#, "1 to 1000"),
        ] {
            let refused = policy(topic, fields).expect_err(fields);
            assert!(refused.contains(words), "{fields}: {refused}");
        }
    }
}

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).expect("a pattern")
}

#[test]
fn a_name_with_wildcards_is_a_pattern_where_one_subscribes() {
    let request_id = RequestId::from_json("\"r\"").ok();
    let subscribe = |past, wants_positions| Command::SubscribePattern {
        request_id,
        pattern: pattern("orders.*"),
        past,
        policy: Policy::All,
        wants_positions,
    };
    let seen = |topic: &str, epoch: &str, seq| Seen {
        topic: topic.into(),
        epoch: epoch.into(),
        seq,
    };
    for (fields, command) in [
        ("", subscribe(Past::None, false)),
        (r#","last_n":-1"#, subscribe(Past::Last(0), false)),
        (
            r#","last_n":5,"positions":true"#,
            subscribe(Past::Last(5), true),
        ),
        (r#","positions":false"#, subscribe(Past::None, false)),
        (r#","positions":null"#, subscribe(Past::None, false)),
        (r#","positions":{}"#, subscribe(Past::After(vec![]), true)),
        (
            r#","last_n":5,"positions":{"orders.\u0065u":{"epoch":"9f","seq":41,"x":1},"gone":null,"b":{"seq":0,"epoch":""}}"#,
            subscribe(
                Past::After(vec![seen("orders.eu", "9f", 41), seen("b", "", 0)]),
                true,
            ),
        ),
    ] {
        let text = format!(r#"{{"type":"subscribe","topic":"orders.*","request_id":"r"{fields}}}"#);
        assert_eq!(parse(&text, DEPTH_MAX), Ok(command), "{text}");
    }
    let text = r#"{"type":"unsubscribe","topic":"orders.>","request_id":"r"}"#;
    let unsubscribe = Command::UnsubscribePattern {
        request_id,
        pattern: pattern("orders.>"),
    };
    assert_eq!(parse(text, DEPTH_MAX), Ok(unsubscribe));
}

#[test]
fn what_is_no_pattern_is_refused_with_words() {
    for (fields, words) in [
        (r#""topic":"orders*""#, "one whole token"),
        (r#""topic":"a.>.b""#, "behind the last dot"),
        (r#""topic":"a.*\n""#, "no control characters"),
        (
            r#""topic":"a.*","since":{"epoch":"e","seq":1}"#,
            "positions",
        ),
        (r#""topic":"a.*","positions":1"#, "must be an object, true"),
        (
            r#""topic":"a.*","positions":"true""#,
            "must be an object, true",
        ),
        (r#""topic":"a.*","positions":{"\ud800":{}}"#, "no text"),
        (
            r#""topic":"a.*","positions":{"a.b":1}"#,
            "must be an object",
        ),
        (
            r#""topic":"a.*","positions":{"a.b":{"seq":1}}"#,
            "epoch is required",
        ),
        (
            r#""topic":"a.*","positions":{"a.b":{"epoch":"e","seq":-1}}"#,
            "non-negative integer",
        ),
        (r#""topic":"a.*","last_n":1.5"#, "last_n must be an integer"),
    ] {
        let text = format!(r#"{{"type":"subscribe",{fields},"request_id":"r"}}"#);
        assert_bad(&text, words);
    }
    let text = publish_text("1").replace("orders", "orders.*");
    assert_bad(&text, "topic name holds '*'");
}
