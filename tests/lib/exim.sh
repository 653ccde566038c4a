# Exim, the second relay. Its Debian package cannot be installed beside Postfix's, so it is unpacked, and kept, in the
# target folder. Sourced by tests/run; see relays.sh for what it offers.

exim_home=${CARGO_TARGET_DIR:-$PWD/target}/relays/exim

# The package, and those of its libraries which a machine without a desktop may not have; libunbound is called 8 or 9.
exim_packages=(exim4-daemon-light libidn12 libgnutls-dane0 libunbound9 libunbound8 libnss-wrapper)

exim() {
    local libraries
    libraries=$(dirname "$(find "$exim_home" -name 'libnss_wrapper.so')")
    # Debian's Exim insists on its own user, who need not exist here.
    LD_LIBRARY_PATH=$libraries LD_PRELOAD=$libraries/libnss_wrapper.so NSS_WRAPPER_PASSWD=$relays/exim/passwd \
        NSS_WRAPPER_GROUP=$relays/exim/group "$exim_home/usr/sbin/exim4" "$@"
}

download_exim() {
    local package
    for package in "${exim_packages[@]}"; do
        (cd "$1" && apt-get download -q "$package" >>log 2>&1) || true
    done
    compgen -G "$1/exim4-daemon-light_*.deb" >/dev/null
}

need_exim() {
    local folder package
    if [[ -n ${ALLCLEAR_TEST_RELAYS:-} || -x $exim_home/usr/sbin/exim4 ]]; then return; fi
    if ! has apt-get || ! has dpkg; then die "Exim is missing: it comes from Debian's packages ${exim_packages[*]}"; fi
    say 'unpacking Exim'
    folder=$(mktemp -d)
    if ! download_exim "$folder" && ! { as_root apt-get update -q >&2 && download_exim "$folder"; }; then
        cat "$folder/log" >&2
        die 'Exim cannot be downloaded with apt-get, which must reach a mirror of Debian'
    fi
    for package in "$folder"/*.deb; do dpkg -x "$package" "$folder/exim"; done
    # As unpacked by root it would be a program by which anybody becomes root.
    chmod u-s "$folder/exim/usr/sbin/exim4"
    mkdir -p "$(dirname "$exim_home")"
    rm -rf "$exim_home"
    mv "$folder/exim" "$exim_home"
    rm -rf "$folder"
}

# start_exim MAIL_USER: started by root it becomes that user.
start_exim() {
    local home=$relays/exim start implicit
    mkdir "$home"
    start=$(new_port exim)
    implicit=$(new_port exim-implicit)
    getent passwd root "$1" | awk -F: -v OFS=: 'NR == 2 { $1 = "Debian-exim" } { print }' >"$home/passwd"
    printf 'root:x:0:\nDebian-exim:x:%s:\n' "$(id -g "$1")" >"$home/group"
    cat >"$home/config" <<TEXT
exim_path = $exim_home/usr/sbin/exim4
primary_hostname = localhost
spool_directory = $home/spool
log_file_path = $home/log/%slog
pid_file_path = $home/exim.pid
keep_environment = LD_LIBRARY_PATH : LD_PRELOAD : NSS_WRAPPER_PASSWD : NSS_WRAPPER_GROUP
local_interfaces = 127.0.0.1
daemon_smtp_ports = $start : $implicit
tls_on_connect_ports = $implicit
tls_advertise_hosts = *
tls_certificate = $relays/tls/good.pem
auth_advertise_hosts = \${if eq {\$tls_in_cipher}{} {}{*}}
smtputf8_advertise_hosts = *
smtp_accept_max = 100
log_selector = +smtp_connection +incoming_port +tls_cipher +smtp_mailauth
host_lookup =
rfc1413_hosts =
acl_smtp_rcpt = rcpt
acl_smtp_data = accept
deliver_drop_privilege = true

begin acl

rcpt:
  deny message = 5.7.1 log in first
    !authenticated = *
  deny message = 5.1.1 no such user
    local_parts = ^gone-
  defer message = 4.3.2 come back later
    condition = \${if exists {$relays/answers/\$local_part@\$domain}}
  accept

begin routers

here:
  driver = accept
  transport = maildir

begin transports

maildir:
  driver = appendfile
  directory = $home/maildir
  create_directory
  maildir_format
  return_path_add
  envelope_to_add

begin authenticators

plain:
  driver = plaintext
  public_name = PLAIN
  server_condition = \${if and {{eq {\$auth2}{relay-user}} {eq {\$auth3}{relay password}}}}
  server_set_id = \$auth2
TEXT
    chmod 644 "$home/config"
    chown "$1" "$home"
    exim -C "$home/config" -bd >"$home/start.log" 2>&1 || { cat "$home/start.log" >&2; die 'Exim does not start'; }
}
