# shellcheck shell=bash
# Mutation tests. Sourced by tests/lib/deep.sh.
#
# The pure core (`domain`, and of `flow` the gate, the machines and the retries) needs nothing else of the program,
# so it is made a package of its own: a mutant of it is built and tried in seconds instead of minutes. What drives
# it (`flow/sweep.rs`, `store/record.rs`) is tried within the whole, with the stories of tests/flow on SQLite.

core_package() {
    local core=$1
    rm -rf "$core/src" "$core/tests"
    mkdir -p "$core/src/flow/gate"
    cp -r src/domain "$core/src/"
    cp src/flow/{gate,sender,recovery,retry}.rs "$core/src/flow/"
    cp src/flow/gate/*.rs "$core/src/flow/gate/"
    printf 'pub mod %s;\n' gate recovery retry sender >"$core/src/flow/mod.rs"
    printf '#![cfg_attr(test, allow(clippy::unwrap_used))]\npub mod domain;\npub mod flow;\n' >"$core/src/lib.rs"
    # The program's own versions of what the core needs.
    {
        printf '[package]\nname = "allclear"\nversion = "0.1.0"\nedition = "2024"\n\n[workspace]\n\n[dependencies]\n'
        grep -E '^(backoff|idna|jiff|serde|serde_json|thiserror|uuid|rand) = ' Cargo.toml
        printf '\n[dev-dependencies]\n'
        grep -E '^proptest = ' Cargo.toml
    } >"$core/Cargo.toml"
    cp Cargo.lock "$core/"
}

# A list of the mutants that no test noticed ends the run; one that is no fault is named in tests/mutants.toml with
# the reason.
deep_mutants() {
    need_cargo cargo-mutants '^27'
    local core=target/core report=target/mutants
    core_package "$core"
    mkdir -p "$report"
    begin 'mutants of the core'
    (cd "$core" && cargo mutants --config ../../tests/mutants.toml --output ../mutants/core --baseline skip --timeout 60 \
        --colors never --file src/domain/truth.rs --file src/domain/connection.rs --file 'src/flow/*.rs')
    end
    begin 'mutants of what drives it'
    ALLCLEAR_TEST_POSTGRES='' cargo mutants --config tests/mutants.toml --output "$report/drivers" --timeout 300 \
        --colors never --test-tool nextest --file src/flow/sweep.rs --file src/store/record.rs \
        -- --test flow --fail-fast -E 'not test(postgres)'
    end
}
