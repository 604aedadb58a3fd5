#!/bin/sh
# Unpacks redis-server, valkey-server, etcd and their command-line clients of one Debian
# release into .cache/servers/RELEASE/bin, out of Debian's signed packages. Nothing is
# installed: no root, no service, no change outside .cache.
#
#   scripts/servers.sh [bookworm|trixie|forky] [servers|prometheus]        (default: trixie servers)
#
# With `prometheus` it unpacks Prometheus and promtool, into .cache/prometheus/RELEASE/bin.
# They are apart, because few tests need them.
#
# Safe to run twice at once: the work is done in a folder of its own, which is renamed at the end.
set -eu

release=${1:-trixie}
set=${2:-servers}
servers=$(cd "$(dirname "$0")/.." && pwd)/.cache/$set
final=$servers/$release
ready() { [ -f "$final/ready" ]; }
! ready || exit 0

fail() {
  echo "scripts/servers.sh: $1" >&2
  exit 1
}

command -v apt-get >/dev/null && command -v dpkg >/dev/null || fail "needs a Debian system (apt-get and dpkg)."
keys=/usr/share/keyrings/debian-archive-keyring.gpg
[ -f "$keys" ] || fail "needs a Debian system (Debian's signing keys)."
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
  grep -E '/debian/?$' | head -n 1) || true
[ -n "$mirror" ] || mirror=$(sed -nE 's/^(URIs:|deb( \[[^]]*\])?) *([^ ]*\/debian)\/?( .*)?$/\3/p' \
  /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | head -n 1)
[ -n "$mirror" ] || fail "this system names no Debian mirror in its apt sources."

# One download at a time: whoever waited finds the work done.
mkdir -p "$servers"
if command -v flock >/dev/null; then
  exec 9>"$servers/.$release.lock"
  flock 9
  ! ready || exit 0
  rm -rf "$servers/.$release".??????
fi
root=$(mktemp -d "$servers/.$release.XXXXXX")
trap 'rm -rf "$root"' EXIT
trap 'exit 1' HUP INT TERM
chmod 755 "$root"

case $set:$release in
  servers:bookworm) ssl=libssl3 packages="redis-tools etcd-server etcd-client" ;;
  servers:*) ssl=libssl3t64 packages="redis-tools valkey-tools etcd-server etcd-client" ;;
  prometheus:bookworm) packages=prometheus ;;
  prometheus:*) packages="prometheus promtool" ;;
  *) fail "$set is neither servers nor prometheus." ;;
esac
case $set in
  servers)
    what="redis, valkey and etcd" size=30
    libraries="libc6 libgcc-s1 libstdc++6 libatomic1 $ssl libjemalloc2 liblzf1 libsystemd0
      libcap2 libgcrypt20 libgpg-error0 liblz4-1 liblzma5 libzstd1 zlib1g"
    ;;
  prometheus) what="Prometheus" size=50 libraries="libc6" ;;
esac

mkdir -p "$root/apt/lists/partial" "$root/apt/cache/archives/partial" "$root/debs" "$root/bin"
echo "deb [signed-by=$keys] $mirror $release main" >"$root/apt/sources.list"
apt() {
  apt-get -q -q -o Dir::Etc::sourcelist="$root/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
    -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null -o Dir::State="$root/apt" \
    -o Dir::State::status=/dev/null -o Dir::Cache="$root/apt/cache" -o APT::Sandbox::User= \
    -o APT::Update::Error-Mode=any -o Acquire::Retries=2 -o Acquire::Languages=none \
    -o Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false "$@" 9>&-
}
# A download that breaks is tried three times.
thrice() {
  "$@" || { sleep 1 && "$@"; } || { sleep 3 && "$@"; }
}
download() (
  cd "$root/debs"
  # shellcheck disable=SC2086
  apt download $packages $libraries
)
echo "Fetching $what of Debian $release into .cache/$set (about $size MB, once)" >&2
thrice apt update || fail "Debian's package lists could not be fetched."
thrice download || fail "Debian's packages could not be fetched."
for deb in "$root"/debs/*.deb; do dpkg -x "$deb" "$root"; done
rm -rf "$root/apt" "$root/debs" "$root/usr/share"

# Each program runs with the C library of its own release, whatever the host's is.
loader=$(cd "$root" && find . -name 'ld-linux-*.so.*' ! -type l | head -n 1)
triplet=$(basename "$(dirname "$loader")")
for program in redis-server:redis-check-rdb redis-cli:redis-cli \
  valkey-server:valkey-check-rdb valkey-cli:valkey-cli etcd:etcd etcdctl:etcdctl \
  prometheus:prometheus promtool:promtool; do
  name=${program%%:*} file=usr/bin/${program##*:}
  [ -f "$root/$file" ] || continue
  cat >"$root/bin/$name" <<EOF
#!/bin/sh
r=\${0%/*}/..
exec "\$r/$loader" --argv0 $name --library-path "\$r/lib/$triplet:\$r/usr/lib/$triplet" "\$r/$file" "\$@"
EOF
  chmod +x "$root/bin/$name"
done
touch "$root/ready"
ready || { rm -rf "$final" && mv -T "$root" "$final" 2>/dev/null; } || ready || fail "$final cannot be written."
