# Relays for the tests: a Postfix and an Exim of our own on free loopback ports, with everything they read and write
# in one temporary folder, which ALLCLEAR_TEST_RELAYS names. Whatever they take ends in a Maildir there: nothing can
# leave this machine. Sourced by tests/run.
#
#   ports               "service port", a line each; the services are those of postfix_services and start_exim
#   tls/ca.pem          who vouches for `localhost`, the relays' name
#   postfix/log, exim/log/mainlog
#   maildir/, exim/maildir/   all mail of all recipients; Delivered-To (Exim: Envelope-To) says whose
#   answers/ADDRESS     what the relay answers to RCPT for this address, as in access(5); the tests write these
#   answers/dot/ADDRESS the same after the mail itself (Postfix)
#
# User `relay-user` with password `relay password` may send. `gone-…@` anywhere is unknown to both.

relays=''

stop_relays() {
    local file pid try
    if [[ -z $relays ]]; then return; fi
    as_root postfix -c "$relays/postfix" stop >/dev/null 2>&1 || true
    for file in "$relays/postgrey.pid" "$relays/exim/exim.pid"; do
        if [[ -s $file ]]; then
            pid=$(<"$file")
            # Gone before its folder is: a last line for its log would make it anew.
            for ((try = 0; try < 200; try++)); do
                if ! as_root kill "$pid" 2>/dev/null; then break; fi
                sleep 0.05
            done
        fi
    done
    as_root rm -rf "$relays" || true
}

# new_port SERVICE: a port no other service has, noted down.
new_port() {
    local port
    while port=$(free_port) && grep -q " $port\$" "$relays/ports"; do :; done
    echo "$1 $port" >>"$relays/ports"
    echo "$port"
}

# certificate FILE CA NAME FROM UNTIL: a key and its certificate for a host name, in one file.
certificate() {
    local tls=$relays/tls
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$3" -keyout "$tls/$1.key" \
        -out "$tls/$1.csr" 2>/dev/null
    printf 'subjectAltName=DNS:%s\nextendedKeyUsage=serverAuth\n' "$3" >"$tls/$1.ext"
    openssl ca -batch -notext -config "$tls/ca.cnf" -cert "$tls/$2.pem" -keyfile "$tls/$2.key" -startdate "$4" \
        -enddate "$5" -extfile "$tls/$1.ext" -in "$tls/$1.csr" -out "$tls/$1.crt" 2>"$tls/log" ||
        { cat "$tls/log" >&2; die "openssl made no certificate"; }
    cat "$tls/$1.key" "$tls/$1.crt" >"$tls/$1.pem"
}

make_certificates() {
    local tls=$relays/tls ca
    mkdir "$tls" "$tls/issued"
    touch "$tls/index"
    cat >"$tls/ca.cnf" <<TEXT
[ca]
default_ca = ours
[ours]
database = $tls/index
new_certs_dir = $tls/issued
rand_serial = yes
unique_subject = no
default_md = sha256
policy = any
[any]
commonName = supplied
TEXT
    for ca in ca other-ca; do
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$ca of the tests" \
            -addext 'basicConstraints=critical,CA:TRUE' -addext 'keyUsage=critical,keyCertSign' \
            -keyout "$tls/$ca.key" -out "$tls/$ca.pem" 2>/dev/null
    done
    certificate good ca localhost 20200101000000Z 20491231235959Z
    certificate other-host ca relay.invalid 20200101000000Z 20491231235959Z
    certificate expired ca localhost 20200101000000Z 20200201000000Z
    certificate stranger other-ca localhost 20200101000000Z 20491231235959Z
}

# "service options of smtpd": each on a port of its own, all of one Postfix.
postfix_services() {
    local encrypt='-o smtpd_tls_security_level=encrypt -o smtpd_sasl_auth_enable=yes' tls=$relays/tls
    local open='-o smtpd_relay_restrictions=permit_mynetworks,reject'
    cat <<TEXT
starttls $encrypt
implicit $encrypt -o smtpd_tls_wrappermode=yes
greylisting $encrypt -o smtpd_recipient_restrictions=check_policy_service,inet:127.0.0.1:$1
stranger $encrypt -o smtpd_tls_chain_files=$tls/stranger.pem
other-host $encrypt -o smtpd_tls_chain_files=$tls/other-host.pem
expired $encrypt -o smtpd_tls_chain_files=$tls/expired.pem
plain $open
old $open -o smtpd_discard_ehlo_keywords=pipelining,smtputf8,silent-discard
TEXT
}

