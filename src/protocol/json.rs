//! Text as JSON strings.

/// `text` as a JSON string, quoted and escaped.
#[expect(clippy::missing_panics_doc, reason = "every str has a JSON form")]
pub fn string(text: &str) -> String {
    serde_json::to_string(text).expect("every str has a JSON form")
}

/// Appends `text` as a JSON string, quoted and escaped.
#[expect(clippy::missing_panics_doc, reason = "writing to a Vec cannot fail")]
pub fn put_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("writing to a Vec cannot fail");
}

/// What is wrong with a text, without the place, which the caller knows better.
pub(super) fn cause(error: &serde_json::Error) -> String {
    let place = format!(" at line {} column {}", error.line(), error.column());
    let text = error.to_string();
    text.strip_suffix(&place).unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_json() {
        for text in [
            "",
            "orders",
            "\"\\/\u{8}\u{c}\n\r\t\u{0}\u{1f}\u{7f}é日\u{2028}😀",
        ] {
            let json = string(text);
            let mut out = Vec::new();
            put_string(&mut out, text);
            assert_eq!(out, json.as_bytes());
            assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), text);
        }
    }
}
