//! The table. Asked from the top, the first rule that holds decides. It is made from the registry of
//! enhanced codes (RFC 3463, RFC 5248) and from what large and small servers are known to write.
//!
//! The order is the argument: what only looks like something worse (a full mailbox reported as 5.1.1), then what
//! concerns us and not the customer, then the dead address in so many words, the mail itself, and bare codes last.

mod dead;

use super::Rule;
use crate::domain::reply::ReplyKind::{self, *};

/// How a relay introduces the words of a server behind it.
pub(super) const PASSED_ON: &str = "host * said|host said|server said|error from remote|did not like our|\
    refused to talk to me|server returned|remote server|in reply to rcpt|in reply to mail|in reply to end";

/// The enhanced codes that are about one mail even in a reply to `MAIL`: size, recipients, content.
pub(super) const OF_THIS_MAIL: &str = "2.3 3.4 5.3 6";

/// How a reply speaks of a sender.
pub(super) const OF_A_SENDER: &str = "\
    sender|originator|mail from @|mail from address|mail from domain|mailfrom|return path|reverse path|\
    from address|envelope from|absender|expediteur|expéditeur|remitente|remetente|mittente|afzender|afsender|avsender|\
    avsändare|nadawc|odesílatel|odosielateľ|feladó|lähettäjä|gönderen|gönderici|отправител|відправник|αποστολέα|\
    发件人|發件人|发信人|發信人|发件者|發件者|发送者|發送者|发送方|寄件者|寄件人|寄信人|送信者|送信元|差出人|発信者|발신자|송신자|보낸";

const fn rule(name: &'static str, kind: ReplyKind) -> Rule {
    Rule {
        name,
        kind,
        final_only: false,
        relay_only: false,
        codes: &[],
        status: "",
        only: "",
        never: "",
        words: "",
        unless: &[],
    }
}

const fn gone(name: &'static str) -> Rule {
    Rule { final_only: true, unless: &[dead::SOMETHING_ELSE, dead::ASIDE], ..rule(name, AddressDead) }
}

