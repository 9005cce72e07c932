//! An entry of `ALLOWED_ORIGINS` that is taken can equal a header, and lets in nothing else.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shardcast::config::origins::AllowedOrigins;

fuzz_target!(|input: (&str, &str)| {
    let (entry, header) = input;
    let Some(allowed) = AllowedOrigins::parse(entry) else {
        return;
    };
    let AllowedOrigins::Only(origins) = &allowed else {
        assert!(entry.split(',').any(|entry| entry.trim() == "*"));
        return;
    };
    for origin in origins {
        assert!(allowed.allows(origin), "{origin}");
        assert!(origin.is_ascii() && !origin.ends_with('/'), "{origin}");
        // What is in the form of browsers stays as it is.
        assert_eq!(
            AllowedOrigins::parse(origin),
            Some(AllowedOrigins::Only(vec![origin.clone()]))
        );
    }
    let is_listed = origins
        .iter()
        .any(|origin| origin.eq_ignore_ascii_case(header));
    assert_eq!(allowed.allows(header), is_listed);
});
