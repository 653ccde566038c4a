//! What a relay's "no" is about: the mail, the address, us, or only the moment.

names!(
    /// What a negative SMTP reply is about. Only [`ReplyKind::AddressDead`] says anything lasting about a
    /// subscriber, and only the `Our*` kinds and [`ReplyKind::Credentials`] would meet every mail of a
    /// stream alike; both need positive evidence, so whatever is ambiguous is [`ReplyKind::Unknown`].
    ReplyKind {
        /// The address does not exist, or never takes mail again.
        AddressDead = "address_dead",
        /// The mailbox exists and is full.
        MailboxFull = "mailbox_full",
        /// Too much, too fast, or too busy at the moment.
        SlowDown = "slow_down",
        /// We have used up what we may send in an hour or a day.
        QuotaUsed = "quota_used",
        /// A first try is put off on principle; the same mail is taken a little later.
        Greylisted = "greylisted",
        /// This one mail: its content, size, headers or syntax.
        MessageAtFault = "message_at_fault",
        /// SPF, DKIM, DMARC, reverse DNS, TLS, HELO or the sender's domain: our set-up fails for every mail.
        OurAuthentication = "our_authentication",
        /// Our IP address or domain is on a block list, or is blocked for what came from it.
        OurReputation = "our_reputation",
        /// The relay does not know us: no login, a wrong one, or no right to relay or to use this sender.
        Credentials = "credentials",
        /// None of these with enough certainty.
        Unknown = "unknown",
    }
);
