//! What a client takes: lists in `Accept` and `Accept-Encoding`.

use hyper::HeaderMap;
use hyper::header::HeaderName;

/// Whether the list in `header` has one of `wanted`, with a weight above zero. One of several headers
/// is a part of the list.
pub(super) fn has_one_of(headers: &HeaderMap, header: &HeaderName, wanted: &[&str]) -> bool {
    let lists = headers.get_all(header).iter();
    lists
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(','))
        .any(|item| {
            let mut parts = item.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let is_it = wanted
                .iter()
                .any(|wanted| name.eq_ignore_ascii_case(wanted));
            // A weight of zero is a refusal: RFC 9110, 12.4.2.
            let is_refused = parts.any(|parameter| {
                let weight = parameter
                    .strip_prefix("q=")
                    .or_else(|| parameter.strip_prefix("Q="));
                weight.is_some_and(|weight| weight.parse() == Ok(0.0_f32))
            });
            is_it && !is_refused
        })
}

#[cfg(test)]
mod tests {
    use hyper::header::{ACCEPT, HeaderValue};

    use super::*;

    #[test]
    fn an_item_of_any_list_counts_unless_its_weight_is_zero() {
        for (lists, has) in [
            (&[][..], false),
            (&[""], false),
            (&["gzip, deflate, br"], true),
            (&["br;q=1, GZIP;q=0.5"], true),
            (&["br", "deflate,x-gzip , gzip"], true),
            (&["gzip;q=0"], false),
            (&["gzip; Q=0.000"], false),
            (&["gzip;level=1;q=0.1"], true),
            (&["x-gzip"], false),
        ] {
            let values = lists.iter().copied().map(HeaderValue::from_static);
            let headers: HeaderMap = values.map(|value| (ACCEPT, value)).collect();
            let wanted = ["gzip", "zstd"];
            assert_eq!(has_one_of(&headers, &ACCEPT, &wanted), has, "{lists:?}");
        }
    }
}
