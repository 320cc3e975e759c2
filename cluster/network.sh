# The bridge, which all parts need: its address is theirs.

network_up() {
    packages iproute2 iptables procps
    if ! ip link show "$bridge" >/dev/null 2>&1; then
        cat /proc/sys/net/ipv4/ip_forward >"$run/ip_forward"
        ip link add "$bridge" type bridge
    fi
    # Without one of its own it has the lowest of its ports', and each pod that comes or goes may change it: packets of
    # others go to the old one then, for up to half a minute.
    ip link set "$bridge" address 02:62:75:69:6c:00
    ip address replace "$host/16" dev "$bridge"
    ip link set "$bridge" up
    echo 1 >/proc/sys/net/ipv4/ip_forward
    # A Docker engine, ours or another, sets the policy of the chain to DROP.
    rule filter FORWARD -i "$bridge" -j ACCEPT
    rule filter FORWARD -o "$bridge" -j ACCEPT
}

network_down() {
    remove_rules
    if ip link show "$bridge" >/dev/null 2>&1; then
        ip link delete "$bridge"
        [[ ! -e $run/ip_forward ]] || cat "$run/ip_forward" >/proc/sys/net/ipv4/ip_forward
    fi
}

# Those that bear our name, in the order that leaves none.
remove_rules() {
    local table
    command -v iptables >/dev/null || return 0
    for table in filter nat; do
        { iptables -w -t "$table" -S | grep -- '--comment buildit' || true; } |
            sed 's/^-A/-D/' | xargs -r -L 1 iptables -w -t "$table"
    done
}
