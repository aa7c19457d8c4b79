package main

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/torg-network/torg/door"
	"github.com/torg-network/torg/host"
)

// listen opens a TCP listener on addr, or on the first free port of the next
// hundred when addr is taken. Port 0 takes any.
func listen(cfg config, name string) (net.Listener, error) {
	addr := cfg.Get(name)
	ip, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, cfg.Bad(name, errors.New("write it host:port"))
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, cfg.Bad(name, errors.New("the port is a number from 0 to 65535"))
	}
	for p := port; p <= 65535 && p < port+100; p++ {
		l, err := net.Listen("tcp", net.JoinHostPort(ip, strconv.FormatUint(p, 10)))
		if err == nil {
			return l, nil
		}
		if !host.PortTaken(err) {
			return nil, cfg.Bad(name, err)
		}
	}
	return nil, cfg.Bad(name, errors.New("this port and the next hundred are busy"))
}

// reachable is an address that leads to a listener from this machine: one on all
// interfaces is on loopback too.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}

// hosts are the names that lead to the listeners of settings, beside addresses:
// those of the setting hosts, and those that the settings are written with.
func hosts(cfg config, listeners ...string) ([]string, error) {
	names := cfg.list("hosts")
	if err := (door.Door{Hosts: names}).Check(); err != nil {
		return nil, cfg.Bad("hosts", err)
	}
	for _, l := range listeners {
		host, _, err := net.SplitHostPort(cfg.Get(l))
		if _, ip := netip.ParseAddr(host); err == nil && host != "" && ip != nil {
			names = append(names, strings.ToLower(strings.TrimSuffix(host, ".")))
		}
	}
	return names, nil
}

// freeAddrs finds addresses near the settings' that something else will listen
// on, each a different one.
func freeAddrs(cfg config, names ...string) (addrs []string, err error) {
	for _, name := range names {
		l, err := listen(cfg, name)
		if err != nil {
			return nil, err
		}
		defer l.Close() // not before the others have theirs
		addrs = append(addrs, l.Addr().String())
	}
	return addrs, nil
}

// again opens what listens where freeAddrs says. Another process may have taken
// the port since: then it is asked once more.
func again(open func() error) error {
	for try := 1; ; try++ {
		err := open()
		if !host.PortTaken(err) || try == 5 {
			return err
		}
	}
}
