//! What is said of us as the sender, and what that means for the recipient and for the stream.

use super::*;

#[test]
fn what_is_said_of_a_sender_silences_no_recipient() {
    for text in [
        "Sender <status@acme.example> not found",
        "Sender mailbox not found",
        "5.1.1 Mail from <status@acme.example> : user unknown",
        "Sender verification: no such user",
        "Sender's address unknown",
        "originator address does not exist",
        "发件人地址不存在",
        "寄件者 用戶不存在",
        "送信者のメールアドレスが存在しません",
        "Отправитель: пользователь не найден",
        "Afzender: adres bestaat niet",
        "Nadawca: adres nie istnieje",
        "O remetente: usuario inexistente",
        "Avsändaren: adressen finns inte",
        "Gönderen: böyle bir kullanıcı yok",
        "556 originator",
    ] {
        assert_ne!(classify(&Reply::new(550, text)), ReplyKind::AddressDead, "{text}");
    }
}

#[test]
fn a_reply_that_names_the_sender_and_not_the_recipient_silences_nobody() {
    let between = |text: &str| classify_between(&Reply::new(550, text), "status@acme.example", "kim@customer.example");
    for text in ["5.1.1 <Status@acme.example>: no such user", "user status@acme.example. does not exist"] {
        assert_eq!(between(text), ReplyKind::Unknown, "{text}");
    }
    for text in [
        "5.1.1 no such user",
        "5.1.1 <kim@customer.example>: no such user",
        "message from <status@acme.example> to <KIM@customer.example>: no such user",
        "5.1.1 <mystatus@acme.example>: no such user",
    ] {
        assert_eq!(between(text), ReplyKind::AddressDead, "{text}");
    }
}

/// What is said to `MAIL` is said for everybody: the stream waits for us, whatever the words.
#[test]
fn a_final_no_to_our_sender_is_about_us_unless_it_is_about_this_mail() {
    let to_mail = |code, text| classify(&Reply { of_sender: true, ..Reply::new(code, text) });
    for (code, text) in [
        (550, "5.7.1 Sender <status@acme.example> not allowed"),
        (550, "Sender denied"),
        (501, "mail from address must be same as authorization user"),
        (553, "5.7.1 <status@acme.example>: Sender address rejected: not logged in"),
        (503, "AUTH first (#5.5.1)"),
        (550, "5.1.1 no such user"),
        (554, "5.7.1 spam is not wanted here"),
        (550, ""),
    ] {
        assert_eq!(to_mail(code, text), ReplyKind::Credentials, "{code} {text}");
    }
    for (code, text, kind) in [
        (552, "5.3.4 Message size exceeds fixed limit", ReplyKind::MessageAtFault),
        (554, "5.3.4 too large", ReplyKind::MessageAtFault),
        (550, "5.6.7 the address needs SMTPUTF8", ReplyKind::MessageAtFault),
        (552, "5.1.1 no such user", ReplyKind::Unknown),
        (450, "4.7.1 Sender not allowed", ReplyKind::Unknown),
        (550, "5.4.5 daily limit", ReplyKind::QuotaUsed),
        (550, "5.1.8 domain of sender does not exist", ReplyKind::OurAuthentication),
    ] {
        assert_eq!(to_mail(code, text), kind, "{code} {text}");
    }
}
