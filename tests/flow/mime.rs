//! Reading a mail as a mail reader does: headers, decoded words and parts, and the tags of its HTML.

/// The headers in their order, unfolded; the names as written.
pub fn headers(raw: &str) -> Vec<(String, String)> {
    let head = raw.split("\r\n\r\n").next().unwrap().replace("\r\n ", " ").replace("\r\n\t", " ");
    head.split("\r\n")
        .map(|line| line.split_once(':').unwrap_or_else(|| panic!("no header: {line:?}")))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

/// The decoded text of the part of a kind, such as `text/html`; there is exactly one.
pub fn part(raw: &str, kind: &str) -> String {
    let boundary = headers(raw).into_iter().find(|(name, _)| name == "Content-Type").unwrap().1;
    let boundary = boundary.split("boundary=\"").nth(1).unwrap().split('"').next().unwrap();
    let body = raw.split_once("\r\n\r\n").unwrap().1;
    let parts: Vec<_> = body.split(&format!("--{boundary}")).skip(1).collect();
    assert_eq!(parts.len(), 3, "a text part, an HTML part and the end: {raw}");
    assert_eq!(parts[2].trim_end(), "--");
    let split = parts[..2].iter().map(|part| part.split_once("\r\n\r\n").unwrap());
    let of_kind: Vec<_> = split.filter(|(head, _)| head.contains(&format!("Content-Type: {kind}"))).collect();
    assert_eq!(of_kind.len(), 1, "{kind} in {raw}");
    let (head, body) = of_kind[0];
    let body = body.strip_suffix("\r\n").unwrap();
    let bytes = if head.contains("quoted-printable") {
        quoted(&body.replace("=\r\n", ""))
    } else if head.contains("base64") {
        base64(body)
    } else {
        body.as_bytes().to_vec()
    };
    String::from_utf8(bytes).unwrap()
}

/// A header's value with its encoded words (RFC 2047) read; blanks between two of them are nothing.
pub fn decoded(value: &str) -> String {
    let mut bytes = Vec::new();
    let mut was_encoded = true;
    for word in value.split_inclusive(' ') {
        let bare = word.trim_end();
        let coded = encoded_word(bare);
        if let Some(coded) = &coded {
            if !was_encoded {
                bytes.push(b' ');
            }
            bytes.extend(coded);
        } else {
            if was_encoded && !bytes.is_empty() {
                bytes.push(b' ');
            }
            bytes.extend_from_slice(bare.as_bytes());
            bytes.extend(word[bare.len()..].bytes());
        }
        was_encoded = coded.is_some();
    }
    String::from_utf8(bytes).unwrap().trim_end().to_owned()
}

/// What an encoded word says, read as UTF-8 whichever charset it names.
fn encoded_word(word: &str) -> Option<Vec<u8>> {
    let mut parts = word.strip_prefix("=?")?.strip_suffix("?=")?.splitn(3, '?').skip(1);
    match (parts.next()?, parts.next()?) {
        ("b" | "B", text) => Some(base64(text)),
        ("q" | "Q", text) => Some(quoted(&text.replace('_', " "))),
        _ => None,
    }
}

fn quoted(text: &str) -> Vec<u8> {
    let mut pieces = text.split('=');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        bytes.push(u8::from_str_radix(&piece[..2], 16).unwrap());
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    bytes
}

fn base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut word) = (Vec::new(), 0, 0_usize);
    for byte in text.bytes().filter(|b| !b.is_ascii_whitespace() && *b != b'=') {
        word = word << 6 | ALPHABET.iter().position(|b| *b == byte).unwrap();
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((word >> bits & 0xff) as u8);
        }
    }
    bytes
}

/// Each tag with its attributes, without the values of `href`; comments whole.
pub fn tags(html: &str) -> Vec<String> {
    let mut tags = Vec::new();
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        rest = &rest[start..];
        let end = if rest.starts_with("<!--") { rest.find("-->").unwrap() + 3 } else { rest.find('>').unwrap() + 1 };
        let mut tag = rest[..end].to_owned();
        if let Some((before, after)) = tag.split_once(" href=\"") {
            tag = format!("{before} href{}", &after[after.find('"').unwrap()..]);
        }
        tags.push(tag);
        rest = &rest[end..];
    }
    tags
}

/// Where the links of an HTML text go.
pub fn links(html: &str) -> Vec<String> {
    html.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}