# configure_postfix MAIL_USER_ID MAIL_GROUP_ID POSTGREY_PORT
configure_postfix() {
    local etc=$relays/postfix service options port
    mkdir "$etc" "$relays/answers" "$relays/answers/dot" "$relays/queue" "$relays/data"
    chmod 755 "$etc" "$relays/answers" "$relays/answers/dot"
    as_root chown postfix "$relays/data"
    cat >"$etc/main.cf" <<TEXT
compatibility_level = 3.6
queue_directory = $relays/queue
data_directory = $relays/data
maillog_file = $etc/log
maillog_file_prefixes = $relays
myhostname = localhost
enable_long_queue_ids = yes
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
mydestination =
alias_maps =
local_recipient_maps =
# Every domain lives here.
virtual_mailbox_domains = static:here
virtual_mailbox_base = $relays
virtual_mailbox_maps = regexp:$etc/mailboxes
virtual_uid_maps = static:$1
virtual_gid_maps = static:$2
virtual_minimum_uid = 1
default_transport = error:nothing leaves this machine
# Mail arrives as it was sent.
local_header_rewrite_clients =
smtpd_peername_lookup = no
smtpd_client_port_logging = yes
smtpd_client_connection_count_limit = 0
smtpd_error_sleep_time = 0
smtpd_forbid_unauth_pipelining = yes
in_flow_delay = 0
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_recipient_restrictions = check_policy_service { unix:private/answers, timeout=20s }
smtpd_end_of_data_restrictions = check_policy_service { unix:private/answers, timeout=20s }
smtpd_tls_chain_files = $relays/tls/good.pem
smtpd_tls_auth_only = yes
smtpd_tls_loglevel = 1
smtpd_tls_received_header = yes
smtpd_sasl_authenticated_header = yes
cyrus_sasl_config_path = $etc/sasl
TEXT
    echo '!/^gone-/ maildir/' >"$etc/mailboxes"
    # Debian's Postfix looks in this folder and in no other.
    mkdir "$etc/sasl"
    cat >"$etc/sasl/smtpd.conf" <<TEXT
pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: $etc/sasldb
mech_list: PLAIN LOGIN
TEXT
    printf 'relay password' | saslpasswd2 -p -c -f "$etc/sasldb" -u localhost relay-user
    chmod 644 "$etc/sasldb"
    cat >"$etc/answers" <<TEXT
# Postfix's policy protocol: attributes until an empty line, then what to do.
stage='' recipient=''
while IFS='=' read -r name value; do
    case \$name in
        protocol_state) stage=\$value ;;
        recipient) recipient=\$value ;;
        '') file=$relays/answers/\$recipient
            if [[ \$stage == END-OF-MESSAGE ]]; then file=$relays/answers/dot/\$recipient; fi
            answer=DUNNO
            if [[ -n \$recipient && -f \$file ]]; then answer=\$(<"\$file"); fi
            printf 'action=%s\n\n' "\$answer" ;;
    esac
done
TEXT
    cat >"$etc/master.cf" <<TEXT
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
answers unix - n n - 0 spawn user=nobody argv=/bin/bash $etc/answers
TEXT
    postfix_services "$3" | while read -r service options; do
        port=$(new_port "$service")
        echo "127.0.0.1:$port inet n - n - 200 smtpd $options" >>"$etc/master.cf"
    done
    # Postfix distrusts files of others.
    as_root chown -R root "$etc" "$relays/queue"
}

# Mail is written as this user; Postfix writes none as root.
mail_user() { if ((EUID == 0)); then echo nobody; else id -un; fi; }

start_postgrey() {
    local port=$1 user
    user=$(if ((EUID == 0)); then echo postgrey; else id -un; fi)
    mkdir "$relays/postgrey"
    chown "$user" "$relays/postgrey"
    postgrey --inet="127.0.0.1:$port" --delay=1 --dbdir="$relays/postgrey" --user="$user" \
        --group="$(id -gn "$user")" --auto-whitelist-clients=0 --whitelist-clients=/dev/null \
        --whitelist-recipients=/dev/null >"$relays/postgrey.log" 2>&1 &
    echo "$!" >"$relays/postgrey.pid"
}

# A relay that is listening greets; one behind TLS at least takes the connection.
wait_for_port() {
    local try
    for ((try = 0; try < 200; try++)); do
        if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then return; fi
        sleep 0.05
    done
    tail -n 20 "$relays"/postfix/log "$relays/postgrey.log" "$relays"/exim/log/* >&2 || true
    die "$2 does not listen on port $1"
}

start_relays() {
    local user postgrey_port service port
    as_root true 2>/dev/null || die 'Postfix is started by root only: run this as root, or let sudo ask for no password'
    relays=$(mktemp -d "${TMPDIR:-/tmp}/allclear-relays.XXXXXX")
    chmod 755 "$relays"
    user=$(mail_user)
    make_certificates
    : >"$relays/ports"
    postgrey_port=$(new_port postgrey)
    configure_postfix "$(id -u "$user")" "$(id -g "$user")" "$postgrey_port"
    mkdir "$relays/maildir"
    chown "$user" "$relays/maildir"
    start_postgrey "$postgrey_port"
    as_root postfix -c "$relays/postfix" start >"$relays/start.log" 2>&1 ||
        { cat "$relays/start.log" >&2; die 'Postfix does not start'; }
    start_exim "$user"
    while read -r service port; do wait_for_port "$port" "$service"; done <"$relays/ports"
    as_root postfix -c "$relays/postfix" status >/dev/null 2>&1 || die "Postfix ended: see $relays/postfix/log"
    export ALLCLEAR_TEST_RELAYS=$relays
    say "$(postconf -dh mail_version | sed 's/^/Postfix /'), postgrey and Exim in $relays"
}

provide_relays() {
    begin relays
    if [[ -n ${ALLCLEAR_TEST_RELAYS:-} ]]; then say 'using ALLCLEAR_TEST_RELAYS as it is'; else start_relays; fi
    end
}
