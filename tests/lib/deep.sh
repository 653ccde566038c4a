# shellcheck shell=bash
# The long proofs of `tests/run --deep NAME`. Sourced by tests/run.
. tests/lib/fuzz.sh
. tests/lib/mutants.sh

# Tests with the amounts of a deep run, one at a time, as long as they take.
deep_tests() {
    provide_postgres
    begin "$1"
    ALLCLEAR_TEST_DEEP=1 cargo nextest run --locked --profile deep --test "$1" "${@:2}"
    end
}

deep() {
    # Large amounts are worth some optimizing; debug assertions stay, and the failpoints with them.
    export CARGO_PROFILE_DEV_OPT_LEVEL=1
    case $1 in
        model) deep_tests model ;;
        race | wire | kill | faults | zombies) deep_tests proof "$1::" ;;
        flapping | properties) deep_tests random "$1::" ;;
        fuzz) deep_fuzz ;;
        mutants) deep_mutants ;;
        *) deep_usage; die "there is no proof called \`$1\`" ;;
    esac
}
