# Installs the foreign tools of the gate, each at one version, and says where they are. To be sourced.
#
# They are kept outside of the checkout, so that a second run and a second clone find them:
# $ATOTI_BRIDGE_TOOLS, by default below the user's cache folder. Nothing else on the machine is changed, save that
# rustup adds the components that it is asked for.
# shellcheck shell=bash

CARGO_AUDITABLE_VERSION=0.7.7
CARGO_CYCLONEDX_VERSION=0.5.9
CARGO_DENY_VERSION=0.20.2
CARGO_FUZZ_VERSION=0.13.2
BUF_VERSION=1.75.0
GRPCURL_VERSION=v1.9.4
HELM_VERSION=v4.3.1
KUBECTL_VALIDATE_VERSION=v0.0.4
KUBERNETES_VERSION=v1.37.2
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

# Reads what programs with counters have written. It is the compiler's own: no other version reads it for sure.
need_llvm_profdata() {
  LLVM_PROFDATA="$(rustc --print sysroot)/lib/rustlib/$(rustc --print host-tuple)/bin/llvm-profdata"
  if [ ! -x "$LLVM_PROFDATA" ]; then
    require rustup "it installs llvm-tools"
    rustup component add llvm-tools
  fi
}

# A tool of cargo's, from its source. Without optimisation, which takes minutes: each works for seconds.
need_cargo_tool() {
  local name="$1" version="$2" root="$TOOLS/$1-$2"
  CARGO_TOOL="$root/bin/$name"
  [ -x "$CARGO_TOOL" ] || cargo install --debug --locked --root "$root" "$name@$version"
}

need_cargo_deny() {
  need_cargo_tool cargo-deny "$CARGO_DENY_VERSION"
  CARGO_DENY="$CARGO_TOOL"
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

# A program of a Debian package, installed where it is missing and we may. Some packages start a service when they are
# installed, which would take a port for ever: they ask policy-rc.d before, and it says no meanwhile.
need_package() {
  local program="$1" package="$2" PATH="$PATH:/usr/sbin"
  command -v "$program" >/dev/null && return
  require apt-get "install $package"
  [ "$(id -u)" = 0 ] || { printf 'error: %s is needed: install %s, or run this as root once\n' "$program" "$package" >&2; exit 1; }
  (
    if [ ! -e /usr/sbin/policy-rc.d ]; then
      trap 'rm -f /usr/sbin/policy-rc.d' EXIT
      printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
      chmod +x /usr/sbin/policy-rc.d
    fi
    export DEBIAN_FRONTEND=noninteractive
    install=(apt-get --option DPkg::Lock::Timeout=600 --quiet=2 --yes --no-install-recommends install "$package")
    # A fresh machine has no lists of packages, or old ones.
    "${install[@]}" >/dev/null 2>&1 || { apt-get --quiet=2 update && "${install[@]}" >/dev/null; }
  )
  require "$program" "Debian's package $package did not bring it"
}

# Prometheus and promtool, as Debian has them.
need_prometheus() {
  local missing
  missing="$(command -v promtool || true)"
  need_package promtool prometheus
  # Nor shall it start with the machine, if it came just now.
  if [ -z "$missing" ] && command -v systemctl >/dev/null; then systemctl --quiet disable prometheus; fi
}

# Where the files of a Go module are: not to be built, but to be read.
go_module() {
  require go "install Go 1.26 or later"
  go mod download -json "$1" | sed -n 's/^\t"Dir": "\(.*\)",\{0,1\}$/\1/p'
}

need_helm() {
  HELM="$TOOLS/helm-$HELM_VERSION/helm"
  if [ ! -x "$HELM" ]; then
    require go "install Go 1.26 or later"
    GOBIN="${HELM%/*}" go install "helm.sh/helm/v4/cmd/helm@$HELM_VERSION"
  fi
}

# The validator of Kubernetes' own authors. It has the schemas of releases up to 1.30 in it.
need_kubectl_validate() {
  KUBECTL_VALIDATE="$TOOLS/kubectl-validate-$KUBECTL_VALIDATE_VERSION/kubectl-validate"
  if [ ! -x "$KUBECTL_VALIDATE" ]; then
    require go "install Go 1.26 or later"
    GOBIN="${KUBECTL_VALIDATE%/*}" go install "sigs.k8s.io/kubectl-validate@$KUBECTL_VALIDATE_VERSION"
  fi
}

# The schemas of a current Kubernetes, in the folders that kubectl-validate wants.
need_kubernetes_schemas() {
  local from file name to
  KUBERNETES_SCHEMAS="$TOOLS/kubernetes-schemas-$KUBERNETES_VERSION"
  if [ ! -e "$KUBERNETES_SCHEMAS/complete" ]; then
    from="$(go_module "k8s.io/kubernetes@$KUBERNETES_VERSION")/api/openapi-spec/v3"
    for file in "$from"/api__*_openapi.json "$from"/apis__*__*_openapi.json; do
      name="${file##*/}"
      name="${name%_openapi.json}"
      to="$KUBERNETES_SCHEMAS/${name//__//}.json"
      mkdir -p "${to%/*}"
      cp --no-preserve=mode "$file" "$to"
    done
    touch "$KUBERNETES_SCHEMAS/complete"
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

# The rig of the benchmarks, or what RIG names; `need_rig build` has it compiled in seconds, to run slowly. To be built
# before the bridge that is measured: along with a benchmark, cargo builds the bridge as tests want it, and puts it into
# its place.
need_rig() {
  [ -z "${RIG:-}" ] || return 0
  require cargo "install Rust by rustup; rust-version in Cargo.toml says which"
  local cargo=(cargo bench --no-run)
  [ "${1:-}" != build ] || cargo=(cargo build)
  RIG="$("${cargo[@]}" --locked --bench rig --message-format=json |
    sed -n 's/.*"executable":"\([^"]*\/rig-[^"]*\)".*/\1/p')"
  export RIG
}

need_cargo_fuzz() {
  need_cargo_tool cargo-fuzz "$CARGO_FUZZ_VERSION"
  CARGO_FUZZ="$CARGO_TOOL"
}

# Both are called by cargo, which looks for them in the PATH.
need_cargo_auditable() {
  need_cargo_tool cargo-auditable "$CARGO_AUDITABLE_VERSION"
  CARGO_AUDITABLE="$CARGO_TOOL"
}

need_cargo_cyclonedx() {
  need_cargo_tool cargo-cyclonedx "$CARGO_CYCLONEDX_VERSION"
  CARGO_CYCLONEDX="$CARGO_TOOL"
}

# h2spec, with what go.mod of tests/frames says it is built from.
need_h2spec() {
  H2SPEC="$TOOLS/h2spec-$(cat tests/frames/go.mod tests/frames/go.sum | cksum | cut -d' ' -f1)/h2spec"
  if [ ! -x "$H2SPEC" ]; then
    require go "install Go 1.26 or later"
    (cd tests/frames && go build -mod=readonly -o "$H2SPEC" github.com/summerwind/h2spec/cmd/h2spec)
  fi
}