pub(super) const RULES: &[Rule] = &[
    // Full, fast, or too early: a later try can succeed, whatever class of code came with it.
    Rule {
        words: "relay quota|sending quota|sending limit|message quota|quota for sending|submission quota|daily * limit|\
            hourly * limit|emails per hour|messages per hour|emails per day|messages per day|max defers and failures",
        status: "7.232 7.233",
        ..rule("we have used up what we may send in a period", QuotaUsed)
    },
    Rule {
        status: "1.90 4.5",
        final_only: true,
        ..rule("we have used up what we may send in a period, by a large provider's code", QuotaUsed)
    },
    Rule {
        words: "mailbox full|mailbox is full|mailbox * is full|mailbox for user is full|full mailbox|inbox full|\
            inbox is full|mail box full|mailfolder is full|mailbox is stuffed|mailbox size limit|mailbox exceeded|\
            over quota|over * quota|overquota|out of quota|quota exceeded|quota has been exceeded|quota full|\
            quota violation|quota exhausted|exceed * quota|exceeded * quota|exceeds * quota|exceeding * quota|\
            reached * quota|exceeded storage|exceeded * storage|exceeded its disk space|disk space limit|\
            storage limit|storage is full|storage full|not enough disk space|not enough space|\
            not enough storage space|insufficient quota|space has been used up|too many messages on the server|\
            would exceed maximum allowed storage|out of storage|postfach * voll|postfach voll|speicherplatz|\
            quota überschritten|kontingent überschritten|boite * pleine|boîte * pleine|boite pleine|boîte pleine|\
            quota dépassé|buzón lleno|buzón * lleno|buzon lleno|casilla llena|cuota excedida|casella piena|\
            casella * piena|quota superata|caixa postal cheia|caixa * cheia|cota excedida|mailbox vol|postvak * vol|\
            postbus vol|skrzynka * pełna|skrzynka przepełniona|переполнен|превышена квота|posta kutusu dolu|邮箱已满|信箱已满|\
            郵箱已滿|邮箱空间不足|いっぱい|容量を超え",
        status: "2.2",
        ..rule("the mailbox is full", MailboxFull)
    },
    Rule {
        words: "greylist|graylist|grey list|gray list|postgrey|come back later * first|first attempt",
        ..rule("a first try is put off on principle", Greylisted)
    },
    Rule {
        status: "7.28",
        final_only: true,
        ..rule("a flood from us, and no longer for the moment only", OurReputation)
    },
    Rule {
        words: "receiving mail at a rate|receiving mail too quickly|rate limit|ratelimit|rate that prevents|throttl|\
            too many connections|too many concurrent|too many sessions|too many messages|too many emails|\
            too many mails|too many recipients|too many invalid|too many unknown|too many requests|\
            too many spams from|concurrent connections|connection limit|connection rate|connections * exceeded|\
            message rate|sending rate|frequency limited|sending too fast|too fast|slow down|slower|deferred due to|\
            temporarily deferred|temporarily rejected|unexpected volume|unusual rate|trop de connexions|\
            zu viele verbindungen|demasiadas conexiones",
        status: "3.2 4.5 4.62 5.3 7.28 7.38",
        never: "7.26 7.27",
        ..rule("too much at once", SlowDown)
    },
    // What concerns one recipient's own rules, and is neither our fault nor a dead address.
    Rule {
        words: "blocked by the recipient|blocked by recipient|blocked by user|blocked by the user|recipients block|\
            recipient * blocked you|recipients blacklist|recipients personal|users blacklist|personal block|\
            blocked senders|manually blocked|envelope blocked|rejected by recipient|not accepting mail from you|\
            recipient * not accept mail from|refused by recipient|resolver rst|recipient only accepts|\
            only accepts mail from|senders not allowed to send to|permission to send to * group|not a member|\
            non member|members only|not subscribed to|not pre approved|restricted to|recipient is restricted|\
            cannot send * to yourself",
        status: "7.124 7.129 7.133 7.134 7.135 7.136",
        ..rule("this recipient takes no mail from us, or only from some", Unknown)
    },
    Rule {
        words: "suppression list|marked as inactive|inactive recipient|previously bounced|recipient is suppressed",
        ..rule("the relay's own list of addresses, whose reason we are not told", Unknown)
    },
    // Our set-up: every mail of the stream meets the same. A DNS answer may be missing for a moment only,
    // so words about one count when the "no" is final.
    Rule {
        status: "7.20 7.21 7.22 7.23 7.26 7.27 7.29 7.30 7.32 7.40 7.509 7.515",
        ..rule("SPF, DKIM, DMARC or TLS failed, by the registry's or a large receiver's code", OurAuthentication)
    },
    Rule {
        words: "starttls|tls required|tls is required|requires tls|require tls|encryption required|encryption needed|\
            must use tls|must use encryption|secure connection required",
        status: "7.10 7.11",
        codes: &[523, 538],
        final_only: true,
        relay_only: true,
        ..rule("the relay wants TLS", OurAuthentication)
    },
    Rule {
        words: "dmarc|dkim * fail|dkim * invalid|dkim * not pass|dkim * missing|dkim required|not pass dkim|no dkim|\
            fail dkim|failed dkim|spf * fail|spf * reject|spf * not pass|spf * not allowed|spf * unauthenticated|\
            spf * not authorized|spf * not permitted|spf * invalid|fail spf|failed spf|bad spf|your spf|its spf|\
            not pass spf|no spf|spf record|spf pobox com|sender policy framework|sender id * fail|\
            authentication checks failed|mail is unauthenticated|message is unauthenticated|authentication level|\
            invalid ip for sending|not authorized to send * domain|not permitted to send * domain|\
            mismatches client ip|spf prüfung|échec spf|fallo spf",
        status: "7.24",
        final_only: true,
        ..rule("SPF, DKIM or DMARC failed", OurAuthentication)
    },
    Rule {
        words: "reverse dns|rdns|ptr record|no ptr|missing ptr|ptr * required|reverse lookup|reverse hostname|\
            cannot find your hostname|cannot find your reverse|ip name lookup failed|cannot resolve your address|\
            does not resolve|not resolve * hostname|unresolvable relay|name lookup failed",
        status: "7.25",
        final_only: true,
        ..rule("our address has no name in DNS, or another", OurAuthentication)
    },
    Rule {
        words: "helo * rejected|ehlo * rejected|helo * invalid|ehlo * invalid|invalid helo|invalid ehlo|helo command|\
            helo name|ehlo name|bad helo|name was rejected|need fully qualified hostname|domain of sender|\
            sender domain * not exist|sender domain * not found|senders domain * not|senders address * not exist|\
            sender address rejected domain not found|unroutable sender|unrouteable sender|valid sender domain|\
            sender verify failed|invalid sender domain|unresolvable sender|from domain is invalid|\
            mail from domain * invalid|envelope sender domain * not",
        status: "1.7 1.8",
        final_only: true,
        ..rule("our HELO name or the sender's domain is not valid", OurAuthentication)
    },
    Rule {
        words: "urls listed|url listed|url * blacklist|blacklisted url|uribl|surbl|body contains|message contains|\
            link * blacklist|contains * link|domain in the body|content of * blacklist|virus|malware|phish|attachment",
        ..rule("something in the content is on a list", MessageAtFault)
    },
    Rule {
        words: "spamhaus|spamcop|barracudacentral|barracuda reputation|sorbs|uceprotect|abuseat|cbl|psbl|nixspam|\
            senderscore|dnsbl|rbl|dnswl|blocklist|block list|blacklist|black list|banned sending ip|banned sender|\
            bad outbound sender|blocked see|refused see|blocked using|client host * blocked|your host * blocked|\
            your server * blocked|ip * blocked|ip * banned|ips * blocked|ip * is listed|your domain * is listed|\
            sending ip * listed|domain blocked due|domain * blocked due|mail server * blocked|mail * from your ip|\
            network is on our|open relay|open proxy|zombie|poor reputation|low reputation|bad reputation|\
            reputation * low|reputation * poor|reputation * bad|reputation problems|reputation of|due to * reputation|\
            suspicious due to|dynamic ip|dynamic ips|looks suspiciously like spammer|you are sending spam|sent spam|\
            user complaints|spam complaints|liste noire|sperrliste|schwarze liste|lista negra|lista nera|zwarte lijst|\
            czarna lista|черн * спис|чёрн * спис|黑名单|ブラックリスト",
        status: "7.501 7.502 7.503 7.511 7.606 7.607 7.608 7.609 7.610 7.611 7.612 7.703 7.705 7.708 7.750",
        ..rule("our IP address or domain is on a block list or has a bad name", OurReputation)
    },
    Rule {
        words: "client host rejected|client host * rejected|not allowed to connect|access denied * your ip|\
            your ip * access denied|not accept mail from your|no access from mail server|\
            connections not accepted from|your host is not|your server is not|\
            not authorized to send email directly|go away",
        final_only: true,
        ..rule("our host is turned away", OurReputation)
    },
    Rule {
        words: "relay access denied|relaying denied|relaying not|relay denied|relay not permitted|relaying prohibited|\
            not permitted to relay|not allowed to relay|unable to relay|do not relay|relay prohibited|cannot relay|\
            will not relay|no relay|isnt in my list of allowed rcpthosts",
        status: "7.64",
        relay_only: true,
        ..rule("the relay does not relay for us", Credentials)
    },
    Rule {
        words: "authentication required|authentication is required|requires authentication|auth required|\
            must authenticate|authenticate first|auth first|send auth|smtp authentication|not logged in|\
            same as authorization user|must equal authorized user|not authenticated|unauthenticated senders|\
            log in first|login required|authentication failed|authentication unsuccessful|authentication credentials|\
            credentials invalid|invalid credentials|bad credentials|username or password|user name or bad|\
            bad password|wrong password|invalid username|username and password|incorrect authentication|login failed|\
            logon failure|invalid login|email address is not verified|not a verified sender|verified sender identity|\
            sender signature|not owned by user|sender * not owned|send as this sender|sendas|\
            not authorized to send from|not authorized to perform|not allowed to send from|unauthorized ip|\
            sending suspended|sending paused|your account has|your account is|your account was|sending account|\
            senders account|domain not verified|unverified domain|trust relationship|anmeldung erforderlich|\
            authentifizierung erforderlich|authentification requise|autenticación requerida",
        status: "7.8 7.13 7.14 7.57 7.60 7.139",
        codes: &[530, 534, 535],
        final_only: true,
        relay_only: true,
        ..rule("the relay does not know us, or not this sender", Credentials)
    },
    // "No" to a mailbox that may come back, or to somebody else than the recipient.
    Rule {
        words: "suspended|suspend the service|temporarily disabled|disabled temporar|temporarily unavailable|\
            account that you tried to reach is disabled|account that you tried to reach is inactive|\
            cannot be delivered this account|cannot be delivered this mailbox|disabled or discontinued|\
            unavailable or access denied|unavailable * visit|unavailable * policy|unavailable * explanation|\
            account is locked|mailbox is locked|user is locked|frozen|on hold|invalid inactive|deactivated|quarantine|\
            verification failed|could not verify|unverified address|temporary failure|vorübergehend|temporairement|\
            temporalmente|temporaneamente|tijdelijk|временно",
        ..rule("the mailbox may come back", Unknown)
    },
    Rule {
        words: "sender address|sender rejected|sender unknown|unknown sender|invalid sender|sender * not exist|\
            in reply to mail from|after mail from|return path|return address|your domain|your address|from address|\
            sending from|from domain|sending domain|sender domain|envelope from|absender|expéditeur|remitente|mittente",
        ..rule("about the sender, and not clear enough to pause for", Unknown)
    },
    Rule {
        words: ": user unknown",
        ..rule("a server that names nobody filtered the mail by its user's rules (KDDI)", Unknown)
    },
    // The only rules that silence anybody: final, and in words that can mean nothing else beside the others.
    Rule {
        words: dead::GONE,
        only: "1.1",
        never: "3",
        final_only: true,
        unless: &[dead::SOMETHING_ELSE],
        ..rule("the address does not exist, in so many words and by the registry's code", AddressDead)
    },
    Rule {
        words: dead::GONE,
        codes: &[556],
        status: "7.17 7.18",
        // Subject 3 is the server's own trouble: then the words describe its lookup, not the address.
        never: "3",
        ..gone("the address does not exist, or is closed, in so many words")
    },
    Rule {
        words: dead::GONE_UNLESS_POLICY,
        never: "3 7",
        ..gone("the domain does not exist, or the account is closed, and it is not said out of policy")
    },
    Rule {
        words: "recipient address rejected access denied",
        never: "7",
        ..gone("not in the directory of Exchange Online (5.4.1); with 5.7.1 it is somebody's own list")
    },
    Rule {
        words: "requested action not taken mailbox unavailable",
        never: "2 3 4 7",
        ..gone("the address does not exist, in RFC 5321's stock phrase, and nothing speaks against it")
    },
    Rule {
        words: "spam|ube|uce|unsolicited|bulk|junk|content|policy|policies|header|message size|message too|\
            message length|message is too|message exceeds|size exceeds|size limit|too large|too big|too long|\
            line limit|line length|line too long|syntax|mime|encoding|bare lf|bare cr|rfc 5321|rfc 5322|rfc5321|\
            rfc5322|duplicate|not rfc|malformed message|prohibited|security",
        never: "1.3",
        ..rule("the relay does not like this mail", MessageAtFault)
    },
    Rule {
        words: "try again later|try later|try it later|retry later|please retry|later please|again in * minutes|\
            again in * seconds|server busy|server is busy|too busy|system busy|insufficient system|insufficient disk|\
            insufficient resources|system resources|resources temporarily|service temporarily|temporarily unable|\
            später|plus tard|más tarde|mas tarde|più tardi|mais tarde|позже|稍后|後で|しばらく",
        status: "3.1",
        ..rule("the server cannot at the moment", SlowDown)
    },
    Rule {
        status: "1.1 1.2 1.3 1.6 1.10",
        never: "3 7",
        ..gone("the address does not exist, by the registry's code alone")
    },
    Rule {
        status: "2.3 3.4 5 6",
        codes: &[500, 501, 502, 503, 504, 555],
        ..rule("size, syntax or content, by code alone", MessageAtFault)
    },
];
