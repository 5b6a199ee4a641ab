# The units by themselves. Whether they work is shown with the package: debian/check.sh.

# 10 is 1.0, "OK" is below 45.
readonly EXPOSURE_MAX=20

verify_units() {
    has systemd-analyze || { skip 'units: no systemd-analyze'; return; }
    # As installed, with a program and a manual page to be found; else it finds fault with this machine.
    local root=$work/units said
    mkdir -p "$root"
    cp packaging/systemd/triptych.{service,socket} "$root"
    sed -i "s|^ExecStart=.*|ExecStart=$binary|; /^Documentation=/d" "$root"/*
    said=$(systemd-analyze verify "$root"/triptych.service "$root"/triptych.socket 2>&1) || die "units: $said"
    # It warns without failing.
    [ -z "$(grep 'triptych\.' <<<"$said" || true)" ] || die "units: $said"
    ok 'units: systemd-analyze finds no fault'
    if systemd-analyze security --help 2>&1 | grep -q -- --offline; then
        said=$(systemd-analyze security --offline=yes --threshold=$EXPOSURE_MAX "$root"/triptych.service) ||
            die "units: $(tail -1 <<<"$said")"
        ok "units: $(tail -1 <<<"$said" | sed 's/^[^A-Z]*//; s/ [^ ]*$//')"
    else
        skip 'units: this systemd-analyze has no offline security check'
    fi
}
verify_units

# The time that a stop takes, in the flags' defaults and in the unit.
stop_times() {
    local grace stop
    grace=$("$binary" --help | sed -n '/--grace/,/--[^g]/p' | grep -o 'default: [0-9]*s' | tr -dc 0-9)
    stop=$(sed -n 's/^TimeoutStopSec=\([0-9]*\)s$/\1/p' packaging/systemd/triptych.service)
    [ "$stop" -gt "$grace" ] || die "units: TimeoutStopSec= is $stop s, --grace $grace s"
    ok "units: systemd waits for $stop s, the drain takes at most $grace s"
}
stop_times
