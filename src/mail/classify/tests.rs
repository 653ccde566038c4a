use super::*;

/// Invented replies in the styles of many servers: code and text as the session gives them.
const REPLIES: &[(ReplyKind, &[(u16, &str)])] = &[
    (
        ReplyKind::AddressDead,
        &[
            // Gmail, over several lines.
            (
                550,
                "5.1.1 The email account that you tried to reach does not exist. Please try 5.1.1 double-checking \
                   the recipient's email address for typos or 5.1.1 unnecessary spaces. 5.1.1 For more information, \
                   go to 5.1.1 https://support.google.com/mail/?p=NoSuchUser a1b2c3 - gsmtp",
            ),
            // Exchange and Outlook.
            (
                550,
                "5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient kim@customer.example not found by SMTP address lookup",
            ),
            (550, "5.4.1 Recipient address rejected: Access denied. [AB1.prod.example 2026-03-01T10:00:00.000Z]"),
            (550, "5.5.0 Requested action not taken: mailbox unavailable (S2017062302)."),
            (550, "Requested action not taken: mailbox unavailable"),
            // Yahoo and iCloud.
            (554, "delivery error: dd This user doesn't have a yahoo.com account (kim@yahoo.example) [0] - mta1"),
            (552, "1 Requested mail action aborted, mailbox not found"),
            (550, "5.1.1 <kim@icloud.example>: user does not exist"),
            // Postfix, alone and passing a server's words on.
            (550, "5.1.1 <kim@customer.example>: Recipient address rejected: User unknown in local recipient table"),
            (
                550,
                "5.1.1 <kim@customer.example>: Recipient address rejected: undeliverable address: host \
                   mx.customer.example[192.0.2.1] said: 550 5.1.1 <kim@customer.example>: no mailbox by that name \
                   (in reply to RCPT TO command)",
            ),
            (550, "5.7.1 <kim@customer.example>: Recipient address rejected: User unknown in relay recipient table"),
            (550, "5.0.0 <kim@customer.example>... User unknown"),
            // Exim, Sendmail, qmail, Domino, Courier, Proofpoint, Mimecast, Haraka.
            (550, "Unrouteable address"),
            (550, "No Such User Here"),
            (550, "sorry, no mailbox here by that name. (#5.1.1)"),
            (550, "kim@customer.example... No such user"),
            (550, "5.1.1 User not listed in Domino Directory"),
            (550, "5.1.1 User unknown - psmtp"),
            (550, "Invalid Recipient - https://community.mimecast.example/docs/DOC-1369#550 [q1w2]"),
            (550, "5.1.1 address unknown"),
            (551, "not our customer"),
            (551, "5.7.17 mailbox owner has changed"),
            (556, "5.1.10 customer.example does not accept mail (null MX)"),
            (550, "5.1.2 <kim@customer.example>... Host unknown (Name server: customer.example: host not found)"),
            (550, "5.1.6 recipient no longer on server"),
            (550, "5.2.1 Mailbox disabled"),
            (550, "This mailbox is disabled and takes no mail"),
            (550, "mailbox <kim@customer.example> does not exist"),
            (550, "user kim@customer.example has never existed: no such recipient"),
            // What words say of a notice or a table does not speak against word and code.
            (550, "5.1.1 unknown user (ldap)"),
            (550, "5.1.1 <kim@customer.example>: Recipient address rejected: User unknown in LDAP directory"),
            (550, "5.1.1 User unknown in database"),
            (550, "5.1.1 <kim@customer.example> User doesn't exist. Visit our url http://postmaster.example/"),
            (550, "5.1.1 No such user here. Contact the postmaster until it is resolved"),
            (550, "User unknown, returned to sender"),
            // Codes alone.
            (550, "5.1.1 rejected"),
            (553, "5.1.3 bad syntax"),
            // Other languages.
            (550, "5.1.1 Benutzer unbekannt"),
            (550, "Die Empfängeradresse <kim@kunde.example> existiert nicht"),
            (550, "5.1.1 Adresse d'un destinataire invalide. Invalid recipient. LPN"),
            (550, "Destinataire inconnu"),
            (550, "No existe dicha persona"),
            (550, "El usuario no existe en este servidor"),
            (550, "utente sconosciuto: kim@cliente.example"),
            (550, "Usuário desconhecido"),
            (550, "Onbekende gebruiker"),
            (550, "Nie ma takiego konta"),
            (550, "Пользователь не найден"),
            (550, "收件人不存在"),
            (550, "宛先が存在しません"),
            (550, "Okänd mottagare"),
            (550, "5.1.1 böyle bir kullanıcı yok"),
        ],
    ),
    (
        ReplyKind::MailboxFull,
        &[
            (552, "5.2.2 The email account that you tried to reach is over quota. - gsmtp"),
            (452, "4.2.2 The recipient's inbox is out of storage space. Please direct the recipient to"),
            (554, "5.2.2 mailbox full; STOREDRV.Deliver; mailbox quota exceeded"),
            (550, "5.1.1 <kim@customer.example>... Mailbox full"),
            (552, "Requested mail action aborted: exceeded storage allocation"),
            (550, "5.1.0 - Unknown address error '5.2.2 <kim@customer.example>... Mailbox Full'"),
            (550, "user kim has exceeded his disk quota"),
            (552, "5.2.2 This message is larger than the current system limit or the recipient's mailbox is full."),
            (422, "The recipient's mailbox is over its storage limit"),
            (550, "Not enough disk space: kim@customer.example: user unknown"),
            (552, "Das Postfach ist voll"),
            (552, "Boîte du destinataire pleine"),
            (552, "El buzón está lleno: cuota excedida"),
            (552, "casella piena"),
            (552, "Caixa postal cheia"),
            (552, "почтовый ящик переполнен"),
            (552, "邮箱已满"),
            (552, "メールボックスがいっぱいです"),
        ],
    ),
    (
        ReplyKind::SlowDown,
        &[
            (550, "5.7.0 Mail sending rate exceeded for this account"),
            (550, "Ip frequency limited"),
            (
                450,
                "4.2.1 The user you are trying to contact is receiving mail at a rate that prevents additional \
                   messages from being delivered. - gsmtp",
            ),
            (550, "5.2.1 The user you are trying to contact is receiving mail too quickly."),
            (432, "4.3.2 Concurrent connections limit exceeded. Visit https://aka.example/concurrent_sending"),
            (
                451,
                "4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or user complaints",
            ),
            (454, "Throttling failure: Maximum sending rate exceeded."),
            (452, "4.5.3 Error: too many recipients"),
            (554, "5.7.1 Too many connections from your host"),
            (550, "Too many invalid recipients"),
            (452, "4.3.1 Insufficient system storage"),
            (451, "4.3.2 Please try again later"),
            (452, "4.4.5 Insufficient disk space"),
            (554, "5.3.2 rate limited, slow down"),
            (450, "Server busy, bitte später noch einmal"),
        ],
    ),
    (
        ReplyKind::QuotaUsed,
        &[
            (550, "5.4.5 Daily user sending limit exceeded. For more information on Gmail sending limits go to"),
            (550, "5.4.5 Daily SMTP relay limit exceeded for user"),
            (550, "5.4.5 You have sent too much for today"),
            (550, "Account exceeded the max emails per hour (150/150)"),
            (
                550,
                "Domain acme.example has exceeded the max defers and failures per hour (5/5 (100%)) allowed. Message \
                   discarded.",
            ),
            (454, "Throttling failure: Daily message quota exceeded."),
        ],
    ),
    (
        ReplyKind::Greylisted,
        &[
            (
                450,
                "4.2.0 <kim@customer.example>: Recipient address rejected: Greylisted, see http://postgrey.example/help",
            ),
            (451, "4.7.1 Greylisting in action, please come back later"),
            (451, "Temporarily greylisted - try again in 300 seconds"),
            (550, "5.7.1 Graylisted, please retry"),
        ],
    ),
    (
        ReplyKind::MessageAtFault,
        &[
            (
                550,
                "5.7.1 Our system has detected that this message is likely unsolicited mail. To reduce the amount of \
                   spam sent to Gmail, this message has been blocked.",
            ),
            (554, "5.7.1 Message rejected due to content restrictions"),
            (550, "High probability of spam"),
            (554, "5.7.1 Message contains a virus (Eicar-Test)"),
            (552, "5.3.4 Message size exceeds fixed limit"),
            (552, "5.2.3 Message too large"),
            (554, "5.7.9 Message not accepted for policy reasons."),
            (550, "5.7.1 Blacklisted URL in message (surbl)"),
            (550, "message contains a link to a domain on the blocklist"),
            (554, "5.6.0 Headers too large"),
            (554, "Transaction failed: Duplicate header 'Date'."),
            (500, "Line limit exceeded"),
            (554, "5.5.2 invalid command"),
            (451, "4.7.1 message looks like spam"),
        ],
    ),
    (
        ReplyKind::OurAuthentication,
        &[
            (
                550,
                "5.7.26 This mail has been blocked because the sender is unauthenticated. Gmail requires all senders \
                   to authenticate with either SPF or DKIM.",
            ),
            (421, "4.7.26 This mail has been rate limited because it is unauthenticated"),
            (550, "5.7.25 The IP address sending this message does not have a PTR record setup"),
            (
                550,
                "5.7.515 Access denied, sending domain acme.example does not meet the required authentication level.",
            ),
            (550, "5.7.23 The message was rejected because of Sender Policy Framework violation"),
            (554, "5.7.1 Your message was rejected due to acme.example's DMARC policy."),
            (550, "5.7.509 Access denied, sending domain does not pass DMARC verification"),
            (550, "SPF check failed: 192.0.2.1 is not allowed to send mail from acme.example"),
            (554, "DKIM signature invalid"),
            (530, "5.7.0 Must issue a STARTTLS command first"),
            (550, "5.7.29 connection not encrypted"),
            (571, "No PTR Record found. Reverse DNS required: 192.0.2.1"),
            (504, "5.5.2 <localhost>: Helo command rejected: need fully-qualified hostname"),
            (550, "5.1.8 <a@acme.example>: Sender address rejected: Domain not found"),
            (550, "5.7.27 sender domain has a null MX"),
            (550, "5.7.1 Connections not accepted from servers without a valid sender domain"),
        ],
    ),
    (
        ReplyKind::OurReputation,
        &[
            (554, "5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org"),
            (550, "5.7.606 Access denied, banned sending IP [192.0.2.1]."),
            (550, "5.7.28 Our system has detected an unusual rate of unsolicited mail originating from your IP"),
            (550, "Your IP has been blacklisted"),
            (550, "5.7.750 Service unavailable. Client blocked from sending from unregistered domains"),
            (554, "Blocked - see https://ipcheck.proofpoint.example/?ip=192.0.2.1"),
            (
                550,
                "5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. Please contact your Internet service \
                   provider since part of their network is on our block list (S3140).",
            ),
            (
                550,
                "5.7.1 Our system has detected that this message is suspicious due to the very low reputation of the \
                   sending domain",
            ),
            (554, "5.7.1 <unknown[192.0.2.1]>: Client host rejected: Access denied"),
            (
                550,
                "5.1.1 <kim@customer.example>: undeliverable address: host mx.customer.example[192.0.2.9] said: 554 \
                   5.7.1 Client host blocked using bl.spamcop.net (in reply to RCPT TO command)",
            ),
            (
                550,
                "5.7.1 [192.0.2.1] The IP you're using to send mail is not authorized to send email directly to our \
                   servers. Please use the SMTP relay at your service provider instead.",
            ),
            (550, "Ihre IP steht auf einer Sperrliste"),
            (550, "Votre adresse est sur liste noire"),
        ],
    ),
    (
        ReplyKind::Credentials,
        &[
            (530, "5.7.0 Authentication required"),
            (530, "5.7.57 Client not authenticated to send mail."),
            (535, "5.7.8 Username and Password not accepted. - gsmtp"),
            (535, "5.7.139 Authentication unsuccessful, the user credentials were incorrect."),
            (534, "5.7.9 Application-specific password required."),
            (554, "5.7.1 <kim@customer.example>: Relay access denied"),
            (454, "4.7.1 <kim@customer.example>: Relay access denied"),
            (550, "5.7.1 Relaying denied"),
            (554, "Message rejected: Email address is not verified. The following identities failed the check"),
            (550, "The from address does not match a verified Sender Identity."),
            (553, "5.7.1 <a@acme.example>: Sender address rejected: not owned by user b"),
            (553, "5.7.1 <a@acme.example>: Sender address rejected: not logged in"),
            (501, "mail from address must be same as authorization user"),
            (553, "Mail from must equal authorized user"),
            (503, "AUTH first (#5.5.1)"),
            (503, "5.5.4 Error: send AUTH command first"),
            (550, "Please turn on SMTP Authentication in your mail client."),
            (550, "5.7.60 SMTP; Client does not have permissions to send as this sender"),
            (525, "5.7.13 user account is disabled"),
            (554, "Sending suspended for this account."),
        ],
    ),
    (
        ReplyKind::Unknown,
        &[
            (554, "5.0.0 Transaction failed"),
            (550, "Rejected"),
            (451, "4.3.0 Temporary lookup failure"),
            // Temporary: never evidence that an address is dead, nor that DNS says what it seems to.
            (450, "4.1.1 <kim@customer.example>: Recipient address rejected: User unknown in virtual alias table"),
            (450, "4.7.25 Client host rejected: cannot find your hostname, [192.0.2.1]"),
            (450, "4.1.8 <a@acme.example>: Sender address rejected: Domain not found"),
            (454, "4.7.0 Temporary authentication failure"),
            (451, "4.7.24 SPF: temporary error"),
            // A mailbox that may come back.
            (550, "5.2.1 The email account that you tried to reach is disabled. - gsmtp"),
            (550, "mailbox is temporarily disabled"),
            (
                554,
                "delivery error: dd Sorry your message to kim@yahoo.example cannot be delivered. This account has \
                   been disabled or discontinued [#102].",
            ),
            (550, "5.1.1 user suspended"),
            (550, "5.2.1 recipient is quarantined"),
            // One recipient's own rules.
            (550, "5.7.1 RESOLVER.RST.AuthRequired; authentication required"),
            (550, "5.7.133 sender not authenticated for group"),
            (550, "Rejected by header based manually blocked senders - https://mimecast.example"),
            (550, "Administrative prohibition - envelope blocked"),
            (550, "5.7.1 You have been blocked by the recipient"),
            (550, "5.7.1 <kim@customer.example>: Recipient address rejected: Access denied"),
            // A server that filters by its user's rules and names nobody.
            (550, ": User unknown"),
            (550, "5.3.0 - Other mail system problem 'Unknown user kim@customer.example'"),
            // A server behind the relay does not relay: its trouble, not our login.
            (
                554,
                "5.0.0 host mx.customer.example[192.0.2.1] said: 554 5.7.1 <kim@customer.example>: Relay access denied \
                   (in reply to RCPT TO command)",
            ),
            // The relay's own list.
            (550, "kim@customer.example is on the suppression list for your account"),
            (550, "5.7.1 <a@acme.example>: Sender address rejected: Access denied"),
            (550, "5.1.0 sender address <a@acme.example> does not exist"),
            (450, "Requested mail action not taken: mailbox unavailable"),
            (
                550,
                "Requested action not taken: mailbox unavailable. For explanation visit https://postmaster.example/?c=hi",
            ),
            // Words in addresses and names are nobody's evidence.
            (550, "5.0.0 <spamhaus.blocked@customer.example>: no"),
            (550, ""),
        ],
    ),
];

