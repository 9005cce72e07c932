//! How deep a JSON text nests.
//!
//! Every payload is asked, so the answer is made of a count that vectorizes wherever that is enough. The
//! text has been checked for syntax before.

/// Whether objects and arrays in `text`, which is valid JSON, nest deeper than `depth_max`.
///
/// Counting the brackets answers nearly every command; only a text with enough of them is walked.
pub(super) fn nests_deeper(text: &str, depth_max: usize) -> bool {
    // What opens must close, so nesting deeper takes more than two bytes for each level.
    text.len() / 2 > depth_max
        && opening_brackets(text.as_bytes()) > depth_max
        && walk_nests_deeper(text.as_bytes(), depth_max)
}

/// Counts `[` and `{`, also those inside strings.
///
/// Sums of single bytes, over chunks too short to overflow one, vectorize: over ten times as fast as `filter` and `count`.
fn opening_brackets(text: &[u8]) -> usize {
    const CHUNK_BYTES: usize = 192;
    const { assert!(CHUNK_BYTES <= u8::MAX as usize) };

    // One bit tells `[` from `{`, and setting it makes one comparison do for two.
    let is_opening = |byte: &u8| u8::from(byte | 0x20 == b'{');
    text.chunks(CHUNK_BYTES)
        .map(|chunk| usize::from(chunk.iter().map(is_opening).sum::<u8>()))
        .sum()
}

fn walk_nests_deeper(text: &[u8], depth_max: usize) -> bool {
    let mut depth = 0_usize;
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                if depth > depth_max {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => _ = bytes.next(),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_objects_and_arrays() {
        for (text, depth) in [
            ("1", 0),
            ("[]", 1),
            (r#"{"a":[1,{"b":2}],"c":[[],[[]]]}"#, 4),
            (r#"[[],[],[{}],[],"[[["]"#, 3),
        ] {
            assert!(!nests_deeper(text, depth), "{text}");
            assert!(depth == 0 || nests_deeper(text, depth - 1), "{text}");
        }
    }

    #[test]
    fn brackets_inside_strings_do_not_nest() {
        for text in [
            r#"["[[[[[[[[", "{{{{{{{{"]"#,
            r#"["\"[[[[[[", "\\", "\u005b[[["]"#,
        ] {
            assert!(!nests_deeper(text, 1), "{text}");
        }
        assert!(nests_deeper(r#"["\\",["\"[",[]]]"#, 2));
    }

    #[test]
    fn any_number_of_brackets_is_counted() {
        for count in [0, 1, 191, 192, 193, 255, 256, 100_000] {
            assert_eq!(opening_brackets("[".repeat(count).as_bytes()), count);
            assert_eq!(opening_brackets("{]}".repeat(count).as_bytes()), count);
        }
    }
}
