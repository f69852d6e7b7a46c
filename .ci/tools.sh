# Installs the foreign tools of the gate, each at one version, and says where they are. To be sourced.
#
# They are kept outside of the checkout, so that a second run and a second clone find them:
# $ATOTI_BRIDGE_TOOLS, by default below the user's cache folder. Nothing else on the machine is changed, save that
# rustup adds the components that it is asked for.
# shellcheck shell=bash

CARGO_DENY_VERSION=0.20.2
BUF_VERSION=1.75.0
GRPCURL_VERSION=v1.9.4
MAVEN_VERSION=3.9.16
MAVEN_SHA512=831a8591fe20c8243b1dbe7d71e3244f31d1665b0804b2e825e38cbbe5ce0cafb8338851f90780735568773e0a6cd07bbec107cda0b896b008b861075358b6f6

TOOLS="${ATOTI_BRIDGE_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/atoti-grpc-bridge/tools}"
mkdir -p "$TOOLS"

# Ends the run unless a program is there: a check that cannot be made is a check that failed.
require() {
  command -v "$1" >/dev/null || { printf 'error: %s is needed: %s\n' "$1" "$2" >&2; exit 1; }
}

need_rust_components() {
  if ! cargo fmt --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1; then
    require rustup "it installs rustfmt and clippy"
    rustup component add rustfmt clippy
  fi
}

need_cargo_deny() {
  CARGO_DENY="$TOOLS/cargo-deny-$CARGO_DENY_VERSION/bin/cargo-deny"
  [ -x "$CARGO_DENY" ] ||
    cargo install --locked --root "$TOOLS/cargo-deny-$CARGO_DENY_VERSION" "cargo-deny@$CARGO_DENY_VERSION"
}

need_buf() {
  BUF="$TOOLS/buf-$BUF_VERSION/node_modules/.bin/buf"
  if [ ! -x "$BUF" ]; then
    require npm "install Node.js 20 or later"
    npm install --silent --no-save --prefix "$TOOLS/buf-$BUF_VERSION" "@bufbuild/buf@$BUF_VERSION"
  fi
}

need_grpcurl() {
  GRPCURL="$TOOLS/grpcurl-$GRPCURL_VERSION/grpcurl"
  if [ ! -x "$GRPCURL" ]; then
    require go "install Go 1.24 or later"
    GOBIN="${GRPCURL%/*}" go install "github.com/fullstorydev/grpcurl/cmd/grpcurl@$GRPCURL_VERSION"
  fi
}

# Python with the packages of a requirements file.
need_python() {
  local requirements="$1" venv
  venv="$TOOLS/python-$(cksum <"$requirements" | cut -d' ' -f1)"
  PYTHON="$venv/bin/python"
  if [ ! -e "$venv/complete" ]; then
    require python3 "install Python 3.11 or later, with its venv module"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$PYTHON" -m pip install --quiet --requirement "$requirements"
    touch "$venv/complete"
  fi
}

# Maven: distributions have it too old for today's plugins.
need_maven() {
  local name="apache-maven-$MAVEN_VERSION" unpacked
  MVN="$TOOLS/$name/bin/mvn"
  if [ ! -x "$MVN" ]; then
    unpacked="$(mktemp -d)"
    curl --silent --show-error --fail --location --output "$unpacked/maven.tar.gz" \
      "https://repo.maven.apache.org/maven2/org/apache/maven/apache-maven/$MAVEN_VERSION/$name-bin.tar.gz"
    printf '%s  %s\n' "$MAVEN_SHA512" "$unpacked/maven.tar.gz" | sha512sum --check --quiet
    tar --extract --gzip --file "$unpacked/maven.tar.gz" --directory "$unpacked"
    mv "$unpacked/$name" "$TOOLS"
    rm -r "$unpacked"
  fi
}

# The peer of the conformance suite that has to be compiled, with its modules as its go.sum has them.
need_vanguard() {
  local source=tests/conformance/vanguard folder
  folder="$TOOLS/vanguard-$(cat "$source"/main.go "$source"/go.mod "$source"/go.sum | cksum | cut -d' ' -f1)"
  VANGUARD="$folder/vanguard"
  if [ ! -x "$VANGUARD" ]; then
    require go "install Go 1.26 or later"
    go build -C "$source" -mod=readonly -trimpath -o "$folder/" .
  fi
}
