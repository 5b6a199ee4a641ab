# A machine to try packages and units on: this one's files under an overlay, with processes, a network, and a systemd of
# its own. Nothing of it reaches the machine, and it ends with `scratch_stop`. To be sourced.

scratch_missing() {
    [ "$(id -u)" = 0 ] || { echo 'not root'; return; }
    local tool
    for tool in unshare nsenter pivot_root ip dpkg deb-systemd-helper systemd-sysusers; do
        command -v "$tool" >/dev/null || { echo "no $tool"; return; }
    done
    [ -x /lib/systemd/systemd ] || { echo 'no systemd'; return; }
    grep -qw overlay /proc/filesystems || { echo 'no overlayfs'; return; }
    findmnt -t cgroup2 >/dev/null || { echo 'no cgroup2'; return; }
    unshare --mount --pid --ipc --uts --net --cgroup --fork true 2>/dev/null || echo 'no namespaces are allowed'
}

# Returns 1 where it doesn't come up.
scratch_start() {
    scratch_at=$(mktemp -d)
    scratch_group=$(findmnt -nro TARGET -t cgroup2 | head -1)/triptych-scratch-$$
    mkdir "$scratch_group" || { rm -rf "$scratch_at"; return 1; }
    setsid bash -c '
        set -euo pipefail
        echo $$ >"$2/cgroup.procs"
        exec unshare --mount --pid --ipc --uts --net --cgroup --fork --kill-child --propagation private \
            bash -euo pipefail "$3" "$1"
    ' - "$scratch_at" "$scratch_group" "${BASH_SOURCE%/*}/scratch-init" >"$scratch_at/console" 2>&1 </dev/null &
    scratch_parent=$!
    for _ in $(seq 100); do
        scratch_pid=$(pgrep -P "$scratch_parent" | head -1) || scratch_pid=
        if [ -n "$scratch_pid" ] && scratch systemctl --quiet is-active basic.target 2>/dev/null; then
            return 0
        fi
        kill -0 "$scratch_parent" 2>/dev/null || break
        sleep 0.1
    done
    sed 's/^/    /' "$scratch_at/console"
    scratch_stop
    return 1
}

# Runs a command there.
scratch() { nsenter -t "$scratch_pid" -a -r -w -- env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 "$@"; }

# scratch_put FILE PATH
scratch_put() { scratch sh -c 'cat >"$1"' - "$2" <"$1"; }

scratch_stop() {
    [ -n "${scratch_parent:-}" ] || return 0
    # With its first process all others end.
    if [ -n "${scratch_pid:-}" ]; then kill -KILL "$scratch_pid" 2>/dev/null || true; fi
    kill -KILL "$scratch_parent" 2>/dev/null || true
    wait "$scratch_parent" 2>/dev/null || true
    scratch_parent=
    for _ in $(seq 50); do
        find "$scratch_group" -depth -type d -exec rmdir {} + 2>/dev/null || true
        [ -d "$scratch_group" ] || break
        sleep 0.1
    done
    rm -rf "$scratch_at"
}
