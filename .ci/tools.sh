#!/bin/sh
# Installs what the tests need and what is missing; says what it does, and starts no service.
#   restic, sqlite3   the distribution's own, as system packages
#   mkfs.ext4, mkfs.xfs, xfs_io
#                     from its e2fsprogs and xfsprogs: disks whose power the tests can cut
#   fusermount3       from its fuse3: for `restic mount`
#   postgres          its PostgreSQL server: the tests run private ones, no cluster is made
#   a current restic  from Debian's newer suites, unpacked below target/tools: the system's stays
# Without root it prints the line to type and goes on; the tests then skip loudly. In CI it fails.
set -eu
cd "$(dirname "$0")/.."
tools=$PWD/target/tools

missing() {
    echo "tools: $1" >&2
    [ -z "${CI:-}" ] || exit 1
}

# Whether a program is there; not everybody's PATH names the folders of mkfs.
has() {
    (PATH=$PATH:/usr/sbin:/sbin && command -v "$1" >/dev/null)
}

wanted=
for tool in restic sqlite3; do
    has "$tool" || wanted="$wanted $tool"
done
has mkfs.ext4 || wanted="$wanted e2fsprogs"
if ! has mkfs.xfs || ! has xfs_io; then
    wanted="$wanted xfsprogs"
fi
has fusermount3 || wanted="$wanted fuse3"
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || wanted="$wanted postgresql"
if [ -n "$wanted" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "tools: installing$wanted (system packages)"
        # A package may bring a service: none is started.
        policy=/usr/sbin/policy-rc.d
        if [ ! -e "$policy" ]; then
            trap 'rm -f "$policy"' EXIT
            printf '#!/bin/sh\nexit 101\n' >"$policy"
            chmod 755 "$policy"
        fi
        apt-get update -qq
        # Debian's package would make a cluster of its own and start it.
        case $wanted in
        *postgresql*)
            common=/etc/postgresql-common
            if [ ! -e "$common/createcluster.conf" ]; then
                mkdir -p "$common"
                echo "create_main_cluster = false" >"$common/createcluster.conf"
            fi
            ;;
        esac
        # shellcheck disable=SC2086 # one word a package
        DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $wanted
    else
        missing "missing, and only root can install them: apt-get install -y --no-install-recommends$wanted"
    fi
fi

[ ! -x "$tools/restic/usr/bin/restic" ] || exit 0
if ! command -v apt-get >/dev/null; then
    missing "no apt-get here: the tests go without a current restic"
    exit 0
fi
echo "tools: unpacking a current restic below target/tools"
apt=$tools/apt
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
# The mirror that this machine uses already, with the newer suites.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m 1 '/debian/*$' || true)
if [ -z "$mirror" ]; then
    missing "apt names no Debian mirror: the tests go without a current restic"
    exit 0
fi
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
for suite in trixie sid; do
    echo "deb [signed-by=$keyring] $mirror $suite main"
done >"$apt/sources.list"
newer() {
    apt-get -q -o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts=/nonexistent \
        -o Dir::State::Lists="$apt/lists" -o Dir::Cache="$apt/cache" -o APT::Sandbox::User=root "$@"
}
if newer update && (cd "$apt" && newer download restic) && dpkg -x "$apt"/restic_*.deb "$tools/restic"; then
    "$tools/restic/usr/bin/restic" version
    rm -r "$apt"
else
    missing "a current restic could not be had: the tests go without it"
fi
