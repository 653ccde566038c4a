# shellcheck shell=bash
# Every parser of bytes from outside, fed with anything for a while. Sourced by tests/lib/deep.sh.

# What is found is kept in fuzz/corpus and goes on from there; an input that crashes is left in fuzz/artifacts. Only
# sanitizers need a nightly toolchain: the program has no unsafe code of its own for them to watch.
deep_fuzz() {
    local target seconds=${ALLCLEAR_FUZZ_SECONDS:-600}
    begin fuzz
    need_cargo cargo-fuzz '^0.13'
    for target in history replies headers notices; do
        mkdir -p "fuzz/corpus/$target"
        cargo fuzz run --target-dir target/fuzz --sanitizer none "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
            -max_total_time="$seconds" -max_len=20000 -print_final_stats=1
    done
    end
}
