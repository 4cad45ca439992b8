//! The body of a form, as token endpoints take it.

/// The fields of `application/x-www-form-urlencoded`, in their order.
pub(crate) fn fields(body: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(body);
    let decode = |part: &str| {
        let spaced = part.replace('+', " ");
        let mut out = Vec::new();
        let mut bytes = spaced.bytes();
        while let Some(byte) = bytes.next() {
            let hex = |byte: Option<u8>| char::from(byte?).to_digit(16);
            match byte {
                b'%' => match (hex(bytes.next()), hex(bytes.next())) {
                    (Some(high), Some(low)) => out.extend(u8::try_from(high * 16 + low).ok()),
                    (_, _) => out.push(b'%'),
                },
                byte => out.push(byte),
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    };
    text.split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (decode(key), decode(value)))
        .collect()
}
