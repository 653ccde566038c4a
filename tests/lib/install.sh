# What the tests need besides Rust, and how it comes onto the machine. Sourced by tests/run.

# The system's daemons lie there, and a user's PATH often leaves it out.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

# As root, or through a sudo that asks for no password; fails when there is neither.
as_root() { if ((EUID == 0)); then "$@"; else sudo -n -- "$@"; fi; }

has() { command -v "$1" >/dev/null; }

# The packages (by Debian's names) of which something is missing.
missing_packages() {
    if [[ -z ${ALLCLEAR_TEST_POSTGRES:-} && -z $(postgres_bin) ]]; then echo postgresql; fi
    if ! has pgbouncer; then echo pgbouncer; fi
    if ! has faketime; then echo faketime; fi
    if ! has ip; then echo iproute2; fi
    if [[ -n ${ALLCLEAR_TEST_RELAYS:-} ]]; then return; fi
    if ! has postfix; then echo postfix; fi
    if ! has postgrey; then echo postgrey; fi
    if ! has saslpasswd2; then echo sasl2-bin; fi
    if ! compgen -G '/usr/lib*/sasl2/libplain.so' >/dev/null && ! compgen -G '/usr/lib/*/sasl2/libplain.so' >/dev/null; then
        echo libsasl2-modules
    fi
    if ! has openssl; then echo openssl; fi
}

# Installs with apt, if it can. No service is started now or at the next boot: the tests run their own.
install_packages() {
    local policy=/usr/sbin/policy-rc.d held='' service
    has apt-get && as_root true 2>/dev/null || return 0
    say "installing $*"
    if [[ ! -e $policy ]]; then
        held=$policy
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
    fi
    # Postfix asks how it shall serve this machine: not at all.
    echo 'postfix postfix/main_mailer_type select No configuration' | as_root debconf-set-selections || true
    as_root apt-get update -q >&2 || say 'apt-get update failed; trying with the lists there are'
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
        -o DPkg::Lock::Timeout=300 "$@" >&2 || true
    if [[ -n $held ]]; then as_root rm -f "$held"; fi
    if [[ -d /run/systemd/system ]]; then
        for service in "$@"; do as_root systemctl disable --quiet "$service" 2>/dev/null || true; done
    fi
}

need_packages() {
    local missing
    mapfile -t missing < <(missing_packages)
    if ((${#missing[@]} == 0)); then return; fi
    install_packages "${missing[@]}"
    mapfile -t missing < <(missing_packages)
    if ((${#missing[@]} > 0)); then
        die "missing, by the names of Debian's packages: ${missing[*]}. Install them, or run this as root or with sudo" \
            'where there is apt; see --help for a PostgreSQL server of your own.'
    fi
}

# need_cargo TOOL VERSION: installs a cargo subcommand; building it takes some minutes.
need_cargo() {
    if ! cargo "${1#cargo-}" --version >/dev/null 2>&1; then
        say "installing $1"
        env -u CARGO_TARGET_DIR cargo install --locked --quiet "$1" --version "$2" >&2 ||
            die "$1 is missing. Install it: cargo install --locked $1 --version '$2'"
        PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    fi
}
