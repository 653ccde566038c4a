//! The phrases by which an address counts as dead, and those that say that something else was meant.

/// Words about us, the mail or the moment: with one of them, a phrase or a code that would silence a recipient is
/// about a host, an account or a lookup that is not the recipient's.
pub(super) const SOMETHING_ELSE: &str = "\
    your ip|your host|your server|your client|your helo|your dns|your network|your link|\
    your mail contains|helo|ehlo|spf|dkim|dmarc|client host|connecting host|reverse|ptr|dns lookup|\
    dns error|dns failure|from header|header from|reply to header|message id|in header|in the header|in message|\
    in the message|message body|in body|in the body|billing|invoice|\
    unpaid|payment|overdue|contact sales|password|credentials|smtp account|sending account|\
    maintenance|offline|back end|backend|lookup error|lookup failure|lookup failed|timed out|\
    timeout|internal error|for now|at the moment|at this time|currently|come back|user agent|\
    temporar|outage|connection refused|\
    ldap error|ldap server|ldap connection|ldap lookup|ldap failure|ldap is|ldap was|ldap * unavailable|ldap * failed|\
    ldap * down|ldap * unreachable|ldap * not available|ldap * not responding|could not connect|cannot connect|\
    database error|database connection|database lookup|database failure|database is|database was|\
    database * unavailable|database * failed|database * down|database * unreachable|database * not available|\
    database * locked|\
    not allowed to send|not permitted to send|not authorized to send|not authorised to send|may not send";

/// Words that mean the same as often as they stand in a notice or name a table: beside a phrase of a dead address they
/// count no more when the code says it too.
pub(super) const ASIDE: &str = "ldap|database|until|url|uri|link to|links to|link in|hyperlink";

/// In a "no" to a recipient these mean an account, a host or a domain of the recipient; in a "no" out of policy
/// they may as well mean ours, or one that the mail names.
pub(super) const GONE_UNLESS_POLICY: &str = "\
    no such domain|invalid domain|no such host|host unknown|host not found|domain not found|\
    domain does not exist|domain name not found|domain doesnt exist|nonexistentdomain|nonexistent domain|\
    non existent domain|invalid user|mailbox disabled|mailbox is disabled|mailbox has been disabled|\
    mailbox closed|mailbox is closed|account disabled|account is disabled|account has been disabled|\
    account closed|account is closed|account has been closed|account deleted|account has been deleted|\
    account is deleted|account terminated";

/// These can mean nothing but the recipient.
pub(super) const GONE: &str = "\
    user unknown|unknown user|unknown recipient|recipient unknown|unknown local part|unknown mailbox|\
    mailbox unknown|unknown account|account unknown|address unknown|addressee unknown|unknown addressee|\
    unknown email|unknown e mail|unknown or illegal|unknown virtual user|user is unknown|recipient is unknown|\
    user * is unknown|user not known|address not known|recipient not known|mailbox not known|not a known user|\
    no such user|no such recipient|no such mailbox|no such address|no such account|no such person|no such email|\
    no such local user|no such mail|no mailbox here|no mailbox by that|no mailbox found|no mail box available|\
    no user here|no user by that|no account by|no one at this address|no one by that name|nobody here|\
    no valid recipients bye|user not found|user * not found|recipient not found|recipient * not found|\
    mailbox not found|mailbox * not found|account not found|email address * not found|address not found|\
    address couldnt be found|address could not be found|recipnotfound|recipientnotfound|name is not found|\
    user not exist|recipient not exist|mailbox not exist|address not exist|user * does not exist|\
    user does not exist|recipient does not exist|recipient * does not exist|mailbox does not exist|\
    mailbox * does not exist|account does not exist|account * does not exist|address does not exist|\
    address * does not exist|@ does not exist|@ not found|@ is not found|user doesnt exist|mailbox doesnt exist|\
    account doesnt exist|address doesnt exist|recipient doesnt exist|user doesnt have|user does not have a|\
    doesnt have a * account|does not have a * account|nonexistent user|non existent user|nonexistent mailbox|\
    non existent mailbox|nonexistent recipient|nonexisting|no longer on server|no longer exist|no longer in use|\
    address * no longer valid|address no longer accept|mailbox no longer accept|no longer employed|\
    no longer works|no longer with us|mailbox owner has changed|domain owner has changed|invalid recipient|\
    recipient is invalid|invalid mailbox|invalid destination|not a valid user|not a valid mailbox|\
    not a valid recipient|not a valid address|not a valid email|not a local user|not a local address|\
    not a local mailbox|not local user|not our user|not our customer|not our client|isnt a local|\
    bad destination|not listed in * directory|domain does not accept mail|null mx|nullmx|unrouteable address|\
    mailbox deleted|mailbox has been deleted|mailbox terminated|benutzer unbekannt|benutzer nicht gefunden|\
    benutzer existiert nicht|unbekannter benutzer|empfänger unbekannt|empfänger existiert nicht|\
    unbekannter empfänger|empfänger nicht gefunden|empfängeradresse * existiert nicht|\
    empfängeradresse * unbekannt|adresse existiert nicht|adresse unbekannt|postfach existiert nicht|\
    postfach nicht gefunden|postfach unbekannt|kein solch|utilisateur inconnu|destinataire inconnu|\
    adresse inconnue|adresse inexistante|adresse destinataire invalide|destinataire invalide|boite inexistante|\
    boîte inexistante|compte inexistant|utilisateur inexistant|adresse * nexiste pas|utilisateur * nexiste pas|\
    compte * nexiste pas|boîte * nexiste pas|boite * nexiste pas|destinataire * nexiste pas|usuario desconocido|\
    destinatario desconocido|usuario no existe|usuario no encontrado|buzón no existe|buzon no existe|\
    cuenta no existe|dirección no existe|destinatario no existe|no existe dicha persona|no existe ese usuario|\
    no existe el usuario|utente sconosciuto|destinatario sconosciuto|utente inesistente|indirizzo inesistente|\
    casella inesistente|utente non trovato|indirizzo * non esiste|casella * non esiste|utente * non esiste|\
    usuário desconhecido|usuario desconhecido|destinatário desconhecido|destinatario desconhecido|\
    conta inexistente|usuário inexistente|usuario inexistente|usuário não existe|conta não existe|\
    endereço não existe|caixa postal inexistente|destinatário não existe|usuário não encontrado|\
    gebruiker onbekend|onbekende gebruiker|ontvanger onbekend|onbekende ontvanger|gebruiker bestaat niet|\
    mailbox bestaat niet|adres bestaat niet|okänd användare|okänd mottagare|mottagaren finns inte|\
    adressen finns inte|nie ma takiego|użytkownik nie istnieje|konto nie istnieje|skrzynka nie istnieje|\
    adres nie istnieje|nieznany użytkownik|nieznany odbiorca|neznámý uživatel|uživatel neexistuje|\
    schránka neexistuje|kullanıcı bulunamadı|böyle bir kullanıcı yok|пользователь не найден|\
    пользователь не существует|нет такого пользователя|такого пользователя нет|несуществующий пользователь|\
    неизвестный пользователь|получатель не найден|ящик не существует|ящик не найден|адрес не существует|用户不存在|\
    用戶不存在|收件人不存在|邮箱不存在|郵箱不存在|地址不存在|无此用户|ユーザーが見つかりません|ユーザーは存在しません|ユーザーが存在しません|宛先不明|宛先が存在しません|アドレスは存在しません|\
    アドレスが存在しません|見つかりませんでした";
