# The image, without an engine: its root, with one static program, run as a container would run it: as the first process, by
# a user without rights, on a root that is read-only, with nothing else there; then by the runtimes that are here.

build_rootfs() {
    local musl
    musl=$(rustc -vV | sed -n 's/^host: \([^-]*\).*/\1-unknown-linux-musl/p')
    rootfs=$work/rootfs
    if has rustup && rustup target list --installed 2>/dev/null | grep -qx "$musl"; then
        packaging/container/rootfs "$rootfs" "$musl"
    else
        skip "image: not built with musl: no target $musl (rustup target add); with the C library of this machine"
        packaging/container/rootfs "$rootfs"
    fi
    local static=$rootfs/usr/bin/triptych
    # A program that is static asks for no loader.
    if readelf -lW "$static" | grep -q INTERP; then die 'image: the program is not static'; fi
    [ "$(cd "$rootfs" && find . -type f | sort | xargs)" = './etc/group ./etc/passwd ./usr/bin/triptych' ] ||
        die 'image: there is more in it than a program and a user'
    [ "$(stat -c %s "$static")" -lt $((BYTES_MAX + 1500000)) ] || die 'image: the program is too large'
    ok "image: one static program, $(stat -c %s "$static") bytes"
    echo 'a page' >"$rootfs/srv/www/index.html"
}

# The lines of the file for engines that say something, as they are set there.
image_variables() { sed -n '/^ENV/,/[^\\]$/s/.*\(TRIPTYCH_[A-Z_]*=[^ ]*\).*/\1/p' packaging/container/Containerfile; }

# inside PID TARGET PORT: the first line of what is answered in the network of this process.
inside() {
    nsenter -t "$1" -n -- timeout 5 bash -c 'exec 3<>/dev/tcp/127.0.0.1/$2
        printf "GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" "$1" >&3
        head -1 <&3 | tr -d "\r"' - "$2" "$3"
}
answers() { [ "$(inside "$1" "$2" "$3")" = 'HTTP/1.1 200 OK' ]; }

# What holds of every container. looks_right PID NAME
looks_right() {
    within answers "$1" /readyz 9090 || die "image: $2: not ready: $(cat "$work/$2.err")"
    answers "$1" / 8080 || die "image: $2: serves nothing"
    # As the engine does it: the same program, in there, with the same variables.
    # shellcheck disable=SC2046
    nsenter -t "$1" -a -r -S 65532 -G 65532 -- /usr/bin/env -i 2>/dev/null && die "image: $2: there is a second program"
    in_there "$1" --check-health || die "image: $2: not healthy"
    # Whom nobody waits for is the first process's: no zombie stays.
    nsenter -t "$1" -p -- sh -c 'sleep 0.2 & exit 0'
    within no_children_but_one "$1" || die "image: $2: children aren't waited for"
    [ "$(awk '/^CapEff/ { print $2 }' "/proc/$1/status")" = 0000000000000000 ] || die "image: $2: it has capabilities"
    [ "$(awk '/^Uid/ { print $2 }' "/proc/$1/status")" = 65532 ] || die "image: $2: somebody else serves"
}
in_there() {
    local pid=$1
    shift
    # shellcheck disable=SC2046
    env -i $(image_variables) nsenter -t "$pid" -a -r -S 65532 -G 65532 -- /usr/bin/triptych "$@"
}
no_children_but_one() { [ "$(pgrep -c -P "$1")" = 1 ]; }

in_a_chroot() {
    local tool parent pid root=$work/root
    [ "$(id -u)" = 0 ] || { skip 'image: not run: not root'; return; }
    for tool in unshare nsenter ip chroot setpriv pgrep; do
        has $tool || { skip "image: not run: no $tool"; return; }
    done
    unshare --mount --pid --ipc --uts --net --fork true 2>/dev/null ||
        { skip 'image: not run: no namespaces are allowed'; return; }
    mkdir "$root"
    # shellcheck disable=SC2046
    unshare --mount --pid --ipc --uts --net --fork --kill-child --propagation private bash -euc '
        root=$1 rootfs=$2; shift 2
        mount -t tmpfs root "$root" && cp -a "$rootfs/." "$root" && mkdir "$root/proc"
        mount -t proc proc "$root/proc" && mount -o remount,ro "$root" && ip link set lo up
        exec setpriv --no-new-privs env -i PATH=/usr/sbin:/usr/bin "$@" chroot --userspec=65532:65532 --groups= "$root" /usr/bin/triptych
    ' - "$root" "$rootfs" $(image_variables) >"$work/chroot.out" 2>"$work/chroot.err" </dev/null &
    parent=$!
    first_process() { pid=$(pgrep -P "$parent" -x triptych); }
    within first_process || die "image: it doesn't start: $(cat "$work/chroot.err")"
    looks_right "$pid" chroot
    grep -q '"GET / HTTP/1.1" 200' "$work/chroot.out" || die 'image: no line on standard output'
    kill -TERM "$pid"
    wait "$parent" || die "image: it ends with $?: $(cat "$work/chroot.err")"
    ok "image: alone on a read-only root: ready, healthy, reaps, ends; $(grep -o 'with .*' "$work/chroot.err" | head -1)"
}