#[test]
fn every_style_of_reply_is_understood() {
    let mut wrong = Vec::new();
    for (kind, replies) in REPLIES {
        for (code, text) in *replies {
            let reply = Reply::new(*code, *text);
            let got = classify(&reply);
            if got != *kind {
                wrong.push(format!("{got} by {:?}, not {kind}: {reply}", ruling(&reply).map(|rule| rule.name)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_temporary_silences_anybody_and_nothing_positive_means_anything() {
    for (_, replies) in REPLIES {
        for (code, text) in *replies {
            assert_ne!(classify(&Reply::new(450, *text)), ReplyKind::AddressDead, "450 {text}");
            assert_eq!(classify(&Reply::new(250, *text)), ReplyKind::Unknown, "250 {text}");
            let of_sender = Reply { of_sender: true, ..Reply::new(*code, *text) };
            assert_ne!(classify(&of_sender), ReplyKind::AddressDead, "said to MAIL: {code} {text}");
        }
    }
}

#[test]
fn a_final_too_much_is_about_all_of_us_before_the_recipient_is_named() {
    let said = |code| Reply::new(code, "5.7.1 Too many messages from your account, message rate exceeded");
    let at_mail = |code| Reply { of_sender: true, ..said(code) };
    assert_eq!(classify(&at_mail(550)), ReplyKind::Credentials);
    for reply in [said(550), at_mail(450)] {
        assert_eq!(classify(&reply), ReplyKind::SlowDown, "{reply}");
    }
}

#[test]
fn each_rule_decides_about_some_reply_and_has_a_name_of_its_own() {
    let mut idle: Vec<_> = RULES.iter().map(|rule| rule.name).collect();
    let all = idle.len();
    for (_, replies) in REPLIES {
        for (code, text) in *replies {
            let by = ruling(&Reply::new(*code, *text)).map(|rule| rule.name);
            idle.retain(|name| Some(*name) != by);
        }
    }
    assert!(idle.is_empty(), "{} of {all} rules decide about no reply of the table: {idle:#?}", idle.len());
    let mut names: Vec<_> = RULES.iter().map(|rule| rule.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn a_long_reply_is_classified_at_once() {
    let text = "user is blocked exceeded quota * ip ".repeat(3_000);
    let started = std::time::Instant::now();
    assert_eq!(classify(&Reply::new(550, text)), ReplyKind::MailboxFull);
    assert!(started.elapsed() < std::time::Duration::from_secs(2), "{:?}", started.elapsed());
}

/// Phrases of a dead address in replies about us, our account, the mail or the moment.
#[test]
fn what_speaks_of_us_of_the_mail_or_of_the_moment_silences_nobody() {
    for text in [
        "5.7.1 Host unknown",
        "Connection refused: host not found for your IP 192.0.2.1",
        "SPF: no such domain acme.example",
        "5.7.1 DNS lookup of your HELO: host not found",
        "5.7.1 Invalid domain in From header",
        "Invalid domain in header From",
        "5.7.1 SMTP account disabled, contact billing",
        "5.7.1 Account has been disabled due to unpaid invoice",
        "Account closed: payment overdue",
        "5.7.0 Invalid user or password",
        "5.7.1 Message rejected, URL domain not found",
        "5.7.1 Link to nonexistent domain in message",
        "554 5.7.1 Invalid user: you are not allowed to send to this list",
        "5.2.0 Mailbox closed for maintenance",
        "5.1.1 mailbox unavailable, LDAP backend error",
        "5.1.1 Recipient directory is offline",
        "5.1.1 recipient lookup timed out",
        "5.1.1 recipient temporarily rejected",
        "5.1.1 user unknown due to an outage",
        "5.2.1 mailbox disabled by owner until Monday",
        "Access denied: unknown user agent",
        "5.1.1 User unknown: LDAP lookup failure",
        "5.1.1 User unknown, database unavailable",
        "5.1.1 <kim@customer.example>: User unknown (LDAP connection failed)",
        "5.1.1 user unknown, LDAP is down",
        "5.1.1 User unknown: LDAP service not available",
        "5.1.1 User unknown, the database is locked",
        "5.1.1 rejected (ldap)",
        "User unknown, see the url for help",
    ] {
        let reply = Reply::new(550, text);
        let (kind, by) = (classify(&reply), ruling(&reply).map(|rule| rule.name));
        assert_ne!(kind, ReplyKind::AddressDead, "{text}: by {by:?}");
    }
}
