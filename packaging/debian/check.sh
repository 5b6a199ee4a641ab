# The package: built, looked into, and installed, used, upgraded, removed and purged on a scratch machine with systemd.

build_package() {
    local again
    package=$(packaging/debian/build "$binary" "$work")
    mkdir "$work/again"
    again=$(packaging/debian/build "$binary" "$work/again")
    cmp -s "$package" "$again" || die 'package: the same input gave other bytes'
    dpkg-deb --info "$package" >/dev/null
    dpkg-deb -x "$package" "$work/tree"
    local file
    for file in usr/bin/triptych usr/share/man/man1/triptych.1.gz usr/lib/systemd/system/triptych.service \
        usr/share/bash-completion/completions/triptych etc/default/triptych usr/share/doc/triptych/copyright; do
        [ -s "$work/tree/$file" ] || die "package: $file isn't in it"
    done
    "$work/tree/usr/bin/triptych" --version >/dev/null
    bash -n "$work/tree/usr/share/bash-completion/completions/triptych"
    if has man; then
        man --warnings -l "$work/tree/usr/share/man/man1/triptych.1.gz" >/dev/null 2>"$work/man"
        [ ! -s "$work/man" ] || die "package: the manual page: $(head -1 "$work/man")"
    fi
    ok "package: built twice alike, $(stat -c %s "$package") bytes, $(dpkg-deb -f "$package" Depends)"
    if has lintian; then
        # What only a distribution has: a bug number, a person.
        lintian --allow-root --suppress-tags initial-upload-closes-no-bugs,bogus-mail-host,bogus-mail-host-in-debian-changelog \
            --fail-on error,warning "$package" >"$work/lintian" 2>&1 || die "package: lintian: $(cat "$work/lintian")"
        ok 'package: lintian finds no fault'
    else
        skip 'package: no lintian'
    fi
}

# Every variable of the conffile is one that the program knows.
check_variables() {
    local name help
    help=$("$binary" --help)
    for name in $(grep -o '^#\?TRIPTYCH_[A-Z_]*=' packaging/systemd/triptych.default | tr -d '#='); do
        grep -q "\[env: $name=" <<<"$help" || die "package: /etc/default/triptych has $name, which is no variable"
    done
    ok 'package: the variables of /etc/default/triptych are those of the program'
}

# What the scratch machine answers at port 80: the status line.
fetch() {
    scratch timeout 5 bash -c 'exec 3<>/dev/tcp/127.0.0.1/80
        printf "GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" "$1" >&3
        head -1 <&3 | tr -d "\r"' - "$1" 2>/dev/null
}
serves() { [ "$(fetch "$1")" = 'HTTP/1.1 200 OK' ]; }
state() { scratch systemctl show --value -p "$1" triptych.service; }
journal() { scratch journalctl --no-pager -q -o cat -u triptych.service; }
said() { journal | grep -q "$1"; }

installs() {
    scratch_put "$package" /tmp/triptych.deb
    scratch dpkg --force-unsafe-io -i /tmp/triptych.deb >"$work/dpkg" 2>&1 || die "package: $(cat "$work/dpkg")"
    printf 'one' | scratch tee /var/www/html/index.html >/dev/null
    within serves / || die "package: it doesn't serve: $(cat "$work/dpkg") $(journal)"
    [ "$(state ActiveState)" = active ] || die 'package: the service is not active'
    [ "$(scratch ps -o user= -C triptych | sort -u)" = triptych ] || die 'package: somebody else serves'
    # The units take nothing away that the program has without them.
    local models
    "$binary" --listen 127.0.0.1:0 "$work" 2>"$work/here" &
    local here=$!
    within grep -q ' on http' "$work/here" || die "package: here it doesn't start: $(cat "$work/here")"
    kill "$here"
    wait "$here"
    models=$(grep -o 'with .*' "$work/here" | head -1)
    said "$models" || die "package: here it serves $models, as a service: $(journal)"
    ok "package: installed and serves as user triptych, $models"
}

