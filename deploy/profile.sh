# What deploy/train has seen the bridge do, for whoever builds it to be given away. To be sourced.
#
# There is a profile for each way to build it: functions have other names in each, and a name that does not fit is a
# function without a profile, of which nobody is told. `static` is for deploy/build-static, `release-host` and
# `release-TARGET` are for deploy/release, which builds by cargo auditable.
# shellcheck shell=bash

profile_folder() { printf '%s/deploy/profile/%s\n' "$PWD" "$1"; }

# What else the names hang on.
profile_is_for() {
  rustc --version --verbose
  cat Cargo.toml Cargo.lock | cksum
}

profile_fits() {
  local folder
  folder="$(profile_folder "$1")"
  [ -e "$folder/bridge.profdata" ] && profile_is_for | cmp --quiet - "$folder/is-for"
}

# Has cargo compile for what the bridge does most, where deploy/train has seen that. Without it the bridge does the
# same, and takes longer.
use_profile() {
  local folder named
  folder="$(profile_folder "$1")"
  if [ ! -e "$folder/bridge.profdata" ]; then
    printf 'note: built without a profile, and a sixth slower for it; deploy/train makes one\n' >&2
  elif ! profile_fits "$1"; then
    printf 'error: %s is for another compiler or other dependencies: run deploy/train again\n' "$folder" >&2
    return 1
  else
    # By a name of its own: cargo looks at flags, and takes what another profile at the same path has made of the
    # dependencies for what this one would. The two do not link.
    named="$(cksum <"$folder/bridge.profdata" | tr ' ' -).profdata"
    ln -sf bridge.profdata "$folder/$named"
    add_rustflag "-Cprofile-use=$folder/$named"
    # What is called most is not to be put into each of its callers as willingly as the compiler does it (3000): a call
    # passes through all of it once, and a core keeps no more than 32 KiB of instructions at hand.
    add_rustflag -Cllvm-args=-hot-callsite-threshold=600
    # What is called most is to lie side by side, too. The compiler sorts functions by how often the profile has seen
    # them, and Rust's linker, left alone, mixes them again. GNU ld, which links the static binary, keeps them sorted
    # anyway, and warns that it does not know the option.
    add_rustflag -Clink-arg=-Wl,-z,keep-text-section-prefix
  fi
}

# Cargo's own separator: a path may have blanks.
add_rustflag() {
  local separator=$'\x1f' flags="${RUSTFLAGS:-}"
  flags="${CARGO_ENCODED_RUSTFLAGS:-${flags// /$separator}}"
  export CARGO_ENCODED_RUSTFLAGS="${flags:+$flags$separator}$1"
}