# Whether the profile has what serves, what starts it, and not what the program's own sandbox kills for.
check_profile() {
    has jq || { skip 'profile: no jq'; return; }
    local allowed=$work/allowed name list
    jq -r '.syscalls[] | select(.action == "SCMP_ACT_ALLOW") | .names[]' packaging/container/seccomp.json | sort >"$allowed"
    [ -z "$(uniq -d "$allowed")" ] || die "profile: $(uniq -d "$allowed") is there twice"
    # The names in a list of the program's; a list that is empty elsewhere is none.
    list() {
        sed '/= &\[\];$/d' triptych/src/sandbox/syscalls.rs | sed -n "/^const $1:/,/\];\$/p" |
            grep -o 'SYS_[a-z0-9_]*' | sed 's/SYS_//' | sort -u
    }
    for name in $(list SERVE) $(list SERVE_HERE) $(sed -n '/let mut rules = Rules::from/,/^}/p' triptych/src/sandbox/syscalls.rs |
        grep -o 'SYS_[a-z0-9_]*' | sed 's/SYS_//'); do
        [ "$name" = clone3 ] || grep -qx "$name" "$allowed" || die "profile: $name serves, and is forbidden"
    done
    for name in $(list KILL); do
        case $name in
        # By the keeper, and before the sandbox is closed.
        execve | io_uring_setup) ;;
        *) if grep -qx "$name" "$allowed"; then die "profile: $name is never needed, and is allowed"; fi ;;
        esac
    done
    ok "profile: $(wc -l <"$allowed") calls are allowed, with all that serve"
}

# in_a_container RUNTIME PROFILE WHAT_THE_START_LINE_HAS
in_a_container() {
    local runtime=$1 name=triptych-$$-$1 bundle=$work/bundle parent pid
    starts=
    rm -rf "$bundle"
    mkdir "$bundle"
    cp -a "$rootfs" "$bundle/rootfs"
    (cd "$bundle" && "$runtime" spec)
    jq --slurpfile profile "$2" --arg variables "$(image_variables)" '
        .process.terminal = false | .process.args = ["/usr/bin/triptych"] | .process.env = ($variables | split("\n"))
        | .process.user = {uid: 65532, gid: 65532} | .process.cwd = "/" | .process.noNewPrivileges = true
        | .process.capabilities = {} | .root.readonly = true | del(.process.rlimits)
        | .linux.seccomp = ($profile[0] | del(.syscalls[].comment))' "$bundle/config.json" >"$work/config"
    mv "$work/config" "$bundle/config.json"
    "$runtime" run --bundle "$bundle" "$name" >"$work/$runtime.out" 2>"$work/$runtime.err" </dev/null &
    parent=$!
    first_process() { pid=$("$runtime" state "$name" | jq -e 'select(.status == "running").pid'); }
    if ! within first_process; then
        wait "$parent" || true
        skip "image: $runtime starts no containers here: $(tail -1 "$work/$runtime.err")"
        return
    fi
    starts=1
    looks_right "$pid" "$runtime"
    grep -q "$3" "$work/$runtime.err" || die "image: $runtime: not $3: $(cat "$work/$runtime.err")"
    "$runtime" kill "$name" TERM
    wait "$parent" || die "image: $runtime: it ends with $?: $(cat "$work/$runtime.err")"
    ok "image: in $runtime: $(grep -o 'with .*' "$work/$runtime.err" | head -1)"
}

check_runtimes() {
    local runtime starts some= model
    [ "$(id -u)" = 0 ] && has jq || { skip 'image: no runtime is tried: not root, or no jq'; return; }
    # What it serves with outside a container.
    model=$(grep -so 'with .*' "$work/chroot.err" | head -1 || true)
    # As those profiles are that come with engines.
    jq '.syscalls |= map(.names -= ["io_uring_setup", "io_uring_enter", "io_uring_register"])' \
        packaging/container/seccomp.json >"$work/without.json"
    for runtime in crun runc; do
        has $runtime || continue
        some=1
        in_a_container $runtime packaging/container/seccomp.json "$model"
        [ -z "$starts" ] || in_a_container $runtime "$work/without.json" 'with epoll'
    done
    [ -n "$some" ] || skip 'image: no crun, no runc'
}

build_rootfs
check_profile
in_a_chroot
check_runtimes
if has podman || has buildah; then
    skip 'image: not built by an engine: that pulls'
else
    skip 'image: not built by an engine: there is none'
fi