follows() {
    serves '/?a' || die 'package: no answer'
    within scratch grep -q -F 'GET /?a' /var/log/triptych/access.log || die 'package: no line in the log'
    if has logrotate; then
        scratch logrotate -f /etc/logrotate.d/triptych
    else
        scratch mv /var/log/triptych/access.log /var/log/triptych/access.log.1
        scratch systemctl reload triptych.service
    fi
    logged() { serves /reloaded && scratch grep -q 'GET /reloaded' /var/log/triptych/access.log; }
    printf 'two' | scratch tee /var/www/html/reloaded >/dev/null
    within logged || die 'package: the log is not opened again'
    if scratch grep -q -F 'GET /?a' /var/log/triptych/access.log; then die 'package: the log is not rotated'; fi
    ok 'package: reloads, and logs into the new file'
}

upgrades() {
    local before next answers
    before=$(state MainPID)
    next=$(packaging/debian/build "$binary" "$work" "$(dpkg-deb -f "$package" Version)+next")
    scratch_put "$next" /tmp/next.deb
    # Whoever asks all the time sees nothing of it.
    scratch bash -c 'while [ ! -e /tmp/enough ]; do
            { exec 3<>/dev/tcp/127.0.0.1/80 && printf "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" >&3 &&
                grep -q "200 OK" <&3; } 2>>/tmp/failures || echo failed >>/tmp/failures
            echo >>/tmp/asked; exec 3>&-
        done' &
    local load=$!
    scratch dpkg --force-unsafe-io -i /tmp/next.deb >"$work/dpkg" 2>&1 || die "package: $(cat "$work/dpkg")"
    within said 'triptych: upgraded' || die "package: no upgrade: $(journal)"
    sleep 1
    scratch touch /tmp/enough
    wait "$load"
    answers=$(scratch wc -l </dev/null /tmp/asked | cut -d' ' -f1)
    if scratch test -s /tmp/failures; then die "package: failed during the upgrade: $(scratch sort /tmp/failures | uniq -c)"; fi
    [ "$(state MainPID)" = "$before" ] || die 'package: the upgrade changed the main process'
    [ "$(state NRestarts)$(state ActiveState)" = 0active ] || die 'package: the upgrade restarted the service'
    ok "package: upgraded without a restart; $answers requests meanwhile, none failed"
}

stops_and_wakes() {
    scratch systemctl --quiet stop triptych.service 2>/dev/null
    [ "$(state Result)$(state ActiveState)" = successinactive ] || die "package: the stop: $(journal)"
    # The socket is systemd's: who comes now waits, and the service starts.
    serves / || die "package: the socket starts nothing: $(journal)"
    ok 'package: stops with success, and starts for a client'
}

leaves() {
    scratch dpkg -L triptych >"$work/files"
    scratch dpkg --force-unsafe-io --remove triptych >"$work/dpkg" 2>&1 || die "package: $(cat "$work/dpkg")"
    if serves /; then die 'package: removed, it serves on'; fi
    [ -z "$(scratch ps -o pid= -C triptych || true)" ] || die 'package: removed, it runs on'
    scratch test -e /etc/default/triptych || die 'package: its removal took the settings away'
    scratch dpkg --force-unsafe-io --purge triptych >"$work/dpkg" 2>&1 || die "package: $(cat "$work/dpkg")"
    local file left
    while read -r file; do
        if scratch sh -c '[ -e "$1" ] && ! [ -d "$1" ]' - "$file"; then die "package: $file is left"; fi
    done <"$work/files"
    left=$(scratch find /etc /usr/lib/systemd /var/lib/systemd /var/log /run/systemd/system -name '*triptych*' || true)
    [ -z "$left" ] || die "package: left behind: $left"
    scratch test -e /var/www/html/index.html || die 'package: it took the site away'
    ok 'package: removed and purged; the site is left, and nothing else'
}

check_package() {
    local tool missing
    for tool in dpkg-deb objdump gzip xz; do
        has $tool || { skip "package: no $tool"; return; }
    done
    build_package
    check_variables
    . packaging/scratch.sh
    missing=$(scratch_missing)
    [ -z "$missing" ] || { skip "package: not installed: $missing"; return; }
    ending+=(scratch_stop)
    scratch_start || { skip 'package: not installed: no systemd comes up in namespaces here'; return; }
    installs
    follows
    upgrades
    stops_and_wakes
    leaves
    scratch_stop
}
check_package
