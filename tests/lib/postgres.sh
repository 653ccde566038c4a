# A PostgreSQL server for the run, in a temporary folder, as a user without rights. Sourced by tests/run.

folder='' server=''

# A folder with initdb, postgres and pg_ctl, the newest of Debian's; prints nothing when there is none.
postgres_bin() {
    local candidate found=''
    {
        dirname "$(readlink -f "$(command -v initdb || true)" 2>/dev/null || true)"
        printf '%s\n' /usr/lib/postgresql/*/bin | sort -Vr
        pg_config --bindir 2>/dev/null || true
    } | while read -r candidate; do
        if [[ -z $found && -x $candidate/initdb && -x $candidate/postgres && -x $candidate/pg_ctl ]]; then
            found=$candidate
            printf '%s\n' "$found"
        fi
    done
}

stop_postgres() {
    if [[ -n $server ]]; then as_server "$server/pg_ctl" -D "$folder/data" -m immediate -w stop >/dev/null 2>&1 || true; fi
    if [[ -n $folder ]]; then rm -rf "$folder"; fi
}

# PostgreSQL refuses to run as root; then an unprivileged user owns the cluster.
server_user() { if id -u postgres >/dev/null 2>&1; then echo postgres; else echo nobody; fi; }

as_server() (
    cd "$folder"
    if ((EUID != 0)); then
        "$@"
    elif command -v setpriv >/dev/null; then
        user=$(server_user)
        setpriv --reuid="$(id -u "$user")" --regid="$(id -g "$user")" --clear-groups -- "$@"
    else
        runuser -u "$(server_user)" -- "$@"
    fi
)

start_postgres() {
    local bin password port attempt
    bin=$(postgres_bin)
    folder=$(mktemp -d "${TMPDIR:-/tmp}/allclear-postgres.XXXXXX")
    if ((EUID == 0)); then chown "$(server_user)" "$folder"; fi
    password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    (umask 077 && printf '%s\n' "$password" >"$folder/password")
    if ((EUID == 0)); then chown "$(server_user)" "$folder/password"; fi
    as_server "$bin/initdb" -D "$folder/data" -U allclear --pwfile="$folder/password" --auth=scram-sha-256 \
        --encoding=UTF8 --no-locale >"$folder/initdb.log" 2>&1 || { cat "$folder/initdb.log" >&2; die 'initdb failed'; }
    # Another program may take the port first.
    for attempt in 1 2 3 4 5; do
        port=$(free_port)
        # fsync, full_page_writes and synchronous_commit stay on: the product refuses a server without them.
        if as_server "$bin/pg_ctl" -D "$folder/data" -l "$folder/data/server.log" -w -t 60 start -o "-p $port \
            -c listen_addresses=127.0.0.1 -c unix_socket_directories=$folder -c max_connections=200 \
            -c fsync=on -c full_page_writes=on -c synchronous_commit=on" >/dev/null 2>&1; then
            server=$bin
            export ALLCLEAR_TEST_POSTGRES="postgres://allclear:$password@127.0.0.1:$port/postgres"
            say "PostgreSQL $("$bin/postgres" --version | cut -d' ' -f3) on port $port"
            return
        fi
        say "PostgreSQL did not start on port $port (try $attempt)"
    done
    tail -n 20 "$folder/data/server.log" >&2
    die 'PostgreSQL does not start'
}

provide_postgres() {
    begin postgres
    if [[ -n ${ALLCLEAR_TEST_POSTGRES:-} ]]; then say 'using ALLCLEAR_TEST_POSTGRES as it is'; else start_postgres; fi
    end
}
